"""Whether a training learnt its pictures by heart: the gap between train and validation, and where
validation turned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

if TYPE_CHECKING:
    from lib.evaluation.comparison import Comparison

_RISE = 1.05  # the validation loss has turned when it ends five per cent above its lowest point
_LAST = 3  # epochs whose mean is the end, since one alone is noisy
_WIDE = 0.1


def diagnose(
    history: pandas.DataFrame, *, train_accuracy: float, val_accuracy: float
) -> dict[str, Any]:
    """Returns the diagnosis of one training.

    Args:
        history: one row an epoch with `epoch`, `loss` and `val_loss`; of several phases the last
            one counts. train_accuracy: of the kept weights on train images as they are, without
            augmentation and dropout. val_accuracy: of the same weights on validation images.

    Returns:
        `gap`, train minus validation accuracy; `turned_at`, the epoch of the lowest validation loss
        where it has risen by 5 % or more since, else None; `rise`, how much higher it ended (0.2
        for 20 %); `verdict`, one of `none`, `memorised` (a gap of 10 points or more),
        `past_its_best` (it turned, and kept weights escaped it), `both`.
    """
    last = history[history["phase"] == history["phase"].iloc[-1]] if "phase" in history else history
    val_loss = last["val_loss"].to_numpy(float)
    lowest = int(val_loss.argmin())
    after = val_loss[max(lowest + 1, len(val_loss) - _LAST) :]
    rise = (
        float(after.mean() / max(val_loss[lowest], np.finfo(float).tiny) - 1) if len(after) else 0.0
    )
    turned = rise >= _RISE - 1
    gap = float(train_accuracy - val_accuracy)
    verdict = {
        (False, False): "none",
        (True, False): "memorised",
        (False, True): "past_its_best",
        (True, True): "both",
    }
    turned_at = int(last["epoch"].iloc[lowest]) if turned else None
    return {
        "gap": gap,
        "turned_at": turned_at,
        "rise": max(0.0, rise),
        "verdict": verdict[gap >= _WIDE, turned],
    }


def sentence(found: dict[str, Any]) -> str:
    """Returns the diagnosis in words."""
    better = "better" if found["gap"] >= 0 else "worse"
    gap = f"The kept weights name train images {100 * abs(found['gap']):.1f} points {better} than validation images"
    if found["gap"] >= _WIDE:
        gap += ", so part of what they know is these very pictures"
    if found["turned_at"] is None:
        return f"{gap}; the validation loss had not turned when the training ended."
    rise = f"{100 * found['rise']:.0f} % above its lowest"
    return f"{gap}; the validation loss turned after epoch {found['turned_at']} and ended {rise}."


def table(compared: Comparison) -> pandas.DataFrame:
    """Returns one row an arm: the mean gap in points, how many of its runs turned, and the median
    epoch at which they did.

    Arms whose runs were not diagnosed, such as those of classic models, are left out.
    """
    rows = []
    for arm, units in compared.arms.items():
        found = [unit.result["overfitting"] for unit in units if unit.result.get("overfitting")]
        if not found:
            continue
        turns = [each["turned_at"] for each in found if each["turned_at"] is not None]
        rows.append(
            {
                "arm": arm,
                "gap in points": round(100 * float(np.mean([each["gap"] for each in found])), 1),
                "runs that turned": f"{len(turns)} of {len(found)}",
                "turned at epoch": f"{np.median(turns):g}" if turns else "never",
                "rise of the validation loss": f"{100 * np.mean([each['rise'] for each in found]):.0f} %",
            }
        )
    return pandas.DataFrame(rows)
