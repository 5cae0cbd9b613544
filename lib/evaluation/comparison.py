"""Comparison of a study's runs: arms over seeds or splits, and significant differences.

Arms stand in the order of their validation results; nothing is chosen or sorted by test. Everything
is computed from the runs' prediction tables; `result.json` only adds what they cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import files, paths
from lib.errors import DarkroomError, check_choice
from lib.evaluation import (
    arm_model,
    checks,
    formatting,
    metrics,
    multilabel,
    paired_tests,
    run_records,
    statistics,
    test_set_log,
)
from lib.evaluation import predictions as tables
from lib.evaluation.arm_model import LinearModel
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions
from lib.evaluation.run_records import RunRecord
from lib.evaluation.statistics import Estimate
from lib.runs import record


@dataclass(frozen=True)
class Comparison:
    """Arms over seeds, the best on validation first. `pairs` are the comparisons of two arms;
    `audit` holds the outcomes of the checks.

    An arm goes by the title that its study gives it, or by its name.
    """

    metric: str
    arms: dict[str, tuple[RunRecord, ...]]
    estimates: dict[str, dict[str, Estimate]]
    pairs: tuple[Pair, ...]
    audit: tuple[dict[str, str], ...]

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several classes or none."""
        return self.runs[0].predictions.kind == "multilabel"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, the same for every arm."""
        return self.runs[0].predictions.class_names

    @property
    def runs(self) -> list[RunRecord]:
        """All runs and ensembles, by arm and seed."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def is_tiny(self) -> bool:
        """Whether any of the runs is a tiny one, whose figures mean nothing."""
        return any(record.is_tiny(run.result) for run in self.runs)

    @property
    def winner(self) -> str | None:
        """The arm that is significantly better than every other one; None where there is none."""
        for arm in self.arms:
            wins = sum(pair.better == arm for pair in self.pairs)
            if wins == len(self.arms) - 1 > 0:
                return arm
        return None

    @property
    def verdicts(self) -> list[str]:
        """One sentence a pair, significant differences first.

        With more than five arms groups of letters come first, and of the pairs only those with the
        arm that is best on validation.
        """
        first = next(iter(self.arms))
        pairs = [
            pair for pair in self.pairs if len(self.arms) <= 5 or first in (pair.first, pair.second)
        ]
        pairs.sort(key=lambda pair: (not pair.is_significant, -abs(pair.difference.value)))
        lines = [record.TINY] if self.is_tiny else []
        if self.has_letters:
            groups = "; ".join(f"{arm} {letters}" for arm, letters in self.letters.items())
            lines.append(f"Arms that share a letter do not differ significantly: {groups}.")
        return lines + [pair.verdict for pair in pairs]

    @property
    def letters(self) -> dict[str, str]:
        """Groups of letters: arms that share a letter do not differ significantly."""
        return paired_tests.letters(list(self.arms), self.pairs)

    @property
    def has_letters(self) -> bool:
        """Whether groups of letters say more than the pairs: with more than five arms, all tested
        against each other.
        """
        num_pairs = len(self.arms) * (len(self.arms) - 1) // 2
        return len(self.arms) > 5 and len(self.pairs) == num_pairs

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an arm, the best on validation first: numbers as numbers, see `shown` for people.

        `arm title seeds num_test`, `train_accuracy val_accuracy test_accuracy` (means), for metric,
        accuracy and kappa the `_sd _low _high`, `kappa_band`, `seconds`, `num_parameters`,
        `peak_memory_bytes` (NaN where a run does not tell). Where images have several classes,
        macro F1 takes the place of accuracy, and micro F1 and exact match are added.
        """
        return pd.DataFrame([self._row(arm) for arm in self.arms])

    @property
    def shown(self) -> pd.DataFrame:
        """The whole table as text, for the notebook and the page."""
        return pd.DataFrame([formatting.full_row(row) for row in self.table.to_dict("records")])

    @property
    def brief(self) -> pd.DataFrame:
        """The main columns as text, for a terminal of 100 columns: arm, seeds, accuracy, kappa,
        seconds.
        """
        return pd.DataFrame([formatting.brief_row(row) for row in self.table.to_dict("records")])

    @property
    def openings(self) -> dict[str, int]:
        """Number of reads of each test split, over all studies, when the last of these runs was
        scored.
        """
        counted: dict[str, int] = {}
        for run in self.runs:
            split, num = run.result.get("split"), run.result.get("test_openings")
            if split is not None and num is not None:
                counted[split] = max(counted.get(split, 0), num)
        return counted

    def confusion(self, arm: str) -> np.ndarray:
        """int64 (classes, classes): the test confusions of an arm, summed over its seeds."""
        return sum(metrics.confusion(run.predictions.split("test")) for run in self.arms[arm])

    def label_counts(self) -> dict[str, pd.DataFrame]:
        """Of every arm one row a class with its true positives, false negatives, false positives
        and true negatives on test, summed over seeds; for images of several classes.
        """
        from sklearn.metrics import multilabel_confusion_matrix

        names, tables = (
            ["true negatives", "false positives", "false negatives", "true positives"],
            {},
        )
        for arm, runs in self.arms.items():
            parts = [run.predictions.split("test") for run in runs]
            counts = sum(multilabel_confusion_matrix(part.truths, part.present) for part in parts)
            index = pd.Index(self.class_names, name="class")
            tables[arm] = pd.DataFrame(counts.reshape(-1, 4), index, names)[names[::-1]]
        return tables

    def per_class(self, name: str = "f1") -> pd.DataFrame:
        """One row a class, one column an arm: mean `f1`, `recall` or `precision` on test over
        seeds; the class on which the arms differ most on validation comes first.
        """
        table = self._per_class(name, "test")
        on_validation = self._per_class(name, "val")
        spread = on_validation.max(axis=1) - on_validation.min(axis=1)
        return table.loc[spread.sort_values(ascending=False, kind="stable").index]

    def _per_class(self, name: str, split: str) -> pd.DataFrame:
        columns = {}
        for arm, runs in self.arms.items():
            tables = [run.predictions for run in runs if split in run.predictions.splits]
            values = [metrics.per_class(table.split(split))[name] for table in tables]
            columns[arm] = pd.DataFrame(values, columns=list(self.class_names)).mean()
        return pd.DataFrame(columns).rename_axis("class")

    def hardest(self, num: int = 24) -> pd.DataFrame:
        """The test images whose true class got the least probability, the mean over all runs that
        tested them; of several classes the one that was missed most counts.

        Columns `path`, `label`, `of_truth`, `num_right`, `num_runs`, `predicted` (the wrong class
        named most often, or None).
        """
        rows = pd.concat([_scored(run) for run in self.runs], ignore_index=True)
        grouped = rows.groupby("path").agg(
            label=("label", "first"),
            of_truth=("of_truth", "mean"),
            num_right=("right", "sum"),
            num_runs=("right", "size"),
        )
        worst = grouped.sort_values("of_truth", kind="stable").head(num)
        wrong = rows[~rows["right"]].groupby("path")["predicted"].agg(lambda one: one.mode()[0])
        names = wrong.reindex(worst.index).astype(object)
        return worst.assign(predicted=names.where(names.notna(), None)).reset_index()

    def _row(self, arm: str) -> dict[str, Any]:
        runs, mine = self.arms[arm], self.estimates[arm]
        row: dict[str, Any] = {"arm": runs[0].arm, "title": arm, "seeds": len(runs)}
        row["tiny"] = any(record.is_tiny(run.result) for run in runs)
        row["num_test"] = int(np.mean([len(run.predictions.split("test")) for run in runs]))
        for split in tables.SPLITS:
            main = "macro_f1" if self.is_multilabel else "accuracy"
            row[f"{split}_{main}"] = _mean_value(runs, main, split)
        for name, one in mine.items():
            ends = {f"{name}_sd": one.sd, f"{name}_low": one.low, f"{name}_high": one.high}
            row |= {name: one.value, **ends}
        row["kappa_band"] = metrics.landis_koch(mine["kappa"].value)
        for name in ("seconds", "num_parameters", "peak_memory_bytes"):
            values = [run.result[name] for run in runs if run.result.get(name) is not None]
            row[name] = float(np.mean(values)) if values else float("nan")
        return row


def compare(runs: Sequence[Any], **options: Any) -> Comparison:
    """Returns the comparison of finished runs: which difference is real, and how large it is.

    Args:
        runs: `training.TrainedRun`s, folders, or names such as `quickstart/train/custom-s0`.
        **options: those of `comparison`, such as `metric` and `against`.

    Example:
        >>> print("\n".join(compare([run, other]).verdicts))
    """
    folders = [_folder(run) for run in runs]
    names = {(record.result(folder) or {}).get("data") for folder in folders} - {None}
    opened = [run for name in names for run in test_set_log.runs(paths.dataset(name))]
    return comparison(folders, **{"opened": opened} | options)


def _folder(run: Any) -> Path:
    folder = Path(getattr(run, "folder", run))
    return folder if folder.is_absolute() or folder.exists() else paths.logs() / folder


def comparison(
    run_folders: Sequence[Path],
    *,
    metric: str = "auto",
    fold: Mapping[str, str] | None = None,
    rest: str = "rest",
    only: Sequence[str] = (),
    omit: Sequence[str] = (),
    ensembles: Mapping[str, Sequence[str]] | None = None,
    against: str = "",
    margin: float = paired_tests.MARGIN,
    opened: Sequence[str] = (),
) -> Comparison:
    """The comparison of finished runs on test, the arms in the order of their validation results.

    Args:
        run_folders: finished runs, of one study or of several.
        metric: accuracy, balanced_accuracy, macro_f1, kappa or matthews; where images have several
            classes macro_f1, micro_f1, exact_match, kappa (the mean over classes) or accuracy (of
            all pairs of image and class). `auto` takes the first.
        fold: class names to coarser groups; runs of all classes are judged on these groups, beside
            runs that were trained on them.
        rest: the group of the classes that `fold` does not name.
        only: the arms to compare; empty takes all.
        omit: arms to leave out.
        ensembles: names of ensembles and the arms whose probabilities each averages; they become
            arms of their own (`run_records.averaged`).
        against: one arm that all others are tested against, instead of all pairs.
        margin: arms are equivalent where they are shown to lie less than this apart.
        opened: names of all runs that have read these test images (`test_set_log.runs`), so that
            trainings left out of the comparison are noticed.

    Raises:
        DarkroomError: no runs, an unknown metric, a run that has not finished or whose predictions
            have changed since, other classes, two runs of one arm and seed, one training under two
            seeds, or runs of one seed that were measured on different data.
    """
    runs = sorted(
        (run_records.read(Path(folder)) for folder in run_folders),
        key=lambda run: (run.arm, run.seed),
    )
    runs += run_records.averaged(runs, ensembles or {})
    _refuse_unknown([*only, *([against] if against else [])], runs)
    runs = [run for run in runs if (not only or run.arm in only) and run.arm not in omit]
    if fold:
        runs = [_folded(run, fold, rest) for run in runs]
    _refuse_mixture(runs)
    shown = _shown_names(runs)
    kind = runs[0].predictions.kind
    metric = _metric(metric, kind)
    arms: dict[str, tuple[RunRecord, ...]] = {}
    for run in runs:
        arms[shown[run.arm]] = (*arms.get(shown[run.arm], ()), run)
    arms = {arm: arms[arm] for arm in _by_validation(arms, metric)}
    by_seed = {arm: {run.seed: run.predictions for run in mine} for arm, mine in arms.items()}
    compared = multilabel.COMPARED if kind == "multilabel" else ("accuracy", "kappa")
    functions = {name: metrics.HEADLINES.get(name) for name in (metric, *compared)}
    derived = {arm for arm, mine in arms.items() if mine[0].is_ensemble}
    scores = arm_model.score(by_seed, functions, derived=derived)
    models = {name: LinearModel(scored) for name, scored in scores.items()}
    estimates = {
        arm: {
            name: statistics.of_arm(scores[name], arm, model=model)
            for name, model in models.items()
        }
        for arm in arms
    }
    exact = paired_tests.exact_p_values(by_seed, metric, "test")
    pairs = paired_tests.of_model(
        models[metric], against=shown.get(against, ""), margin=margin, exact=exact
    )
    findings = checks.of_comparison(
        {arm: estimates[arm][metric] for arm in arms},
        pairs,
        runs={arm: mine for arm, mine in arms.items() if arm not in derived},
        opened=opened,
    )
    return Comparison(metric, arms, estimates, tuple(pairs), tuple(findings))


def _metric(name: str, kind: str) -> str:
    names = metrics.headline_names(kind)
    check_choice("metric", name, ("auto", *names))
    return names[0] if name == "auto" else name


def finished_runs(*stage_folders: Path) -> list[Path]:
    """The folders of finished runs of one or more stages, sorted: those with `result.json` and
    `predictions.parquet`.

    Raises DarkroomError for a run that was changed after its end: without it, the others would be a
    choice.
    """
    for folder in stage_folders:
        for path in sorted(Path(folder).glob(f"[!.]*/{record.RESULT}")):
            if problem := record.damage(path.parent):
                raise DarkroomError(
                    f"The run {path.parent} cannot be compared: {problem}. Run its study again, "
                    "which repeats this run, or remove its folder."
                )
    folders = record.finished_runs(*stage_folders)
    return [folder for folder in folders if (folder / record.PREDICTIONS).is_file()]


def write_table(comparison: Comparison, folder: Path) -> Path:
    """Writes `comparison.csv` (`brief`, what `darkroom run` prints at its end) into a run's folder
    and returns its path.

    `arms.csv` in the same folder holds every number of the table, for other programs.
    """
    path = Path(folder) / "comparison.csv"
    for name, table in ((path.name, comparison.brief), ("arms.csv", comparison.table)):
        files.write_csv(path.with_name(name), table)
    return path


def _by_validation(arms: Mapping[str, Sequence[RunRecord]], metric: str) -> list[str]:
    results = {arm: _mean_value(runs, metric, "val") for arm, runs in arms.items()}
    return sorted(arms, key=lambda arm: (-np.nan_to_num(results[arm], nan=-np.inf), arm))


def _mean_value(runs: Sequence[RunRecord], metric: str, split: str) -> float:
    parts = [run.predictions.split(split) for run in runs if split in run.predictions.splits]
    return float(np.mean([metrics.value(part, metric) for part in parts])) if parts else np.nan


def _shown_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Arm to title; to itself where it has none, or where another arm goes by that title."""
    titles = {run.arm: run.title or run.arm for run in runs}
    others = {
        arm: {titles[one] for one in titles if one != arm} | (set(titles) - {arm}) for arm in titles
    }
    return {arm: arm if title in others[arm] else title for arm, title in titles.items()}


