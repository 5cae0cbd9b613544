"""Checks of a data set and its split for causes of inflated test scores.

They look at the manifest, the scan's measurements and the thumbnails, without a network.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lib import files
from lib.cleaning import scan
from lib.data import groups
from lib.data.dataset import Dataset
from lib.data.splits import Split
from lib.evaluation import test_set_log
from lib.evaluation.outcomes import Outcome, finding, flagged, held, not_judged, note

MAX_ROWS = 3_000
"""Images that a model on file numbers is fitted to, at most."""

FILE_COLUMNS = ("format", "mode", "bytes", "width", "height", "aspect", "bytes_per_pixel")
LIGHT_COLUMNS = ("brightness", "contrast", "sharpness")

FILE_KAPPA = 0.6
"""Least cross-validated kappa at which file properties predict the class. Measured on sets without
such a fault: at most 0.42 (aspect, of documents).
"""

LIGHT_KAPPA = 0.75
"""The same for brightness, contrast and sharpness, which say something of what is shown: at most
0.37 was measured.
"""

JOINT_KAPPA = 0.8
"""The same for all numbers of a kind together: 0.58 was measured for containers of documents."""

CLASS_F1 = 0.95
"""Least cross-validated F1 at which they tell one of several classes from the others, which moves
kappa little: at most 0.89 was measured (aspect of receipts among photographs and paintings).
"""

SHIFT_AUC = 0.8
"""Least cross-validated AUC at which the properties separate test from train images."""

CLASS_SHIFT = 0.2
"""Least total variation distance between the class shares of train and test that is flagged."""

NEIGHBOUR_SHARE = 0.62
"""From which share of neighbours in name order that are more alike than two random images of their
class and folder the order tells something: 0.5 without, 0.80 for solar cells cut from modules."""

NEAR = 10
"""The most places in name order that two neighbours of one class may be apart."""

MAX_SHARED = 0.02
"""Share of test images that may share an identity with train images."""


@dataclass(frozen=True)
class Facts:
    """Inputs of the checks: the split's rows joined with the manifest and the measurements."""

    dataset: Dataset
    split: Split

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row an image of the split, by path, with the target's class as `label`.

        The classes of a multilabel image are one name here, which each set of classes has.
        """
        manifest = self.dataset.manifest().drop(columns=["label", "group", "pixels"])
        rows = self.split.frame.merge(manifest, on="path", how="left")
        if self.split.is_multilabel:
            rows["label"] = rows["label"].map("|".join)
        return rows.merge(self._measured, on="path", how="left")

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Numbers of each file: those of its container, and its light where the scan is there."""
        rows = self.rows
        area = (rows["width"] * rows["height"]).astype(float).clip(lower=1)
        light = [name for name in LIGHT_COLUMNS if name in rows and rows[name].notna().all()]
        table = rows[["bytes", "width", "height", *light]].astype(float)
        return table.assign(
            format=pd.factorize(rows["format"])[0],
            mode=pd.factorize(rows["mode"])[0],
            aspect=table["width"] / table["height"].clip(lower=1),
            bytes_per_pixel=table["bytes"] / area,
        )

    @cached_property
    def thumbs(self) -> np.ndarray | None:
        """Grey of 16 x 16 px with mean 0 and deviation 1 each, float32 (n, 256); None without."""
        if "thumb" not in self.rows.columns or self.rows["thumb"].isna().any():
            return None
        stored = scan.thumbs(self.dataset.folder)
        places = self.rows["thumb"].to_numpy(np.int64)
        if not len(stored) or places.max(initial=0) >= len(stored):
            return None
        small = np.stack(
            [stored[place].reshape(16, 4, 16, 4).mean(axis=(1, 3)).ravel() for place in places]
        ).astype(np.float32)
        small -= small.mean(axis=1, keepdims=True)
        return small / (small.std(axis=1, keepdims=True) + 1e-6)

    @cached_property
    def light(self) -> np.ndarray:
        """Brightness, contrast and sharpness with mean 0 and deviation 1, float64 (n, 3)."""
        values = self.rows[list(LIGHT_COLUMNS)].to_numpy(float)
        return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)

    @cached_property
    def _measured(self) -> pd.DataFrame:
        cached = files.read_cache(self.dataset.folder / scan.FILE)
        wanted = {"path", "dark", "bright", "contrast", "sharpness", "thumb"}
        if cached is None or not wanted <= set(cached[0].columns):
            return pd.DataFrame({"path": pd.Series(dtype="str")})
        table = cached[0][sorted(wanted)].drop_duplicates("path")
        return table.assign(brightness=(table["dark"] + table["bright"]) / 2)


