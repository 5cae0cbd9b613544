"""Whether a training learnt its pictures by heart: the gap between train and validation, and where validation turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

_RISE = 1.05  # the validation loss has turned when it ends five per cent above its lowest point
_LAST = 3  # epochs whose mean is the end, since one alone is noisy
_WIDE = 0.1


def diagnose(history: pandas.DataFrame, *, train_accuracy: float, val_accuracy: float) -> dict[str, Any]:
    """Returns the diagnosis of one training.

    Args:
        history: one row an epoch with `epoch`, `loss` and `val_loss`; of several phases the last one counts.
        train_accuracy: of the kept weights on train images as they are, without augmentation and dropout.
        val_accuracy: of the same weights on validation images.

    Returns:
        `gap`, train minus validation accuracy; `turned_at`, the epoch of the lowest validation loss where it has risen by
        5 % or more since, else None; `rise`, how much higher it ended (0.2 for 20 %); `verdict`, one of `none`, `memorised`
        (a gap of 10 points or more), `past_its_best` (it turned, and kept weights escaped it), `both`.
    """
    last = history[history["phase"] == history["phase"].iloc[-1]] if "phase" in history else history
    val_loss = last["val_loss"].to_numpy(float)
    lowest = int(val_loss.argmin())
    after = val_loss[max(lowest + 1, len(val_loss) - _LAST) :]
    rise = float(after.mean() / max(val_loss[lowest], np.finfo(float).tiny) - 1) if len(after) else 0.0
    turned = rise >= _RISE - 1
    gap = float(train_accuracy - val_accuracy)
    verdict = {(False, False): "none", (True, False): "memorised", (False, True): "past_its_best", (True, True): "both"}
    turned_at = int(last["epoch"].iloc[lowest]) if turned else None
    return {"gap": gap, "turned_at": turned_at, "rise": max(0.0, rise), "verdict": verdict[gap >= _WIDE, turned]}


def sentence(found: dict[str, Any]) -> str:
    """Returns the diagnosis in words."""
    gap = f"The kept weights name train images {100 * found['gap']:+.1f} points better than validation images"
    if found["gap"] >= _WIDE:
        gap += ", so part of what they know is these very pictures"
    if found["turned_at"] is None:
        return f"{gap}; the validation loss had not turned when the training ended."
    return f"{gap}; the validation loss turned after epoch {found['turned_at']} and ended {found['rise']:.0%} above its lowest."
