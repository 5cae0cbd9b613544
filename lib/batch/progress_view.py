"""What a person sees of a study at work: one live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from lib import files, paths
from lib.batch.scheduler import ENDED, Report
from lib.batch.status import Standing

if TYPE_CHECKING:
    from rich.console import RenderableType


_EVERY_S = 30.0
_MARKS = {
    "finished": "done",
    "failed": "FAILED",
    "killed": "stopped",
    "blocked": "left out",
    "submitted": "queued",
}


class Silent:
    """Shows nothing."""

    def event(self, unit: str, state: str, note: str) -> None:
        """Ignores it."""

    def tick(self, report: Report) -> None:
        """Ignores it."""


class Lines:
    """One line for each thing that happens, and every half minute how far the runs at work are."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = self._told = time.monotonic()

    def event(self, unit: str, state: str, note: str) -> None:
        """Writes a line, except for runs that are skipped."""
        if state in _MARKS:
            self._write(f"{_MARKS[state]:>8}  {unit}" + (f"  ({note})" if note else ""))

    def tick(self, report: Report) -> None:
        """Writes how far the runs at work are, if the last time is long ago."""
        if time.monotonic() - self._told < _EVERY_S:
            return
        self._told = time.monotonic()
        running = at_work(report)
        for one in running:
            self._write(f" at work  {one.stage}/{one.unit}  {one.line()}")
        self._write(f"          {summary(report, running)}")

    def _write(self, line: str) -> None:
        passed = int(time.monotonic() - self._started)
        print(f"{passed // 60:3d}:{passed % 60:02d} {line}", file=self._stream, flush=True)


class Live:
    """One table that is drawn anew twice a second; use it in a `with` block."""

    def __init__(self) -> None:
        from rich.live import Live as RichLive

        self._live = RichLive(auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> Live:
        """Begins to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clears what was drawn."""
        self._live.stop()

    def event(self, unit: str, state: str, note: str) -> None:
        """Leaves a line above the table for a run that failed."""
        if state == "failed":
            self._live.console.print(f"[bold red]failed[/]  {unit}  {_plain(note)}")

    def tick(self, report: Report) -> None:
        """Draws the table."""
        if time.monotonic() - self._drawn >= 0.5:
            self._drawn = time.monotonic()
            self._live.update(_table(report), refresh=True)


def view(*, quiet: bool = False) -> Any:
    """Returns the view that fits: live in a terminal, lines elsewhere, nothing when `quiet`; use it
    in a `with` block.
    """
    import contextlib

    if quiet:
        return contextlib.nullcontext(Silent())
    return Live() if sys.stdout.isatty() else contextlib.nullcontext(Lines())


def at_work(report: Report) -> list[Standing]:
    """Returns the runs that are computing now. They begin in order, so only the first that wait are
    looked at.
    """
    found: list[Standing] = []
    looked = 0
    for unit in report.study.units():
        if report.states[unit.id] != "submitted":
            continue
        looked += 1
        folder = paths.run(report.study.folder, unit.stage, unit.name)
        progress = files.read_json(folder / "progress.json") or {}
        if progress.get("state") == "running":
            found.append(Standing(unit.stage, unit.name, "running", progress))
        if len(found) >= report.slots or looked > 4 * report.slots + 8:
            break
    return found


def summary(report: Report, running: list[Standing]) -> str:
    """Returns one line: how many runs are done, failed and left, and how long it will take."""
    told = [f"{report.count('finished', 'skipped')} of {len(report.states)} runs done"]
    told += [
        f"{num} {_MARKS[state].lower()}"
        for state in ("failed", "blocked")
        if (num := report.count(state))
    ]
    left = seconds_left(report, running)
    told.append(f"{spoken(time.time() - report.started)} so far")
    if left is not None:
        told.append(f"about {spoken(left)} left")
    if report.stopping:
        told.append("stopping: runs at work end first, Ctrl-C again stops them too")
    return ", ".join(told)


def _table(report: Report) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    running = at_work(report)
    stages = Table(box=None, pad_edge=False)
    for column in ("stage", "done", "at work", "queued", "failed"):
        stages.add_column(column, justify="left" if column == "stage" else "right")
    for stage in report.study.stages:
        states = [report.states[unit.id] for unit in stage.units]
        work = sum(one.stage == stage.name for one in running)
        done = sum(state in ("finished", "skipped") for state in states)
        failed = sum(state in ("failed", "blocked", "killed") for state in states)
        counts = (done, work, len(states) - done - failed - work, failed)
        stages.add_row(stage.name, *(str(number) if number else "·" for number in counts))
    work = Table(box=None, pad_edge=False, show_header=False)
    for one in running:
        work.add_row(f"{one.stage}/{one.unit}", one.line())
    return Group(
        Text(report.study.question, style="bold"),
        stages,
        Text(),
        work,
        Text(),
        Text(summary(report, running)),
    )


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


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
