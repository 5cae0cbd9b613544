"""Checks of published tables: what their numbers imply, and where they contradict.

A printed number stands for everything that rounds to it, so every bound here is widened by half its
last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.errors import DarkroomError

COLUMNS = ("precision", "recall", "f1", "support")


def kappa_range(accuracy: float, support: Sequence[int]) -> tuple[float, float]:
    """The kappas that an accuracy allows where the true classes have these numbers of images,
    whatever was predicted.

    Expected agreement is a mean of the true shares weighted by the predicted ones, so it lies
    between the smallest and the largest share; with equal classes kappa is fixed by accuracy.
    """
    shares = np.asarray(support, dtype=np.float64) / np.sum(support)
    low, high = (
        (accuracy - expected) / (1 - expected) for expected in (shares.max(), shares.min())
    )
    return float(low), float(high)


def kappa_contradiction(
    *, accuracy: float, kappa: float, support: Sequence[int], digits: int = 4
) -> str | None:
    """Why an accuracy and a kappa printed with `digits` decimals cannot come from one confusion
    matrix; None if they can.
    """
    rounding = 0.5 * 10.0**-digits
    low = kappa_range(accuracy - rounding, support)[0] - rounding
    high = kappa_range(accuracy + rounding, support)[1] + rounding
    if low <= kappa <= high:
        return None
    return (
        f"An accuracy of {accuracy:.4f} on these classes goes with a kappa of {low:.3f} to "
        f"{high:.3f}, "
        f"not with {kappa:.4f}: the two numbers come from different predictions."
    )


def overall(report: pd.DataFrame, *, digits: int = 2) -> dict[str, tuple[float, float]]:
    """The least and the greatest accuracy, macro and weighted averages that a printed report's
    classes allow.

    `report` has one row a class and the columns `precision recall f1 support`, printed with
    `digits` decimals. Accuracy is the recalls weighted by support. Names: `accuracy`,
    `macro_precision`, …, `weighted_f1`.
    """
    _check(report)
    rounding, support = 0.5 * 10.0**-digits, report["support"].to_numpy(dtype=np.float64)
    middle = {f"macro_{name}": float(report[name].mean()) for name in COLUMNS[:3]}
    middle |= {
        f"weighted_{name}": float(np.average(report[name], weights=support)) for name in COLUMNS[:3]
    }
    middle["accuracy"] = middle["weighted_recall"]
    return {
        name: (max(0.0, value - rounding), min(1.0, value + rounding))
        for name, value in middle.items()
    }


def contradictions(
    report: pd.DataFrame, stated: Mapping[str, float], *, digits: int = 2
) -> list[str]:
    """Every overall number of `told` (names as in `overall`, and `num_images`) that the report's
    own classes do not allow.

    A number of `told` stands for itself where it has more decimals than `digits`, else for what
    rounds to it.
    """
    allowed, messages = overall(report, digits=digits), []
    for name, value in stated.items():
        if name == "num_images":
            total = int(report["support"].sum())
            if total != value:
                messages.append(
                    f"The classes have {total:,} images, the report says {int(value):,}."
                )
            continue
        rounding = 0.5 * 10.0**-digits if round(value, digits) == value else 0.0
        low, high = allowed[name]
        if not low - rounding <= value <= high + rounding:
            label = name.replace("_", " ")
            messages.append(
                f"The classes allow {label} {low:.3f} to {high:.3f}, the report says {value:g}."
            )
    return messages


def kappa(report: pd.DataFrame) -> float:
    """Cohen's kappa as a printed report implies it, to within its rounding.

    How often a class was predicted follows from its hits and its precision; a class without a hit
    leaves that open, and shares what the others leave over.
    """
    _check(report)
    support = report["support"].to_numpy(dtype=np.float64)
    hits, precision = (
        report["recall"].to_numpy() * support,
        report["precision"].to_numpy(dtype=np.float64),
    )
    known = (hits > 0) & (precision > 0)
    predicted = np.divide(hits, precision, out=np.zeros_like(hits), where=known)
    total = support.sum()
    if (~known).any():
        predicted[~known] = max(0.0, total - predicted.sum()) / (~known).sum()
    expected = float(support @ predicted) / (total * predicted.sum())
    return float((hits.sum() / total - expected) / (1 - expected))


def _check(report: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in report.columns]
    if missing or report.empty:
        raise DarkroomError(
            f"A printed report has one row a class and the columns {', '.join(COLUMNS)}. "
            f"Received {len(report)} rows, without {', '.join(missing) or 'none'}."
        )
