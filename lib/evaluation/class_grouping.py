"""Merges classes: a model of five classes evaluated on one class against the rest.

Folding adds up probabilities, so that the folded model answers the question it was not trained for
as well as it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.errors import DarkroomError, suggest
from lib.evaluation import paired_tests
from lib.evaluation.paired_tests import Pair
from lib.evaluation.predictions import Predictions, probability_columns

MARK = " folded"
"""Ends the data hash of a folded table, whose labels are no longer those that were hashed."""


def fold(
    predictions: Predictions, groups: Mapping[str, str], *, rest: str | None = None
) -> Predictions:
    """The same images with coarser classes; a group's probability is the sum of its classes'.

    Args:
        predictions: a table of kind probability.
        groups: class name to group name; the group names, sorted, are the new classes.
        rest: the group of every class that `groups` does not name; without it each must be named.

    Raises:
        DarkroomError: scores or several labels an image, an unknown class, one without a group, or
            only one group.
    """
    if predictions.kind != "probability":
        raise DarkroomError(
            f"Only probabilities can be added up. Received kind {predictions.kind!r} "
            f"({predictions.run})."
        )
    names = list(predictions.class_names)
    strange = [name for name in groups if name not in names]
    lacking = [] if rest is not None else [name for name in names if name not in groups]
    if strange or lacking:
        raise DarkroomError(
            f"Each of the classes {', '.join(names)} needs a group. "
            f"Without one: {', '.join(lacking) or 'none'}. Unknown: {', '.join(strange) or 'none'}."
            f"{suggest(strange[0], names) if strange else ''}"
        )
    owner = {name: groups.get(name, rest) for name in names}
    coarse = sorted(set(owner.values()))
    if len(coarse) < 2:
        raise DarkroomError(f"Folding must leave two groups at least. Received: {coarse}.")
    member = np.array(
        [[owner[name] == group for group in coarse] for name in names], dtype=np.float32
    )  # (classes, groups)
    summed = np.clip(predictions.probabilities @ member, 0, 1)
    frame = predictions.frame.drop(columns=probability_columns(names)).reset_index(drop=True)
    frame["label"] = frame["label"].map(owner)
    frame = pd.concat([frame, pd.DataFrame(summed, columns=probability_columns(coarse))], axis=1)
    about = {
        "data_hash": predictions.data_hash + MARK,
        "target": predictions.target + MARK,
        "evaluated": {},
    }
    return replace(predictions, frame=frame, class_names=tuple(coarse), **about)


def shared(
    first: Predictions, second: Predictions, *, split: str = "test"
) -> tuple[Predictions, Predictions]:
    """Both tables with those rows of `split` alone whose images both have; rows of other splits
    stay as they are.

    Raises:
        DarkroomError: no image is in both, or the same image bears two labels.
    """
    one, other = (table.split(split).frame.set_index("path")["label"] for table in (first, second))
    both = one.index.intersection(other.index)
    if both.empty:
        raise DarkroomError(
            f"{first.run or 'One'} and {second.run or 'the other'} have no image of {split} in "
            "common."
        )
    if not one[both].equals(other[both]):
        raise DarkroomError(
            f"{first.run or 'One'} and {second.run or 'the other'} give the same image two labels."
        )
    kept = [
        table.frame[(table.frame["split"] != split) | table.frame["path"].isin(both)]
        for table in (first, second)
    ]
    return replace(first, frame=kept[0]), replace(second, frame=kept[1])


def compare(
    fine: Mapping[int, Predictions],
    coarse: Mapping[int, Predictions],
    *,
    groups: Mapping[str, str],
    rest: str | None = None,
    names: tuple[str, str] = ("folded", "direct"),
    metric: str = "accuracy",
) -> Pair:
    """The paired comparison of a model of many classes, folded, with one trained on the groups
    themselves.

    `fine` and `coarse` map a seed to its run; each seed's pair is judged on the test images that
    both have.
    """
    seeds = sorted(set(fine) & set(coarse))
    if not seeds:
        raise DarkroomError(
            f"{names[0]} and {names[1]} have no seed in common, so nothing pairs them."
        )
    cut = {seed: shared(fold(fine[seed], groups, rest=rest), coarse[seed]) for seed in seeds}
    first, second = ({seed: both[place] for seed, both in cut.items()} for place in (0, 1))
    return paired_tests.compare(first, second, names=names, metric=metric)
