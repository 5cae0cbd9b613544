"""What a search says while it is at work: a line a trial, and its progress for `darkroom status`."""

from __future__ import annotations

from lib.batch import executor
from lib.evaluation import checks
from lib.runs import Run
from lib.tuning import trials
from lib.tuning.plan import Plan
from lib.tuning.search import Watch
from lib.tuning.trials import Trial


def room(at_once: int = 0) -> int:
    """Returns how many trials to compute at once: as wished, else what the machine, or this run's
    share of it, has room for.
    """
    return at_once or executor.default_workers()


def watch(run: Run, plan: Plan, *, expected: int) -> Watch:
    """Returns what prints a line for each trial that has ended, and notes in the run's progress how
    far the search is.

    It raises DarkroomError when two trials differ in a value and have made the same model: nobody
    reads that value.
    """
    goal, direction = next(iter(plan.goals.items()))

    def tell(all_trials: list[Trial], trial: Trial) -> None:
        made = [
            (each.values, each.metrics["made"]) for each in all_trials if "made" in each.metrics
        ]
        checks.require(
            checks.trials(made)
        )  # at once, not after a night of trials that differ in nothing
        ended = sum(each.state != "open" for each in all_trials)
        best = trials.ranked(all_trials, goal, direction)
        run.progress(
            epoch=ended,
            epochs=max(expected, ended),
            metric=goal,
            value=best[0].scores[goal] if best else None,
        )
        values = ", ".join(f"{name} {trials.told(value)}" for name, value in trial.values.items())
        line = f"{_line(trial, goal)}{_best(best, trial, goal)}: {values}"
        print(f"{ended:>3} of {expected}: trial {trial.number}, {line}", flush=True)

    return tell


def anew(run: Run) -> Watch:
    """Returns what prints a line for each training of `retrain.run`, and notes in the run's
    progress how many have ended.
    """

    def tell(all_trials: list[Trial], trial: Trial) -> None:
        run.progress(note=f"{sum(each.state != 'open' for each in all_trials)} trained anew")
        score = (
            f"validation accuracy {trial.scores['accuracy']:.4f}, {trial.seconds:.0f} s"
            if trial.done
            else _fate(trial)
        )
        print(f"{trial.values['candidate']}, seed {trial.values['seed']}: {score}", flush=True)

    return tell


def _line(trial: Trial, goal: str) -> str:
    if not trial.done:
        return _fate(trial)
    return f"{goal} {trial.scores[goal]:.4f} after {trial.epochs} epochs, {trial.seconds:.0f} s"


def _fate(trial: Trial) -> str:
    return f"{trial.state} ({(trial.failure or {}).get('message', 'hopeless')})"


def _best(best: list[Trial], trial: Trial, goal: str) -> str:
    if not best:
        return ""
    return ", the best so far" if best[0] is trial else f" (best: {best[0].scores[goal]:.4f})"
