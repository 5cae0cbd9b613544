"""Retrains the best trials and the untuned parameters with new seeds, then judges them.

The best score of many trials is too good, because selection favours luck. So the seeds are new, the
winner is chosen on validation images, and the test split is opened afterwards, once a model.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.batch.dask_executor import Executor
from lib.data import targets
from lib.evaluation import formatting, metrics, paired_tests, predictions, statistics
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate
from lib.runs import record
from lib.tuning import config, objective, search, trials
from lib.tuning.search import Plan, SearchResult
from lib.tuning.space import Hyperparameter, Space
from lib.tuning.worker import TrialContext

if TYPE_CHECKING:
    import keras
    import pandas

UNTUNED = "untuned"
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}
"""What judges models of one class an image, and of several; with its title."""
_TABLE, _TESTED, _MODEL = record.PREDICTIONS, "tested.parquet", "model.keras"


@dataclass(frozen=True)
class Candidate:
    """Values to retrain with; `search_score` is None for the untuned parameters."""

    name: str
    values: dict[str, Any]
    search_score: float | None


@dataclass(frozen=True)
class Verdict:
    """The result of the retraining; `winner` has the best mean on validation.

    `val` and `test` hold each candidate's `metric` over seeds, which is the accuracy, or macro F1
    of several labels. `pairs` compares the candidates on validation; `gain` is winner minus
    untuned on test, None if the untuned parameters won.
    """

    metric: str

    candidates: tuple[Candidate, ...]
    winner: Candidate
    val: dict[str, Estimate]
    test: dict[str, Estimate]
    pairs: tuple[Pair, ...]
    gain: Pair | None

    @property
    def winner_pairs(self) -> list[Pair]:
        """The comparisons of the winner with every other candidate."""
        return [pair for pair in self.pairs if self.winner.name in (pair.first, pair.second)]

    @property
    def is_significant(self) -> bool:
        """Whether the winner is significantly better than all other candidates on validation."""
        return all(pair.is_significant for pair in self.winner_pairs)

    @property
    def text(self) -> str:
        """The verdict in sentences."""
        name = self.winner.name
        others = {pair: pair.second if pair.first == name else pair.first for pair in self.pairs}
        equal = [others[pair] for pair in self.winner_pairs if not pair.is_significant]
        if equal:
            lines = [
                f"{name} has the best mean validation {METRICS[self.metric]}, but is not "
                f"significantly better than {' and '.join(equal)}."
            ]
        else:
            beaten = " and ".join(others[pair] for pair in self.winner_pairs)
            lines = [
                f"The winner is {name}: significantly better than {beaten} on validation images."
            ]
        lines += [f"On validation images: {pair.verdict}" for pair in self.winner_pairs]
        if self.gain is None:
            return "\n".join([*lines, "Tuning found nothing better than the untuned parameters."])
        helped = self.gain.is_significant and self.gain.difference.value > 0
        lines.append(f"On test images, which selected nothing: {self.gain.verdict}")
        significant = "significant" if helped else "not significant"
        lines.append(f"The improvement by tuning is {significant}.")
        return "\n".join(lines)

    @property
    def table(self) -> pandas.DataFrame:
        """The three scores apart, and the values: one column a candidate."""
        import pandas

        columns, title = {}, METRICS[self.metric]
        for candidate in self.candidates:
            val, test = self.val[candidate.name], self.test[candidate.name]
            score = candidate.search_score
            spread = "" if math.isnan(val.sd) else f" ± {100 * val.sd:.1f}"
            columns[candidate.name] = {
                "search score": "" if score is None else f"{score:.4g}",
                "seeds": str(val.num_seeds),
                f"validation {title}, retrained": f"{100 * val.value:.1f}{spread} %",
                f"test {title} (95 %)": formatting.interval(
                    self.metric, test.value, test.low, test.high
                ),
                **{name: trials.format_value(value) for name, value in candidate.values.items()},
            }
        return pandas.DataFrame(columns).fillna("")


def choose_candidates(result: SearchResult, *, top: int) -> list[Candidate]:
    """Returns the best `top` trials and the untuned parameters.

    Raises DarkroomError if all trials failed.
    """
    goal = result.plan.goal
    best = [result.best, *result.ranked[1:top]]
    tuned = [
        Candidate(f"tuned-{rank}", trial.values, trial.scores[goal])
        for rank, trial in enumerate(best, start=1)
    ]
    return [*tuned, Candidate(UNTUNED, {}, None)]


def run(
    result: SearchResult,
    folder: Path,
    *,
    checkpoint_folder: Path,
    executor: Executor,
    top: int,
    seeds: Sequence[int],
    epochs: int = 0,
    name: str = "interactive/tune/tuned",
    on_trial_end: search.OnTrialEnd | None = None,
) -> Verdict:
    """Retrains the candidates with every seed, judges them, then opens the test split.

    Killed and run again, it continues as a search does.

    Args:
        result: the search.
        folder: for event logs and tables.
        checkpoint_folder: for the models; the winner's are kept.
        executor: whose workers train.
        top: the number of best trials to retrain.
        seeds: of the retrainings.
        epochs: of each retraining; 0 for the search's.
        name: of the run, for the test-set access log.
        on_trial_end: called after each retraining.
    """
    candidates = choose_candidates(result, top=top)
    names = tuple(candidate.name for candidate in candidates)
    choices = {"candidate": names, "seed": tuple(seeds)}
    space = Space(tuple(Hyperparameter(key, "choice", choices[key]) for key in choices))
    has_several = targets.parse(result.plan.settings["base"]["target"]).rule == "all"
    settings = {
        **result.plan.settings,
        "epochs": epochs or result.plan.epochs,
        "values": {candidate.name: candidate.values for candidate in candidates},
        "metric": "macro_f1" if has_several else "accuracy",
        "run": name,
    }
    tables = {}
    for split, function, table in (("val", "train", _TABLE), ("test", "test", _TESTED)):
        goals = {settings["metric"]: "max"}
        plan = Plan(space, "grid", f"{__name__}:{function}", goals, settings=settings)
        done = search.run(
            plan,
            folder / split,
            checkpoint_folder=checkpoint_folder,
            keep_checkpoints=True,
            executor=executor,
            on_trial_end=on_trial_end if split == "val" else None,
        )
        _ = done.best  # raises if all failed
        tables[split] = _read_tables(done, folder / split, table)
    verdict = judge(candidates, tables["val"], tables["test"], metric=settings["metric"])
    for path in checkpoint_folder.glob("*"):
        if not path.name.startswith(f"{verdict.winner.name}-s"):
            shutil.rmtree(path, ignore_errors=True)
    return verdict


def judge(
    candidates: Sequence[Candidate],
    val: Mapping[str, Mapping[int, Predictions]],
    test: Mapping[str, Mapping[int, Predictions]],
    *,
    metric: str = "accuracy",
) -> Verdict:
    """Returns the verdict on prediction tables by candidate and seed.

    Validation alone determines the winner.
    """
    val_scores, test_scores = (
        {
            name: statistics.over_seeds(list(runs.values()), metric, split=split)
            for name, runs in tables.items()
        }
        for split, tables in (("val", val), ("test", test))
    )
    judged = [candidate for candidate in candidates if candidate.name in val_scores]
    winner = max(judged, key=lambda candidate: val_scores[candidate.name].value)
    gain = None
    if winner.name != UNTUNED and UNTUNED in test:
        names = (winner.name, UNTUNED)
        models = (test[winner.name], test[UNTUNED])
        gain = paired_tests.compare(*models, names=names, metric=metric, split="test")
    pairs = tuple(paired_tests.compare_all(val, metric=metric, split="val"))
    return Verdict(metric, tuple(judged), winner, val_scores, test_scores, pairs, gain)


def train(values: dict[str, Any], trial: TrialContext) -> dict[str, Any]:
    """Trains one candidate with one seed, saves the model, and scores train and validation."""
    from lib.models import serialization
    from lib.training import checkpoints

    parameters = _parameters(values, trial)
    trained = objective.train(
        parameters,
        seed=values["seed"],
        folder=trial.folder,
        checkpoint_folder=trial.checkpoint_folder,
    )
    card = {"parameters": parameters, "seed": values["seed"]}
    serialization.save(trained.model, _model_path(values, trial), card=card)
    predicted = _score(trained.model, parameters, ("train", "val"), trial.folder / _TABLE)
    for phase in ("head", "train"):
        checkpoints.clear(trial.checkpoint_folder / phase)
    metric = trial.settings["metric"]
    return {
        metric: metrics.value(predicted.split("val"), metric),
        "kept_epoch": trained.fitted.kept_epoch,
        "num_parameters": trained.model.count_params(),
    }


def test(values: dict[str, Any], trial: TrialContext) -> dict[str, Any]:
    """Opens the test split for a model that `train` has saved."""
    from lib.evaluation import test_set_log
    from lib.models import serialization

    parameters = _parameters(values, trial)
    data = objective.training_data(parameters)
    model = serialization.load(_model_path(values, trial))
    name = f"{trial.settings['run']}/{values['candidate']}-s{values['seed']}"
    test_set_log.record(data.dataset_folder, data.split.id, name, role="tuning")
    test_set_log.record(data.dataset_folder, data.split.id, name)
    splits = ("train", "val", "test")
    predicted = _score(model, parameters, splits, trial.folder / _TESTED)
    metric = trial.settings["metric"]
    return {metric: metrics.value(predicted.split("test"), metric)}


def _model_path(values: Mapping[str, Any], trial: TrialContext) -> Path:
    name = f"{values['candidate']}-s{values['seed']}"
    return trial.checkpoint_folder.parent / name / _MODEL


def _parameters(values: Mapping[str, Any], trial: TrialContext) -> dict[str, Any]:
    settings = trial.settings
    tuned = settings["values"][values["candidate"]]
    return {
        **config.trial_parameters(settings["base"], tuned),
        "epochs": settings["epochs"],
        "monitor": settings["monitor"],
    }


def _score(
    model: keras.Model, parameters: Mapping[str, Any], splits: Sequence[str], path: Path
) -> Predictions:
    from lib.models import predictor

    data = objective.training_data(parameters)
    split = data.split
    rows = split.frame[split.frame["split"].isin(splits)].reset_index(drop=True)
    images = data.pixels.array[data.pixels.rows_of(rows["path"])]
    table = predictions.table(
        rows["path"],
        splits=rows["split"],
        labels=rows["label"],
        groups=rows["group"],
        probabilities=predictor.predict_proba(model, images),
        class_names=split.class_names,
    )
    about = {
        "class_names": split.class_names,
        "data_hash": split.data_hash(),
        "target": split.target,
        "kind": "multilabel" if split.is_multilabel else "probability",
    }
    predictions.write(path, table, about)
    return predictions.read(path)


def _read_tables(done: SearchResult, folder: Path, name: str) -> dict[str, dict[int, Predictions]]:
    tables: dict[str, dict[int, Predictions]] = {}
    for trial in done.trials:
        if trial.has_scores:
            path = folder / "trials" / f"{trial.number:04d}" / name
            runs = tables.setdefault(trial.values["candidate"], {})
            runs[trial.values["seed"]] = predictions.read(path)
    return tables
