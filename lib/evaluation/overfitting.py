"""Overfitting: the gap between training and validation accuracy, and where the loss turned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from lib.evaluation import run_records

if TYPE_CHECKING:
    from lib.evaluation.comparison import Comparison

_RISE = 0.05  # of the lowest loss; a smaller rise changes nothing, however sure it is
_LEAST_EPOCHS = 3  # after the minimum: fewer say nothing
_JITTERS = 3.0  # standard errors of the curve's own jitter that a rise must exceed
_MANY_JITTERS = 10.0  # a rise this far beyond them needs no trend: the loss may have levelled off
_TREND_LEVEL = 0.01
_WIDE_GAP = 0.1


def diagnose(
    history: pandas.DataFrame, *, train_accuracy: float, val_accuracy: float
) -> dict[str, Any]:
    """The diagnosis of one training.

    A validation loss has turned where the mean of the last three epochs, all after its minimum,
    lies five per cent above the smoothed minimum, further than the jitter of the curve explains,
    and the epochs from the minimum on show a rising trend (Kendall's test at 1 %): a curve that
    wanders, or has an outlier, goes up after its lowest point without one. The jitter is the median
    of the second differences, which a steady rise or fall leaves out.

    Args:
        history: one row an epoch with `epoch`, `loss` and `val_loss`; of several phases the last
            one counts.
        train_accuracy: of the kept weights on training images, without augmentation and dropout.
        val_accuracy: of the same weights on validation images.

    Returns:
        `gap`, training minus validation accuracy; `turned_at`, the epoch of the lowest validation
        loss where it has turned, else None; `rise`, how much higher it ended (0.2 for 20 %);
        `epochs`, their number.
    """
    history = run_records.epochs(history)
    last = history
    if len(history) and "phase" in history:
        last = history[history["phase"] == history["phase"].iloc[-1]]
    val_loss = last["val_loss"].to_numpy(float)
    turned_at, rise = _turn(val_loss)
    gap = float(train_accuracy - val_accuracy)
    return {
        "gap": gap,
        "turned_at": None if turned_at is None else int(last["epoch"].iloc[turned_at]),
        "rise": rise,
        "epochs": len(last),
    }


def sentence(diagnosis: dict[str, Any]) -> str:
    """The diagnosis in words."""
    gap = f"Training accuracy is {_gap(diagnosis['gap'])}"
    if diagnosis.get("epochs") == 0:
        return f"{gap}."
    if diagnosis["turned_at"] is None:
        return f"{gap}; the validation loss had not turned when training ended."
    rise = f"{100 * diagnosis['rise']:.0f} % above its minimum"
    return (
        f"{gap}; the validation loss turned after epoch {diagnosis['turned_at']} and ended {rise}."
    )


def _gap(gap: float) -> str:
    side = "above" if gap >= 0 else "below"
    sign = ", a sign of overfitting" if gap >= _WIDE_GAP else ""
    return f"{100 * abs(gap):.1f} points {side} validation accuracy{sign}"


def _turn(val_loss: np.ndarray) -> tuple[int | None, float]:
    finite = val_loss[np.isfinite(val_loss)]
    if len(finite) < _LEAST_EPOCHS + 2 or len(finite) < len(val_loss):
        return None, 0.0
    lowest = int(val_loss.argmin())
    after = val_loss[lowest + 1 :]
    floor = max(float(val_loss[lowest]), np.finfo(float).tiny)
    rise = max(0.0, float(val_loss[-_LEAST_EPOCHS:].mean()) / floor - 1)
    if len(after) < _LEAST_EPOCHS:
        return None, rise
    # Around the minimum, which is low partly by chance: the mean of it and its neighbours.
    around = float(val_loss[max(0, lowest - 1) : lowest + 2].mean())
    end = float(after[-_LEAST_EPOCHS:].mean())
    jitter = float(np.median(np.abs(np.diff(val_loss, 2)))) / 0.6745 / np.sqrt(6)
    error = jitter * np.sqrt(1 / min(3, lowest + 2) + 1 / _LEAST_EPOCHS)
    is_higher = end - around > max(_JITTERS * error, _RISE * around)
    is_turned = is_higher and (end - around > _MANY_JITTERS * error or _rises(val_loss[lowest:]))
    return (lowest if is_turned else None), rise


def _rises(values: np.ndarray) -> bool:
    from scipy.stats import kendalltau

    trend = kendalltau(np.arange(len(values)), values, alternative="greater")
    return bool(trend.pvalue < _TREND_LEVEL)


def table(compared: Comparison) -> pandas.DataFrame:
    """One row an arm: the mean gap in points, how many runs turned, and the median epoch of it.

    Arms whose runs were not diagnosed, such as those of baselines, are left out.
    """
    rows: list[dict[str, Any]] = []
    for arm, runs in compared.arms.items():
        diagnoses = [run.result["overfitting"] for run in runs if run.result.get("overfitting")]
        if not diagnoses:
            continue
        rise = 100 * np.mean([one["rise"] for one in diagnoses])
        turns = [one["turned_at"] for one in diagnoses if one["turned_at"] is not None]
        rows.append(
            {
                "arm": arm,
                "gap in points": round(100 * float(np.mean([one["gap"] for one in diagnoses])), 1),
                "runs that turned": f"{len(turns)} of {len(diagnoses)}",
                "turned at epoch": f"{np.median(turns):g}" if turns else "never",
                "rise of the validation loss": f"{rise:.0f} %",
            }
        )
    return pandas.DataFrame(rows, columns=None if rows else ["arm"])


def sentences(compared: Comparison) -> list[str]:
    """The table in words, one sentence an arm, and how many fine-tuned runs kept their head."""
    lines = []
    for row in table(compared).to_dict("records"):
        turned = f"; the validation loss turned in {row['runs that turned']} runs"
        lines.append(
            f"{row['arm']}: training accuracy, without augmentation, is "
            f"{_gap(row['gap in points'] / 100)}{turned * (row['turned at epoch'] != 'never')}."
        )
        runs = compared.arms[row["arm"]]
        kept = [(run.result.get("selection") or {}).get("kept") for run in runs]
        if "head" in kept:
            lines[-1] += (
                f" {kept.count('head')} of {len(kept)} runs kept the head on frozen features, "
                "since fine-tuning did not lower the validation loss."
            )
    return lines
