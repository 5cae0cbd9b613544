"""The table of search methods: Optuna's samplers and pruners, KerasTuner's Hyperband; and checks.

An Optuna study lives in memory and is rebuilt from the event log. Optuna's storages do not keep a
sampler's random state: a study resumed from one repeats its first draws (Optuna 5.0).
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lib import processes
from lib.errors import DarkroomError, check_choice
from lib.tuning.search_method import WORST, Ended, Grid, Halving, Plan, Refined, SearchMethod
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna

PRUNERS = ("none", "median", "hyperband")

_MAX_COLLISIONS = 10_000  # repeated draws before the space counts as exhausted; KerasTuner's is 20
_MAX_PROPOSALS = 5  # times `num_trials`, copies of earlier trials included


def check(plan: Plan) -> None:
    """Raises DarkroomError for whatever `make` would refuse, without loading a library."""
    name, goals = plan.method, plan.goals
    check_choice("method", name, METHODS)
    if any(goal not in ("max", "min") for goal in goals.values()) or not goals:
        raise DarkroomError(f"`goals` must map numbers to max or min. Received: {dict(goals)!r}.")
    if len(goals) > 1 and name not in ("tpe", "genetic", "random"):
        raise DarkroomError(
            f"{name} optimises one goal. Received: {', '.join(goals)}. "
            "Use genetic, tpe or random for several."
        )
    if plan.epochs < 1:
        raise DarkroomError(f"`epochs` must be at least 1. Received: {plan.epochs}.")
    known = METHODS[name].options
    for option, value in plan.options.items():
        check_choice("option", option, known, where=name)
        least = known[option][1]
        if option != "pruner" and (type(value) is not int or value < least):
            raise DarkroomError(
                f"`{option}` of {name} must be a whole number of at least {least}. "
                f"Received: {value!r}."
            )
    METHODS[name].check(plan)


def make(plan: Plan) -> SearchMethod:
    """Returns the plan's method in its initial state.

    Raises DarkroomError for an unknown method or option, or a space that it cannot search.
    """
    check(plan)
    return METHODS[plan.method](plan)


class OptunaMethod(SearchMethod):
    """One of Optuna's samplers: `tpe`, `cmaes` or `random`; `genetic` (NSGA-II) is below.

    It proposes `num_trials` trials; proposals that equal an earlier trial are free. The pruner is
    `none`, `median` (worse than half of the trials at the same epoch) or `hyperband`.

    Without a pruner, trial n is proposed from the scores of the trials up to n - (2 `slots` - 1),
    whichever others have ended, so that a search is the same however long its trials take.
    """

    options: ClassVar = {"pruner": ("none", 0)}

    def __init__(self, plan: Plan) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        options = self.options_of(plan)
        directions = {"max": "maximize", "min": "minimize"}
        with _without_warnings():
            self._study = optuna.create_study(
                study_name="darkroom",  # the Hyperband pruner assigns brackets by it
                sampler=_sampler(plan, options.get("population", 0)),
                pruner=_pruner(options["pruner"], plan.epochs),
                directions=[directions[goal] for goal in plan.goals.values()],
            )
        self._plan, self._prunes = plan, options["pruner"] != "none"
        self._trials: list[optuna.Trial] = []
        self._open: set[int] = set()
        self._ended: dict[int, Ended] = {}  # not told to Optuna yet
        self._num_computed = 0

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for no trials, a pruner without epochs, or no numbers for cmaes."""
        if plan.num_trials < 1:
            raise DarkroomError(
                f"`num_trials` must be at least 1 for {plan.method}. Received: {plan.num_trials}."
            )
        pruner = cls.options_of(plan)["pruner"]
        check_choice("pruner", pruner, PRUNERS)
        if pruner != "none" and (len(plan.goals) > 1 or plan.epochs < 2):
            raise DarkroomError(
                f"The pruner {pruner!r} needs one goal and at least two epochs. Use pruner = "
                "'none'."
            )
        numeric = [
            item.name
            for item in plan.space.hyperparameters
            if not item.when and (item.kind != "choice" or item.is_ordered)
        ]
        if plan.method == "cmaes" and len(numeric) < 2:
            raise DarkroomError(
                "cmaes needs at least two numeric hyperparameters without conditions. "
                f"Received: {', '.join(numeric) or 'none'}. Use tpe or genetic."
            )

    def ask(self) -> Trial | None:
        """Returns the sampler's next trial."""
        num_trials = self._plan.num_trials
        enough = self._num_computed + len(self._open) >= num_trials
        if enough or len(self._trials) >= _MAX_PROPOSALS * num_trials:
            return None
        usable = len(self._trials) + 2 - 2 * self.slots  # trials before this one
        if self._prunes or not self.slots:
            usable = len(self._trials)
        elif min(self._open, default=usable) < usable:
            return None
        for number in sorted(number for number in self._ended if number < usable):
            self._tell_study(self._ended.pop(number))
        with _without_warnings():
            trial = self._study.ask()
            values: dict[str, Any] = {}
            for item in self._plan.space.hyperparameters:
                if item.is_active(values):
                    values[item.name] = _suggest(trial, item)
        self._open.add(len(self._trials))
        self._trials.append(trial)
        return Trial(len(self._trials) - 1, values, self._plan.epochs)

    def report(self, number: int, epoch: int, scores: Sequence[float]) -> bool:
        """Reports the score to Optuna; returns whether its pruner stops the trial."""
        if not self._prunes:
            return False
        self._trials[number].report(float(scores[0]), epoch)
        return self._trials[number].should_prune()

    def tell(self, ended: Ended) -> None:
        """Records the scores, which Optuna is told before a proposal."""
        self._open.discard(ended.number)
        self._num_computed += ended.computed
        self._ended[ended.number] = ended
        if self._prunes:
            self._tell_study(self._ended.pop(ended.number))

    def _tell_study(self, ended: Ended) -> None:
        """Tells Optuna the scores; without scores the trial counts as pruned, or as failed."""
        from optuna.trial import TrialState

        trial = self._trials[ended.number]
        with _without_warnings():
            if ended.scores is not None:
                self._study.tell(trial, [float(score) for score in ended.scores])
                return
            reported = self._study.get_trials(deepcopy=False)[ended.number].intermediate_values
            self._study.tell(trial, state=TrialState.PRUNED if reported else TrialState.FAIL)