def _refuse_unknown(names: Sequence[str], runs: Sequence[RunRecord]) -> None:
    there = sorted({run.arm for run in runs})
    for name in names:
        check_choice("arm", name, there, where="the finished runs")


def _folded(run: RunRecord, fold: Mapping[str, str], rest: str) -> RunRecord:
    if set(run.predictions.class_names) == {*fold.values(), rest}:
        return run
    # The history speaks of other classes, and cannot stand beside the folded numbers.
    return replace(run, predictions=tables.fold(run.predictions, fold, rest=rest), history=None)


def _refuse_mixture(runs: Sequence[RunRecord]) -> None:
    if not runs:
        raise DarkroomError(
            "There is nothing to compare: no finished run was given. Run the training stage first."
        )
    first, by_seed, seen, copies = runs[0], {}, {}, {}
    for run in runs:
        names = f"{run.folder} and {first.folder}"
        if (run.predictions.kind == "multilabel") != (first.predictions.kind == "multilabel"):
            raise DarkroomError(
                f"{names} cannot stand in one table: one gives an image one class, the other "
                "several."
            )
        if run.predictions.class_names != first.predictions.class_names:
            raise DarkroomError(
                f"{names} have other class names, so their numbers cannot stand in one table."
            )
        other = by_seed.setdefault(run.seed, run)
        if not _same_data(run.predictions, other.predictions):
            raise DarkroomError(
                f"{run.folder} and {other.folder} were measured on different data (seed "
                f"{run.seed}), so their numbers cannot stand in one table. Run both again on the "
                "same data and split."
            )
        twin = seen.setdefault((run.arm, run.seed), run)
        if twin is not run:
            raise DarkroomError(
                f"{run.folder} and {twin.folder} are both {run.arm}, seed {run.seed}; give one "
                "of them."
            )
        # A network that was trained twice never gives the same probabilities; a baseline may.
        twin = copies.setdefault((run.arm, run.table_digest), run)
        if twin is not run and run.history is not None:
            raise DarkroomError(
                f"{run.folder} and {twin.folder} hold the same predictions to the last digit: one "
                "training under two seeds. Remove the copy, or train the second seed."
            )


def _same_data(one: Predictions, other: Predictions) -> bool:
    # Folding changes the labels and with them the hash; then images, splits and labels themselves
    # are compared.
    columns = ["path", "split", "label"]
    is_folded = tables.MARK in one.data_hash + other.data_hash
    return one.data_hash == other.data_hash or (
        is_folded and one.frame[columns].equals(other.frame[columns])
    )


def _scored(run: RunRecord) -> pd.DataFrame:
    part = run.predictions.split("test")
    if part.kind == "multilabel":
        predicted, truths = part.present, part.truths
        columns = {
            "label": multilabel.names_of(truths, part.class_names),
            "predicted": multilabel.names_of(predicted, part.class_names),
            "of_truth": np.where(truths, part.probabilities, 1 - part.probabilities).min(axis=1),
            "right": (predicted == truths).all(axis=1),
        }
    else:
        columns = {
            "label": part.frame["label"],
            "predicted": np.asarray(part.class_names, dtype=object)[part.predicted],
            "of_truth": part.probabilities[np.arange(len(part)), part.truth],
            "right": part.predicted == part.truth,
        }
    return pd.DataFrame({"path": part.frame["path"], **columns})
