"""Output of a search: progress lines, tables, warnings, the winner as an arm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib import files, parameter_table
from lib.evaluation import checks, outcomes
from lib.runs import Run
from lib.tuning import config, retraining, trials
from lib.tuning.retraining import Verdict
from lib.tuning.search import OnTrialEnd, Plan, SearchResult
from lib.tuning.trials import Trial


def print_trials(run: Run, plan: Plan, *, expected: int) -> OnTrialEnd:
    """Returns a callback that prints one line a trial and updates the run's progress.

    The callback raises DarkroomError if two trials with different values have made the same
    model, because then a hyperparameter has no effect.
    """

    def on_trial_end(all_trials: list[Trial], trial: Trial) -> None:
        if trial.state == "copied":  # proposed again, and not computed
            return
        made = [
            (other.values, other.metrics["made"]) for other in all_trials if "made" in other.metrics
        ]
        outcomes.require(checks.trials(made))
        num_ended = sum(other.state not in ("open", "copied") for other in all_trials)
        best = trials.ranked(all_trials, plan.goal, plan.direction)
        run.progress(
            epoch=num_ended,
            epochs=max(expected, num_ended),
            metric=plan.goal,
            value=best[0].scores[plan.goal] if best else None,
        )
        values = [f"{name} {trials.format_value(value)}" for name, value in trial.values.items()]
        line = f"{_outcome(trial, plan.goal)}{_comparison(best, trial, plan.goal)}"
        print(
            f"{num_ended:>3} of {expected}: trial {trial.number}, {line}: {', '.join(values)}",
            flush=True,
        )

    return on_trial_end


def print_retraining(run: Run) -> OnTrialEnd:
    """Returns a callback that prints one line a retraining and updates the run's progress."""

    def on_trial_end(all_trials: list[Trial], trial: Trial) -> None:
        num_ended = sum(other.state != "open" for other in all_trials)
        run.progress(note=f"{num_ended} retrained")
        outcome = _failure(trial)
        if trial.has_scores:
            [(metric, score)] = trial.scores.items()
            title = retraining.METRICS[metric]
            outcome = f"validation {title} {score:.4f}, {trial.seconds:.0f} s"
        values = trial.values
        print(f"{values['candidate']}, seed {values['seed']}: {outcome}", flush=True)

    return on_trial_end


def write_tables(result: SearchResult, folder: Path) -> Path:
    """Writes `trials.csv`, one row a trial and epoch, and KerasTuner's files of a Hyperband."""
    path = folder / "trials.csv"
    files.write_csv(path, trials.epoch_table(result.trials))
    if hasattr(result.method, "export"):
        (folder / "keras_tuner").mkdir(exist_ok=True)
        result.method.export(folder / "keras_tuner")
    return path


def warnings(result: SearchResult) -> list[str]:
    """Returns the limits of the search: a best value at an end of its range, failures, the end."""
    lines = []
    best = result.best.values
    for name, end in result.plan.space.at_edge(best).items():
        if end == "lowest" and best[name] == 0:  # no dropout, no decay: nothing is below
            continue
        way = "lower" if end == "lowest" else "higher"
        lines.append(
            f"The best {name}, {best[name]!r}, is at the {end} end of its range: try {way} values."
        )
    failed = [trial for trial in result.trials if trial.state == "failed"]
    if failed:
        kinds = sorted({trial.failure["kind"] for trial in failed if trial.failure})
        lines.append(
            f"{len(failed)} of {len(result.trials)} trials failed ({', '.join(kinds)}); see "
            "trials.csv."
        )
    if not result.complete:
        lines.append(
            "The budget ended the search early; with a larger one the same command continues it."
        )
    return lines


def write_winner(verdict: Verdict, base: Mapping[str, Any], folder: Path, *, tuned_on: str) -> Path:
    """Writes `winner.toml`, an arm to paste below the training stage of a study.

    The arm names the split `tuned_on`, so that a training whose test images the search has seen is
    refused.
    """
    defaults = parameter_table.find(config.TRAINING).defaults()
    values = config.trial_parameters(base, verdict.winner.values)
    arm = {
        key: value
        for key, value in values.items()
        if key in defaults and value != defaults[key] and key not in config.FIXED
    }
    arm |= verdict.winner.values | {"tuned_on": tuned_on}
    lines = [f"# {line}" for line in verdict.text.splitlines()]
    lines += ["[stage.arms.tuned]", *(f"{key} = {json.dumps(arm[key])}" for key in arm)]
    path = folder / "winner.toml"
    files.write_text(path, "\n".join(lines) + "\n")
    return path


def summary(result: SearchResult, verdict: Verdict) -> dict[str, Any]:
    """Returns the content of `result.json`, with search, retrained and test score apart."""
    name = verdict.winner.name
    numbers = {
        "search_score": result.best.scores[result.plan.goal],
        f"retrained_val_{verdict.metric}": verdict.val[name].value,
        f"test_{verdict.metric}": verdict.test[name].value,
        f"untuned_test_{verdict.metric}": verdict.test[retraining.UNTUNED].value,
        "trials": len(result.trials),
    }
    states = [trial.state for trial in result.trials]
    return {
        "metrics": numbers,
        "winner": verdict.winner.values,
        "winner_is_significant": verdict.is_significant,
        "verdict": verdict.text,
        "method": result.plan.method,
        "goals": dict(result.plan.goals),
        "complete": result.complete,
        "search_seconds": result.seconds,
        "space": result.plan.space.spec(),
        "warnings": warnings(result),
        "states": {state: states.count(state) for state in trials.STATES},
    }


def _outcome(trial: Trial, goal: str) -> str:
    if not trial.has_scores:
        return _failure(trial)
    return f"{goal} {trial.scores[goal]:.4f} after {trial.epochs} epochs, {trial.seconds:.0f} s"


def _failure(trial: Trial) -> str:
    return f"{trial.state} ({(trial.failure or {}).get('message', 'not promising')})"


def _comparison(best: list[Trial], trial: Trial, goal: str) -> str:
    if not best:
        return ""
    is_best = best[0] is trial
    return ", the best so far" if is_best else f" (best: {best[0].scores[goal]:.4f})"