def checks(dataset: Dataset, split: Split) -> list[dict[str, str]]:
    """Returns what every check says of a data set as it is divided."""
    facts = Facts(dataset, split)
    return [finding(name, check(facts)) for name, check in CHECKS.items()]


def notes(dataset: Dataset) -> list[str]:
    """Returns what the checks flag in a data set before it is divided.

    Where the source brings a split of its own, that is judged; else neighbours in name order and
    the numbers of the files are, as a random division would find them.
    """
    rows = dataset.accepted()
    rows = rows[rows["label"].notna()].reset_index(drop=True)
    own = rows["source_split"].astype(object).where(rows["source_split"].notna(), "train")
    has_own = {"train", "test"} <= set(own)
    if not has_own:
        at_random = np.random.default_rng(0).random(len(rows)) < 0.25
        own = pd.Series(np.where(at_random, "test", "train"), index=rows.index)
    frame = rows[["path", "label", "group", "pixels"]].assign(split=own)
    facts = Facts(dataset, Split("", "", "label", frame, sorted(rows["label"].unique())))
    names = list(CHECKS) if has_own else ["file_order", "file_shortcut"]
    outcomes = [(name, *CHECKS[name](facts)) for name in names]
    return [
        f"The source's own split: {message}" if name in OF_A_SPLIT else message
        for name, outcome, message in outcomes
        if outcome == "flagged"
    ]


def of_run(dataset: Dataset, split: Split, *, study: str) -> list[dict[str, str]]:
    """Returns the checks of the data and of the use of its test images, for a run's audit."""
    reuse = test_set_log.reuse(dataset.folder, split.id, study=study)
    return checks(dataset, split) + reuse.checks()


def group_columns(facts: Facts) -> Outcome:
    """Whether test images share the values of an identity (a patient, a film) with train images."""
    named = facts.dataset.source.get("options", {}).get("group", "")
    used = [f"attr_{name.strip()}" for name in str(named).split(",")]
    rows = facts.rows
    candidates = groups.repeating(rows, grouped=used)
    if not candidates:
        return held("no column of the table names a group that was not used")
    shared = []
    for name, _, named in candidates:
        values = rows[f"attr_{name}"]
        train = set(values[rows["split"] != "test"].dropna())
        share = float(values[rows["split"] == "test"].isin(train).mean())
        if share > MAX_SHARED:
            shared.append((named, share, name))
    if not shared:
        return held("no test image shares an identity with train images")
    named, share, name = max(shared)
    group = str((facts.dataset.source.get("read_as") or {}).get("group"))
    is_group = re.sub(r"\W+", "_", f"column {name}").lower() in re.sub(r"\W+", "_", group).lower()
    advice = (
        "Use split_method = 'grouped'" if is_group else f"Clean again with --option group={name}"
    )
    message = (
        f"{100 * share:.0f} % of the test images share their {name!r} with train or validation "
        "images: if that names a patient, a product, a film or a place, the score is too good. "
        f"{advice}."
    )
    return flagged(message) if named else note(message)


def file_order(facts: Facts) -> Outcome:
    """Whether neighbours in name order look alike and lie on both sides of the split."""
    rows, thumbs = facts.rows, facts.thumbs
    if thumbs is None:
        return not_judged("the scan's thumbnails are not there")
    place = np.argsort(groups.name_order(rows["path"].tolist()))
    folder = rows["path"].str.rpartition("/")[0].to_numpy()
    label, group = rows["label"].to_numpy(str), rows["group"].to_numpy()
    # Two classes differ anyway, so the next image of the same class is the neighbour.
    stratum = pd.factorize(pd.Series(folder) + "\0" + label)[0]
    order = np.lexsort((place, stratum))
    first, second = order[:-1], order[1:]
    fit = (stratum[first] == stratum[second]) & (place[second] - place[first] <= NEAR)
    grouped = fit & (group[first] == group[second])
    if grouped.sum() >= 0.8 * max(fit.sum(), 1):
        return held("neighbours in name order share a group, which no split divides")
    fit &= ~grouped
    first, second = first[fit], second[fit]
    if len(first) < 100:
        return not_judged(f"only {len(first)} neighbours in name order can be compared")
    rng = np.random.default_rng(0)
    other = _random_mates(stratum, first, rng)
    valid = (other != first) & (other != second) & (group[other] != group[first])
    first, second, other = first[valid], second[valid], other[valid]
    share = max(_nearer(values, first, second, other) for values in (thumbs, facts.light))
    is_test = (rows["split"] == "test").to_numpy()
    torn = is_test[first] != is_test[second]
    agree = _label_autocorrelation(rows)
    correlated = f" (their labels correlate by {agree:.2f})" if agree else ""
    measured = (
        f"{100 * share:.0f} % of neighbours in name order look more alike than random images of "
        f"their class{correlated}"
    )
    deviations = (share - 0.5) / np.sqrt(0.25 / max(len(first), 1))
    if share < NEIGHBOUR_SHARE or deviations < 4:
        return held(measured)
    if torn.mean() < 0.05:
        return held(f"{measured}, and they lie in one split")
    return flagged(
        f"{measured}, as images cut from one scene, slide or module do, and "
        f"{100 * torn.mean():.0f} % of them are divided between test and the rest: the score may "
        "be too good. Compare with split_method = 'runs of 50', or name the groups."
    )