class Genetic(OptunaMethod):
    """Optuna's NSGA-II; a `population` of 0 is a fifth of the trials."""

    options: ClassVar = {"population": (0, 2), "pruner": ("none", 0)}


def _sampler(plan: Plan, population: int) -> Any:
    from optuna import samplers

    seed = plan.seed
    if plan.method == "tpe":
        return samplers.TPESampler(seed=seed)
    if plan.method == "random":
        return samplers.RandomSampler(seed=seed)
    if plan.method == "genetic":
        population = population or min(50, max(6, plan.num_trials // 5))
        return samplers.NSGAIISampler(seed=seed, population_size=population)
    independent = samplers.RandomSampler(seed=seed)
    return samplers.CmaEsSampler(
        seed=seed, warn_independent_sampling=False, independent_sampler=independent
    )


def _pruner(name: str, epochs: int) -> Any:
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 5))
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return pruners.NopPruner()


def _suggest(trial: Any, item: Hyperparameter) -> Any:
    name, low, high = item.name, item.low, item.high
    if item.kind == "int":
        step = int(item.step or 1)
        return trial.suggest_int(name, int(low), int(high), step=step, log=item.log)
    if item.kind == "float":
        return trial.suggest_float(name, float(low), float(high), step=item.step, log=item.log)
    if item.is_ordered:  # by index, so that the sampler knows which choices are neighbours
        return item.choices[trial.suggest_int(name, 0, len(item.choices) - 1)]
    tokens = [
        value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for value in item.choices
    ]
    return item.choices[tokens.index(trial.suggest_categorical(name, tokens))]


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Optuna warns of experimental options and of ranges that their step does not divide;
    KerasTuner calls what Python has deprecated.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Hyperband(SearchMethod):
    """Hyperband with up to `epochs` epochs a trial; `iterations` repeats it with new trials.

    Differences from a plain `keras_tuner.Hyperband`: nothing is written while it searches (a kill
    tears its files), a seed of 0 is a seed, a failed trial counts as the worst instead of stalling
    its bracket, and a promoted trial names its parent, so that training continues with its
    optimizer's state. `export` writes KerasTuner's files when the search has ended.
    """

    options: ClassVar = {"factor": (3, 2), "iterations": (1, 1)}

    def __init__(self, plan: Plan) -> None:
        self._goal, self._direction = plan.goal, plan.direction
        self._space = plan.space
        with _without_warnings():
            self._oracle = _oracle(plan, **self.options_of(plan))
        self._sizes = {(row["bracket"], row["round"]): row["trials"] for row in self.rounds(plan)}
        self._failed: set[int] = set()

    @classmethod
    def check(cls, plan: Plan) -> None:
        """Raises DarkroomError for a space with fewer combinations than the first rounds start."""
        first = sum(row["trials"] for row in cls.rounds(plan) if row["round"] == 0)
        if plan.space.size() < first:
            raise DarkroomError(
                f"The space has {plan.space.size():,.0f} combinations, and Hyperband with "
                f"{plan.epochs} epochs, factor {cls.options_of(plan)['factor']} and "
                f"{cls.options_of(plan)['iterations']} iterations starts {first} different trials. "
                "Use fewer epochs, a wider space, or 'grid'."
            )

    @classmethod
    def rounds(cls, plan: Plan) -> list[dict[str, Any]]:
        """Returns the rounds of every bracket, the bracket with most halvings first.

        Source: Li et al., Hyperband, JMLR 18 (2018), algorithm 1, with KerasTuner's rounding.
        """
        factor, iterations = (cls.options_of(plan)[name] for name in ("factor", "iterations"))
        num_brackets = 0
        while plan.epochs / factor**num_brackets >= 1:
            num_brackets += 1
        width = math.ceil(1 + math.log(plan.epochs, factor))
        table = []
        for bracket in reversed(range(num_brackets)):
            start = 0
            for number in range(bracket + 1):
                trials = math.ceil(width / (bracket + 1) * factor ** (bracket - number))
                end = math.ceil(plan.epochs / factor ** (bracket - number))
                row = {"bracket": bracket, "round": number, "trials": trials}
                table.append({**row, "from epoch": start, "to epoch": end})
                start = end
        return table * iterations

    def ask(self) -> Trial | None:
        """Returns the next trial of a bracket; None until its previous round has ended."""
        number = len(self._oracle.trials)
        with _without_warnings():
            trial = self._oracle.create_trial(f"trial{number}")
        if trial.status != "RUNNING":
            return None
        drawn = trial.hyperparameters.values
        values = {
            name: _value(self._space[name], drawn[name])
            for name in self._space.names
            if name in drawn
        }
        parent = int(drawn["tuner/trial_id"]) if "tuner/trial_id" in drawn else None
        # KerasTuner's own note names the bracket that was begun last, which may be another one.
        bracket, place = self._locate(trial.trial_id)
        about = {"bracket": bracket["bracket_num"], "round": place}
        return Trial(number, values, drawn["tuner/epochs"], parent, about)

    def tell(self, ended: Ended) -> None:
        """Gives the oracle the history and the score."""
        trial = self._oracle.get_trial(_id(ended.number))
        if ended.scores is None:
            self._failed.add(ended.number)
        history = [] if ended.scores is None else [row for row in ended.rows if self._goal in row]
        score = WORST[self._direction] if ended.scores is None else float(ended.scores[0])
        self._oracle.known_scores[trial.trial_id] = score
        with _without_warnings():
            for row in history:
                numbers = {name: value for name, value in row.items() if name != "epoch"}
                self._oracle.update_trial(trial.trial_id, numbers, step=int(row["epoch"]) - 1)
            if not history:
                self._oracle.update_trial(trial.trial_id, {self._goal: score}, step=0)
            trial.status = "COMPLETED"
            self._oracle.end_trial(trial)

    def may_promote(self, number: int) -> bool:
        """Returns whether the next round of the trial's bracket is not full."""
        if (located := self._locate(_id(number))) is None:
            return False
        bracket, place = located
        rounds = bracket["rounds"][place + 1 : place + 2]
        return any(len(row) < self._sizes[bracket["bracket_num"], place + 1] for row in rounds)

    def export(self, folder: Path) -> None:
        """Writes KerasTuner's files, from which an equal `keras_tuner.Hyperband` continues."""
        with _without_warnings():
            for trial_id, trial in self._oracle.trials.items():
                if int(trial_id) in self._failed:
                    trial.status, trial.score, trial.metrics = "FAILED", None, type(trial.metrics)()
                (folder / f"trial_{trial_id}").mkdir(parents=True, exist_ok=True)
                trial.save(str(folder / f"trial_{trial_id}" / "trial.json"))
            state = json.dumps(self._oracle.get_state())
            (folder / "oracle.json").write_text(state, encoding="utf-8")
            (folder / "tuner0.json").write_text(json.dumps({}), encoding="utf-8")

    def _locate(self, trial_id: str) -> tuple[dict[str, Any], int] | None:
        """The bracket of a trial, and its round; None once the bracket is complete."""
        for bracket in self._oracle.get_state()["brackets"]:
            for place, members in enumerate(bracket["rounds"]):
                if any(member["id"] == trial_id for member in members):
                    return bracket, place
        return None


