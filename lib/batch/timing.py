"""How long a study will still take, guessed from the runs that have ended and the epochs of those
at work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from lib.batch.scheduler import ENDED, Report
from lib.batch.status import Standing


def seconds_left(
    report: Report, running: Sequence[Standing], *, now: float | None = None
) -> float | None:
    """Returns the seconds until all runs that can be guessed have ended, or None while nothing can
    be.

    A run is taken to last as long as the mean of its arm, else of its stage; one at work is
    projected from its epochs.
    """
    now = time.time() if now is None else now
    projected = {f"{one.stage}/{one.unit}": _projected(one, now) for one in running}
    known = {
        unit: seconds
        for unit, seconds in report.seconds.items()
        if report.states[unit] == "finished"
    }
    lasting = _means(
        report, {**{unit: both[0] for unit, both in projected.items() if both}, **known}
    )
    left = []
    for unit in report.study.units():
        if report.states[unit.id] in ENDED:
            continue
        whole = lasting.get((unit.stage, unit.arm), lasting.get((unit.stage, None)))
        if (found := projected.get(unit.id)) is not None:
            left.append(found[1])
        elif whole is not None:
            started = next(
                (
                    one.progress.get("started", now)
                    for one in running
                    if f"{one.stage}/{one.unit}" == unit.id
                ),
                now,
            )
            left.append(max(0.0, whole - (now - started)))
    if not left:
        return None
    return max(max(left), sum(left) / max(1, report.slots))


def spoken(seconds: float) -> str:
    """Returns a duration as a person says it: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _projected(one: Standing, now: float) -> tuple[float, float] | None:
    """(whole, left) seconds of a run at work, from its epochs."""
    epoch, epochs, started = (one.progress.get(name) for name in ("epoch", "epochs", "started"))
    if not epoch or not epochs or started is None:
        return None
    passed = max(0.0, now - started)
    return passed * epochs / epoch, passed * max(0, epochs - epoch) / epoch


def _means(report: Report, seconds: dict[str, float]) -> dict[tuple[str, str | None], float]:
    gathered: dict[tuple[str, str | None], list[float]] = {}
    for unit in report.study.units():
        if unit.id in seconds:
            for key in {(unit.stage, unit.arm), (unit.stage, None)}:
                gathered.setdefault(key, []).append(seconds[unit.id])
    return {key: statistics.fmean(values) for key, values in gathered.items()}
