"""The noise of the winner: the best trials and the untuned training, trained anew with several
seeds, and only then judged.

The best of many trials is partly luck, and its score is too good. The seeds are new, the judgement
is on validation, and the test split is opened after it, once for each model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.batch.executor import Executor
from lib.evaluation import paired_tests, predictions, statistics
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.statistics import Estimate
from lib.reporting import text
from lib.runs import record
from lib.tuning import config, executors, search, trials
from lib.tuning import objective as objective_module
from lib.tuning.hyperparameter import Key
from lib.tuning.plan import Found, Plan
from lib.tuning.space import Space
from lib.tuning.work import Work

if TYPE_CHECKING:
    import keras
    import pandas

UNTUNED = "untuned"
_TABLE, _TESTED, _MODEL = record.PREDICTIONS, "tested.parquet", "model.keras"


@dataclass(frozen=True)
class Candidate:
    """One set of values to be trained anew; `search_score` is None for the untuned."""

    name: str
    values: dict[str, Any]
    search_score: float | None


@dataclass(frozen=True)
class Verdict:
    """What training anew has shown. `winner` has the best mean on validation; `told` says what of
    that is no chance.

    `val` and `test` hold each candidate's accuracy over seeds; `gain` is winner minus untuned on
    test, None where the untuned itself won.
    """

    candidates: tuple[Candidate, ...]
    winner: Candidate
    val: dict[str, Estimate]
    test: dict[str, Estimate]
    pairs: tuple[Pair, ...]
    gain: Pair | None

    @property
    def shown(self) -> bool:
        """Whether the winner is shown to be better than every other candidate on validation."""
        own = [pair for pair in self.pairs if self.winner.name in (pair.first, pair.second)]
        return all(pair.is_significant for pair in own)

    @property
    def told(self) -> str:
        """The verdict in sentences."""
        name, others = (
            self.winner.name,
            [each.name for each in self.candidates if each.name != self.winner.name],
        )
        if self.shown:
            lines = [
                f"The winner is {name}: shown to be better than {' and '.join(others)} on "
                "validation images."
            ]
        else:
            like = [
                other
                for other in others
                if not next(
                    pair for pair in self.pairs if {pair.first, pair.second} == {name, other}
                ).is_significant
            ]
            lines = [
                f"{name} has the best mean on validation images, but is not shown to be better "
                f"than {' and '.join(like)}."
            ]
        lines += [
            f"On validation images: {pair.verdict}"
            for pair in self.pairs
            if name in (pair.first, pair.second)
        ]
        if self.gain is None:
            return "\n".join([*lines, "Tuning has found nothing better than the untuned training."])
        better = self.gain.is_significant and self.gain.difference.value > 0
        lines.append(f"On test images, which chose nothing: {self.gain.verdict}")
        lines.append(
            "Tuning has helped by more than the noise."
            if better
            else "Tuning is not shown to have helped."
        )
        return "\n".join(lines)

    @property
    def shown_table(self) -> pandas.DataFrame:
        """The table for people, a column a candidate: accuracies with their spread over seeds or
        their interval, values.
        """
        import pandas

        found = {}
        values = {
            each.name: {name: trials.told(value) for name, value in each.values.items()}
            for each in self.candidates
        }
        for row in self.table.to_dict("records"):
            search = "" if pandas.isna(row["search_score"]) else f"{row['search_score']:.4g}"
            spread = (
                ""
                if pandas.isna(row["retrained_val_sd"])
                else f" ± {100 * row['retrained_val_sd']:.1f}"
            )
            again = f"{100 * row['retrained_val_accuracy']:.1f}{spread} %"
            test = text.interval(
                "accuracy", row["test_accuracy"], row["test_low"], row["test_high"]
            )
            told = {
                "search score": search,
                "seeds": str(row["seeds"]),
                "validation, retrained": again,
                "test (95 %)": test,
            }
            found[row["candidate"]] = told | values[row["candidate"]]
        keys = dict.fromkeys(name for told in found.values() for name in told)
        return pandas.DataFrame(
            {name: {key: told.get(key, "") for key in keys} for name, told in found.items()}
        )

    @property
    def table(self) -> pandas.DataFrame:
        """One row a candidate, the best on validation first; search score, retrained score and test
        score stand apart.
        """
        import pandas

        rows = []
        for each in sorted(self.candidates, key=lambda each: -self.val[each.name].value):
            val, test = self.val[each.name], self.test[each.name]
            row = {
                "candidate": each.name,
                "search_score": each.search_score,
                "seeds": val.num_seeds,
            }
            row |= {"retrained_val_accuracy": val.value, "retrained_val_sd": val.sd}
            row |= {"test_accuracy": test.value, "test_low": test.low, "test_high": test.high}
            rows.append(
                {
                    **row,
                    "values": ", ".join(
                        f"{name} {trials.told(value)}" for name, value in each.values.items()
                    ),
                }
            )
        return pandas.DataFrame(rows)


def candidates(found: Found, *, top: int) -> list[Candidate]:
    """Returns the best `top` trials, and the untuned parameters."""
    goal = next(iter(found.plan.goals))
    _ = found.best  # raises where every trial failed
    best = [
        Candidate(f"tuned-{place}", trial.values, trial.scores[goal])
        for place, trial in enumerate(found.ranked[:top], 1)
    ]
    return [*best, Candidate(UNTUNED, {}, None)]


def run(
    found: Found,
    folder: Path,
    *,
    checkpoint_folder: Path,
    executor: Executor,
    top: int,
    seeds: Sequence[int],
    epochs: int = 0,
    name: str = "interactive/tune/tuned",
    at_once: int | None = None,
    watch: search.Watch | None = None,
) -> Verdict:
    """Trains the candidates with every seed, judges them on validation, then opens the test split;
    resumes like a search.

    Args:
        found: the search.
        folder: where the journals and tables go.
        checkpoint_folder: where the trained models go; those of the winner stay.
        executor: whose workers train.
        top: how many of the best trials are trained anew.
        seeds: of the new trainings.
        epochs: of each; 0 takes those of the search.
        name: of the run, under which the openings of the test split are recorded.
        at_once: trainings at the same time.
        watch: called as in `search.run`, for the trainings.
    """
    chosen = candidates(found, top=top)
    names = Key("candidate", "choice", choices=tuple(each.name for each in chosen))
    space = Space((names, Key("seed", "choice", choices=tuple(seeds))))
    values = {each.name: each.values for each in chosen}
    context = {
        **found.plan.context,
        "epochs": epochs or found.plan.epochs,
        "values": values,
        "run": name,
    }
    read: dict[str, dict[str, dict[int, Predictions]]] = {}
    for split, objective in (("val", "train"), ("test", "test")):
        plan = Plan(space, "grid", f"{__name__}:{objective}", {"accuracy": "max"}, context=context)
        done = search.run(
            plan,
            folder / split,
            checkpoint_folder=checkpoint_folder,
            keep_checkpoints=True,
            executor=executor,
            at_once=at_once,
            watch=watch if split == "val" else None,
        )
        _ = done.best
        read[split] = _tables(done, folder / split, _TABLE if split == "val" else _TESTED)
    verdict = judge(chosen, read["val"], read["test"])
    for place in checkpoint_folder.glob("*"):
        if not place.name.startswith(f"{verdict.winner.name}-s"):
            executors.clear(place)
    return verdict


def judge(
    chosen: Sequence[Candidate],
    val: Mapping[str, Mapping[int, Predictions]],
    test: Mapping[str, Mapping[int, Predictions]],
) -> Verdict:
    """Returns the verdict on candidates by their tables, by name and seed; the winner follows from
    validation alone.
    """
    estimates = {
        name: statistics.over_seeds(list(runs.values()), "accuracy", split="val")
        for name, runs in val.items()
    }
    there = [each for each in chosen if each.name in estimates]
    winner = max(there, key=lambda each: estimates[each.name].value)
    tested = {
        name: statistics.over_seeds(list(runs.values()), "accuracy", split="test")
        for name, runs in test.items()
    }
    gain = None
    if winner.name != UNTUNED and UNTUNED in test:
        gain = paired_tests.compare(
            test[winner.name], test[UNTUNED], names=(winner.name, UNTUNED), split="test"
        )
    return Verdict(
        tuple(there),
        winner,
        estimates,
        tested,
        tuple(paired_tests.compare_all(val, split="val")),
        gain,
    )


def train(values: dict[str, Any], work: Work) -> dict[str, Any]:
    """Trains one candidate with one seed, keeps the model, and scores train and validation."""
    from lib.models import serialization
    from lib.training import checkpoints

    parameters = _parameters(values, work)
    trained = objective_module.train(
        parameters,
        seed=values["seed"],
        folder=work.folder,
        checkpoint_folder=work.checkpoint_folder,
    )
    serialization.save(
        trained.model,
        _model_path(values, work),
        card={"parameters": parameters, "seed": values["seed"]},
    )
    found = _score(trained.model, parameters, ("train", "val"), work.folder / _TABLE)
    for phase in ("head", "train"):
        checkpoints.clear(work.checkpoint_folder / phase)
    accuracy = _accuracy(found, "val")
    return {
        "accuracy": accuracy,
        "kept_epoch": trained.fitted.kept_epoch,
        "num_parameters": trained.model.count_params(),
    }


def test(values: dict[str, Any], work: Work) -> dict[str, Any]:
    """Opens the test split for a model that `train` has kept."""
    from lib.evaluation import test_access
    from lib.models import serialization

    parameters = _parameters(values, work)
    material = objective_module.material_of(parameters)
    model = serialization.load(_model_path(values, work))
    name = f"{work.context['run']}/{values['candidate']}-s{values['seed']}"
    test_access.open_test(material.dataset_folder, material.split.id, name)
    return {
        "accuracy": _accuracy(
            _score(model, parameters, ("train", "val", "test"), work.folder / _TESTED), "test"
        )
    }


def _model_path(values: Mapping[str, Any], work: Work) -> Path:
    return work.checkpoint_folder.parent / f"{values['candidate']}-s{values['seed']}" / _MODEL


def _parameters(values: Mapping[str, Any], work: Work) -> dict[str, Any]:
    context = work.context
    whole = config.filled(context["base"], context["values"][values["candidate"]])
    return {**whole, "epochs": context["epochs"], "monitor": context["monitor"]}


def _score(
    model: keras.Model, parameters: Mapping[str, Any], splits: Sequence[str], path: Path
) -> Predictions:
    from lib.models import predictor

    material = objective_module.material_of(parameters)
    split = material.split
    rows = split.frame[split.frame["split"].isin(splits)].reset_index(drop=True)
    images = material.pixels.array
    probabilities = predictor.predict_proba(model, images[material.pixels.rows_of(rows["path"])])
    table = predictions.table(
        rows["path"],
        splits=rows["split"],
        labels=rows["label"],
        groups=rows["group"],
        probabilities=probabilities,
        class_names=split.class_names,
    )
    predictions.write(
        path,
        table,
        {"class_names": split.class_names, "data_hash": split.data_hash(), "target": split.target},
    )
    return predictions.read(path)


def _accuracy(found: Predictions, split: str) -> float:
    part = found.split(split)
    return float((part.predicted == part.truth).mean())


def _tables(done: Found, folder: Path, name: str) -> dict[str, dict[int, Predictions]]:
    read: dict[str, dict[int, Predictions]] = {}
    for trial in done.trials:
        if trial.done:
            path = folder / "trials" / f"{trial.number:04d}" / name
            read.setdefault(trial.values["candidate"], {})[trial.values["seed"]] = predictions.read(
                path
            )
    return read