def _oracle(plan: Plan, factor: int, iterations: int) -> Any:
    with processes.without_native_messages():
        import keras_tuner

    class Oracle(keras_tuner.oracles.HyperbandOracle):
        """KerasTuner's Hyperband, which takes the scores it is given and writes no files."""

        known_scores: dict[str, float]

        def score_trial(self, trial: Any) -> None:
            """Sets the known score."""
            trial.score = self.known_scores[trial.trial_id]
            trial.best_step = trial.metrics.get_best_step(self.objective.name) or 0

        def save(self) -> None:
            """Writes nothing."""

        def _save_trial(self, trial: Any) -> None:
            """Writes nothing; KerasTuner has no public switch for it."""

    oracle = Oracle(
        objective=keras_tuner.Objective(plan.goal, plan.direction),
        max_epochs=plan.epochs,
        factor=factor,
        hyperband_iterations=iterations,
        seed=plan.seed + 1,  # KerasTuner takes 0 for "draw one"
        hyperparameters=keras_tuner_space(plan.space),
        tune_new_entries=False,
        allow_new_entries=False,
    )
    oracle.known_scores = {}
    oracle.verbose = 0
    oracle._max_collisions = _MAX_COLLISIONS  # not an argument of KerasTuner's
    return oracle


def keras_tuner_space(space: Space) -> Any:
    """Returns the space as `keras_tuner.HyperParameters`; choices of lists become JSON text."""
    import keras_tuner

    result = keras_tuner.HyperParameters()
    for item in space.hyperparameters:
        with contextlib.ExitStack() as conditions:
            for parent, allowed in item.when.items():
                tokens = [_token(space[parent], value) for value in allowed]
                conditions.enter_context(result.conditional_scope(parent, tokens))
            _add(result, item)
    return result


