"""The question put to a feature space: which labels does it separate, the one it was trained on and
every other?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.embeddings import label_columns, probes, quality
from lib.embeddings.probes import Probe
from lib.embeddings.record import TITLES
from lib.errors import DarkroomError
from lib.evaluation import separation

_MOST_SILHOUETTE = 2_000
_NEIGHBOURS = 10
_SPLIT = "the split as a label"


def ask(
    spaces: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    target: str = "label",
    shuffles: int = probes.SHUFFLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns one row a label column: what a linear probe, neighbours and silhouette say in the
    first space.

    The split itself is asked about too: a space that tells train from test has learnt its training
    images by heart, or the split was not random. Where there is a second space, `before` holds its
    probe's accuracy and `gain` the difference on the same test images.

    Args:
        spaces: one or two spaces by name, each (n, d); the numbers are of the first. Only one
            called `trained` was trained on the target. table: n rows with `split`, `group` and the
            label columns. target: the column that the network was trained on, or would be.
    """
    rows = [_asked(spaces, table, name, shuffles, seed) for name in label_columns.names(table)]
    rows.append(_asked(spaces, _divided(table, seed), "split", shuffles, seed))
    found = pd.DataFrame([row for row in rows if row is not None])
    if found.empty:
        raise DarkroomError(
            "No label column has two classes with enough train and test images to be asked about."
        )
    found.insert(1, "trained_on", (found["column"] == target) & (next(iter(spaces)) == "trained"))
    return found.reset_index(drop=True)


def sentences(asked: pd.DataFrame, *, space: str = "trained", label: str = "class") -> list[str]:
    """Returns the answer for each column in words, made from the numbers alone; `label` is what the
    label is called.
    """
    told = []
    for row in asked.to_dict("records"):
        name = label_columns.title(row["column"], label)
        accuracy, low, high, majority, shuffled = (
            f"{100 * row[key]:.1f}\u00a0%"
            for key in ("accuracy", "low", "high", "majority", "shuffled")
        )
        numbers = (
            f"a linear probe names {accuracy} of {row['num_test']:,} held-out images rightly "
            f"(95\u00a0% {low} to {high}); "
            f"always saying the most frequent would reach {majority}, shuffled labels {shuffled}"
        )
        if row["column"] == "split":
            apart, alike = (
                "can be told apart: it remembers what it was trained on, or they differ",
                "look alike to it",
            )
            verdict = apart if row["is_significant"] else alike
            told.append(f"Train and test images {verdict} ({numbers}).")
            continue
        role = "which it was trained on" if row["trained_on"] else "which it was not trained on"
        verdict = "separates" if row["is_significant"] else "is not shown to separate"
        what = f"The {TITLES.get(space, space)} network {verdict} {name} ({row['num_classes']} classes, {role})"
        told.append(f"{what}: {numbers}.{_gained(row)}")
    return told


def map_sentences(
    qualities: Mapping[str, quality.Quality], titles: Mapping[str, str], *, against: str = "pca"
) -> list[str]:
    """Returns the hypothesis of the source study, held against these maps: does each method beat
    PCA?
    """
    told = []
    for name in qualities:
        if name == against or against not in qualities:
            continue
        parts = []
        for each in quality.compare(dict(qualities), first=name, second=against):
            own, other = (
                float(getattr(qualities[method], each.measure).mean()) for method in (name, against)
            )
            word = {name: "better", against: "worse"}.get(
                each.verdict.removesuffix(" is better"), "no difference shown"
            )
            parts.append(
                f"{each.measure} {own:.3f} against {other:.3f} ({word}, {each.low:+.3f} to "
                f"{each.high:+.3f})"
            )
        told.append(f"{titles[name]} against {titles[against]}: {'; '.join(parts)}.")
    return told


def _gained(row: Mapping[str, Any]) -> str:
    if row.get("before") is None or np.isnan(row.get("before", np.nan)):
        return ""
    word = (
        "more than"
        if row["gain_low"] > 0
        else "less than"
        if row["gain_high"] < 0
        else "not shown to differ from"
    )
    name = TITLES.get(row["before_name"], row["before_name"])
    return (
        f" That is {word} the {name} network ({100 * row['before']:.1f}\u00a0%; difference "
        f"{100 * row['gain']:+.1f} points, 95\u00a0% {100 * row['gain_low']:+.1f} to "
        f"{100 * row['gain_high']:+.1f})."
    )


def _divided(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The split as a label, judged on a division of its own, by group, that knows nothing of it."""
    generator = np.random.default_rng(seed)
    groups, place = np.unique(table["group"], return_inverse=True)
    draw = generator.random(len(groups))[place]
    judged = np.where(draw < 0.6, "train", np.where(draw < 0.7, "val", "test"))
    known = table["split"].where(table["split"].isin(["train", "test"]))
    return pd.DataFrame({"group": table["group"], "split": judged, _SPLIT: known})


def _asked(
    spaces: Mapping[str, np.ndarray], table: pd.DataFrame, name: str, shuffles: int, seed: int
) -> dict[str, Any] | None:
    labels = label_columns.classes(table[_SPLIT if name == "split" else name])
    chosen = np.flatnonzero(labels.notna() & table["split"].isin(["train", "val", "test"]))
    kept, split = labels.iloc[chosen], table["split"].iloc[chosen].to_numpy()
    groups = table["group"].iloc[chosen].to_numpy()
    (first, features), *others = spaces.items()
    mine = np.asarray(features[chosen], np.float32)
    try:
        probe = probes.linear(mine, kept, splits=split, groups=groups, shuffles=shuffles, seed=seed)
        pure = separation.measure(mine, kept, splits=split, groups=groups, neighbours=_NEIGHBOURS)
    except DarkroomError:
        # too few held-out images of this column; the notebook shows which columns were asked
        return None
    told = {
        "column": name,
        "num_classes": probe.num_classes,
        "num_test": len(probe.test),
        "accuracy": probe.accuracy,
        "low": probe.low,
        "high": probe.high,
        "majority": probe.majority,
        "shuffled": probe.shuffled,
        "p": probe.p,
        "is_significant": probe.is_significant,
        "purity": pure.purity,
        "purity_shuffled": pure.baseline,
        "purity_p": pure.p,
        "silhouette": _silhouette(mine[probe.test], kept.iloc[probe.test].to_numpy(), seed),
    }
    for other, theirs in others[:1]:
        theirs = np.asarray(theirs[chosen], np.float32)
        try:
            earlier = probes.linear(
                theirs, kept, splits=split, groups=groups, shuffles=1, seed=seed
            )
        except (
            DarkroomError
        ):  # a network in which every image looks the same has nothing to be compared with
            continue
        told |= {"before_name": other, "before": earlier.accuracy, **_gain(probe, earlier)}
    return told


def _gain(probe: Probe, earlier: Probe) -> dict[str, float]:
    apart = probe.right.astype(float) - earlier.right
    low, high = probes.interval(apart, probe.groups)
    return {"gain": float(apart.mean()), "gain_low": low, "gain_high": high}


def _silhouette(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    from sklearn.metrics import silhouette_score

    if len(labels) > _MOST_SILHOUETTE:
        rows = np.random.default_rng(seed).choice(len(labels), _MOST_SILHOUETTE, replace=False)
        features, labels = features[rows], labels[rows]
    if not 1 < len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(features, labels.astype(str)))