def file_shortcut(facts: Facts) -> Outcome:
    """Whether numbers of the file alone tell the class."""
    result = _told_by(facts.numbers, facts.rows["label"].to_numpy(str))
    if result is None:
        return not_judged("too few images, or none of the numbers differs")
    kappa, name, limit, (f1, one, by) = result
    if kappa < limit and f1 < CLASS_F1:
        return held(f"no number of the files tells the class (kappa at most {max(kappa, 0):.2f})")
    which = f"the class: {name} (kappa {kappa:.2f}"
    if kappa < limit:
        which = f"the class {one} from the others: {by} (F1 {f1:.2f}"
    return flagged(
        f"Numbers of the files alone tell {which} by cross-validation). A model may learn that "
        "instead of what is shown. Bring all files to one format and size, or collect the classes "
        "in one way."
    )


def test_shift(facts: Facts) -> Outcome:
    """Whether the same numbers tell test images from train images."""
    is_test = (facts.rows["split"] == "test").to_numpy()
    result = _shift(facts.numbers, is_test)
    if result is None:
        return not_judged("too few images, or none of the numbers differs")
    auc, name = result
    if auc < SHIFT_AUC:
        return held(f"no number of the files tells test from train (AUC at most {auc:.2f})")
    return flagged(
        f"Test images differ from train images in {name} (AUC {auc:.2f}): they come from "
        "elsewhere, and the score says how a model does there."
    )


def class_shift(facts: Facts) -> Outcome:
    """Whether train and test hold the same classes in about the same shares."""
    counts = facts.split.counts()
    new = ", ".join(map(str, counts.index[(counts["train"] == 0) & (counts["test"] > 0)]))
    if new:
        return flagged(f"Test has classes that train has not: {new}.")
    gone = ", ".join(map(str, counts.index[(counts["test"] == 0) & (counts["train"] > 0)]))
    if gone:
        return flagged(f"Test has no image of {gone}; nothing is known of these classes.")
    shares = counts[["train", "test"]] / counts[["train", "test"]].sum().clip(lower=1)
    apart = float((shares["train"] - shares["test"]).abs().sum() / 2)
    if apart < CLASS_SHIFT or _is_chance(counts["train"], counts["test"]):
        return held(f"class shares of train and test agree (they differ by {100 * apart:.0f} %)")
    name = (shares["train"] - shares["test"]).abs().idxmax()
    return flagged(
        f"The class shares of train and test differ by {100 * apart:.0f} %, most for {name}: "
        f"{100 * shares['train'][name]:.0f} % of train, {100 * shares['test'][name]:.0f} % of test."
    )


def source_split(facts: Facts) -> Outcome:
    """Whether the source's own split is used, where it has one."""
    if facts.split.source_note:
        return note(facts.split.source_note)
    is_used = facts.split.method.startswith("source")
    return held("the source's own split is used" if is_used else "the source has no split")


CHECKS: dict[str, Callable[[Facts], Outcome]] = {
    "group_columns": group_columns,
    "file_order": file_order,
    "file_shortcut": file_shortcut,
    "test_shift": test_shift,
    "class_shift": class_shift,
    "source_split": source_split,
}
OF_A_SPLIT = ("group_columns", "test_shift", "class_shift")