def _add(result: Any, item: Hyperparameter) -> None:
    sampling = "log" if item.log else "linear"
    if item.kind == "choice":
        result.Choice(item.name, [_token(item, value) for value in item.choices])
    elif item.kind == "int":
        step = None if item.log else int(item.step or 1)
        result.Int(item.name, int(item.low), int(item.high), step=step, sampling=sampling)
    else:
        low, high = float(item.low), float(item.high)
        result.Float(item.name, low, high, step=item.step, sampling=sampling)


def _token(item: Hyperparameter, value: Any) -> Any:
    """A choice as KerasTuner takes it: itself if all are of one plain type, else as JSON."""
    one_type = len({type(choice) for choice in item.choices}) == 1
    return value if one_type and isinstance(value, str | int | float) else json.dumps(value)


def _value(item: Hyperparameter, token: Any) -> Any:
    if item.kind != "choice":
        return int(token) if item.kind == "int" else float(token)
    return next(value for value in item.choices if _token(item, value) == token)


def _id(number: int) -> str:
    return f"{number:04d}"  # as KerasTuner's oracle names its trials


METHODS: dict[str, type[SearchMethod]] = {
    "hyperband": Hyperband,
    "tpe": OptunaMethod,
    "genetic": Genetic,
    "cmaes": OptunaMethod,
    "random": OptunaMethod,
    "grid": Grid,
    "refined": Refined,
    "halving": Halving,
}
"""`hyperband` is KerasTuner's, the next four are Optuna's, the last three need no library."""