def _told_by(
    numbers: pd.DataFrame, labels: np.ndarray
) -> tuple[float, str, float, tuple[float, str, str]] | None:
    """Kappa, name and limit of what tells the class best in relation to its limit; and F1, class
    and name of what tells one class of at least three best.
    """
    from sklearn.metrics import cohen_kappa_score, f1_score

    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    common = counts[codes] >= 6
    codes, numbers = codes[common], numbers[common]
    varying = [name for name in numbers.columns if numbers[name].nunique() > 1]
    if not varying or len(codes) < 40 or len(np.unique(codes)) < 2:
        return None
    sample = np.random.default_rng(0).permutation(len(codes))[:MAX_ROWS]
    codes, numbers = codes[sample], numbers.iloc[sample]
    light = [name for name in varying if name in LIGHT_COLUMNS]
    container = [name for name in varying if name in FILE_COLUMNS]
    tried = [([name], FILE_KAPPA if name in FILE_COLUMNS else LIGHT_KAPPA) for name in varying]
    tried += [(names, JOINT_KAPPA) for names in (container, light) if len(names) > 1]
    results, single = [], (0.0, "", "")
    there = np.unique(codes)
    for names, limit in tried:
        predicted = _out_of_fold(numbers[names], codes, method="predict")
        results.append((float(cohen_kappa_score(codes, predicted)), names, limit))
        f1 = f1_score(codes, predicted, labels=there, average=None, zero_division=0)
        f1 = np.where((np.bincount(codes)[there] >= 20) & (len(there) > 2), f1, 0)
        best = int(f1.argmax())
        single = max(single, (float(f1[best]), str(classes[there[best]]), " and ".join(names)))
    kappa, names, limit = max(results, key=lambda result: (result[0] - result[2], -len(result[1])))
    telling = [name for value, (name, *more), own in results if not more and value >= own]
    named = " or ".join(telling) or " and ".join(names)
    return kappa, named.replace("_", " "), limit, single


def _shift(numbers: pd.DataFrame, is_test: np.ndarray) -> tuple[float, str] | None:
    """The AUC, by cross-validation, and the name of the number that tells test from train best."""
    from sklearn.metrics import roc_auc_score

    varying = [name for name in numbers.columns if numbers[name].nunique() > 1]
    sample = np.random.default_rng(0).permutation(len(is_test))[:MAX_ROWS]
    truth = is_test[sample].astype(int)
    if (
        not varying
        or min(is_test.sum(), (~is_test).sum()) < 20
        or not 10 <= truth.sum() <= len(truth) - 10
    ):
        return None
    results = []
    for name in varying:
        predicted = _out_of_fold(numbers[[name]].iloc[sample], truth, method="predict_proba")
        results.append((float(roc_auc_score(truth, predicted[:, 1])), name.replace("_", " ")))
    return max(results)


def _out_of_fold(numbers: pd.DataFrame, codes: np.ndarray, *, method: str) -> np.ndarray:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    smallest = max(5, len(codes) // 200)
    model = DecisionTreeClassifier(max_leaf_nodes=64, min_samples_leaf=smallest, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return cross_val_predict(model, numbers.to_numpy(float), codes, cv=folds, method=method)


def _nearer(values: np.ndarray, one: np.ndarray, near: np.ndarray, other: np.ndarray) -> float:
    """The share of images that lie nearer to their neighbour than to another image."""
    to_near = ((values[one] - values[near]) ** 2).sum(axis=1)
    to_other = ((values[one] - values[other]) ** 2).sum(axis=1)
    return float(((to_near < to_other) + 0.5 * (to_near == to_other)).mean())


def _random_mates(stratum: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each chosen image a random one of its stratum."""
    order = np.argsort(stratum, kind="stable")
    counts = np.bincount(stratum)
    starts = np.cumsum(counts) - counts
    picked = (rng.random(len(chosen)) * counts[stratum[chosen]]).astype(np.int64)
    return order[starts[stratum[chosen]] + picked]


def _label_autocorrelation(rows: pd.DataFrame) -> float | None:
    """How much more often neighbours in name order bear one label than random images do, 0..1.

    None where each folder holds one class: then the order of paths is that of the classes.
    """
    folder = rows["path"].str.rpartition("/")[0]
    if (rows.groupby(folder.to_numpy())["label"].nunique() < 2).mean() > 0.5:
        return None
    order = groups.name_order(rows["path"].tolist())
    labels, own = rows["label"].to_numpy(str)[order], folder.to_numpy()[order]
    inside = own[:-1] == own[1:]
    if inside.sum() < 100:
        return None
    shares = pd.Series(labels).value_counts(normalize=True)
    expected = float((shares**2).sum())
    agree = float((labels[:-1] == labels[1:])[inside].mean())
    return (agree - expected) / max(1 - expected, 1e-9)


def _is_chance(train: pd.Series, test: pd.Series) -> bool:
    from scipy.stats import chi2_contingency

    table = np.array([train, test], float)
    table = table[:, table.sum(axis=0) > 0]
    return bool(chi2_contingency(table).pvalue > 0.001)
