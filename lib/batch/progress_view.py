"""Progress of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from lib import paths
from lib.batch import plan
from lib.batch.notebook_job import OUTPUT
from lib.batch.parameter_grid import RunSpec
from lib.batch.plan import ENDED, Durations, Report
from lib.batch.status import RunStatus
from lib.errors import few
from lib.runs import record

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVERY_S = 30.0
_DRAW_S = 0.5
_TAIL = 1.15  # scoring and figures follow the last epoch
_BAR = 24  # characters
_NAMED = 2
_MARKS = {
    "finished": "done",
    "failed": "FAILED",
    "killed": "stopped",
    "blocked": "left out",
    "submitted": "queued",
}


class Lines:
    """One line for each event, and every half minute how far the running runs are; none of it where
    `quiet`.
    """

    def __init__(
        self, stream: IO[str] | None = None, *, log_output: bool = False, quiet: bool = False
    ) -> None:
        self._stream, self._quiet = stream or sys.stdout, quiet
        self._started = self._reported = time.monotonic()
        self._output = _Output() if log_output else None

    def event(self, run: str, state: str, note: str) -> None:
        """Writes a line, except for runs that are skipped."""
        if state in _MARKS:
            self._write(f"{_MARKS[state]:>8}  {run}" + (f"  ({note})" if note else ""))

    def tick(self, report: Report) -> None:
        """Writes new output, and now and then how far the running runs are."""
        for line in self._output.new_lines(report) if self._output else ():
            print(line, file=self._stream, flush=True)
        if time.monotonic() - self._reported < _EVERY_S or self._quiet:
            return
        self._reported = time.monotonic()
        running = at_work(report)
        for run in running:
            self._write(f" running  {run.id}  {run.line()}")
        self._write(f"          {summary(report, running)}")

    def _write(self, line: str) -> None:
        if self._quiet:
            return
        passed = int(time.monotonic() - self._started)
        print(f"{passed // 60:3d}:{passed % 60:02d} {line}", file=self._stream, flush=True)


class Live:
    """A table that is redrawn twice a second; use it in a `with` block."""

    def __init__(self, *, log_output: bool = False) -> None:
        from rich.live import Live as RichLive

        self._live = RichLive(auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._output = _Output() if log_output else None

    def __enter__(self) -> Live:
        """Begins to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clears what was drawn."""
        self._live.stop()

    def event(self, run: str, state: str, note: str) -> None:
        """Leaves a line above the table for a run that failed."""
        from rich.markup import escape

        if state == "failed":
            self._live.console.print(f"[bold red]failed[/]  {run}  {escape(note)}")

    def tick(self, report: Report) -> None:
        """Prints new output and redraws the table."""
        from rich.markup import escape

        if time.monotonic() - self._drawn >= _DRAW_S:
            self._drawn = time.monotonic()
            for line in self._output.new_lines(report) if self._output else ():
                self._live.console.print(escape(line))
            self._live.update(_table(report), refresh=True)


class _Output:
    """Follows the runs' `output.log` and yields new lines."""

    def __init__(self) -> None:
        self._read: dict[str, int] = {}

    def new_lines(self, report: Report) -> Iterator[str]:
        for run, state in report.states.items():
            if state not in ("submitted", "finished", "failed"):
                continue
            with contextlib.suppress(OSError):
                content = (paths.logs() / report.study.folder / run / OUTPUT).read_bytes()
                done = self._read.get(run, 0)
                end = content.rfind(b"\n") + 1
                if end > done:
                    self._read[run] = end
                    for line in content[done:end].decode("utf-8", "replace").splitlines():
                        yield f"{run} | {line}"


def view(*, quiet: bool = False, log_output: bool = False) -> Any:
    """Returns the view that fits: live in a terminal, lines elsewhere, nothing when `quiet`.

    Use it in a `with` block.
    """
    if sys.stdout.isatty() and not quiet:
        return Live(log_output=log_output)
    return contextlib.nullcontext(Lines(log_output=log_output and not quiet, quiet=quiet))


def at_work(report: Report) -> list[RunStatus]:
    """Returns the runs that are computing now."""
    submitted = [run for run in report.study.runs() if report.states[run.id] == "submitted"]
    running: list[RunStatus] = []
    # They begin in order, so only the first that wait are looked at.
    for run in submitted[: 4 * report.slots + 9]:
        folder = paths.run(report.study.folder, run.stage, run.name)
        progress = record.progress(folder)
        if progress.get("state") == "running" and len(running) < report.slots:
            study = report.study.folder
            running.append(RunStatus(run.stage, run.name, "running", progress, study=study))
    return running


def summary(report: Report, running: list[RunStatus]) -> str:
    """Returns one line: how many runs are done, failed and left, and how long it will take."""
    parts = [f"{report.count('finished', 'skipped')} of {len(report.states)} runs done"]
    parts += [
        f"{number} {_MARKS[state].lower()}"
        for state in ("failed", "blocked")
        if (number := report.count(state))
    ]
    parts.append(f"{spoken(time.time() - report.started)} so far")
    parts.append(estimate(report, running).text(report))
    if report.stopping:
        parts.append("stopping: running runs end first, Ctrl-C again stops them too")
    return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Estimate:
    """The remaining time of a study: the seconds, the runs of unknown duration, and whether some
    of the seconds are rough.
    """

    seconds: float
    unknown: tuple[str, ...] = ()
    is_rough: bool = False

    def text(self, report: Report) -> str:
        """Returns it in words; "" when everything has ended."""
        if not self.unknown:
            how = "roughly" if self.is_rough else "about"
            return f"{how} {spoken(self.seconds)} left" if self.seconds else ""
        unknown = few(self.unknown, _NAMED)
        if self.seconds:
            return f"more than {spoken(self.seconds)} left ({unknown} never run here before)"
        study = report.study
        if study.budget_minutes and not study.tiny and not report.count("finished"):
            return f"about {spoken(60 * study.budget_minutes)} by the study's own figure"
        return f"time left unknown ({unknown} never run here before)"


def estimate(
    report: Report,
    running: Sequence[RunStatus],
    *,
    known: Durations | None = None,
    now: float | None = None,
) -> Estimate:
    """Returns the remaining time of a study.

    The estimate of a run is the mean of its arm's other seeds, else the earlier duration of its
    kind on this machine, else an extrapolation of its epochs, else a rough figure by images and
    epochs, corrected by what the finished runs took against theirs.
    """
    now = time.time() if now is None else now
    known = report.durations if known is None else known
    running_now = {run.id: run for run in running}
    measured, factor = _means(report), _correction(report)
    levels: dict[int, list[float]] = {}
    unknown, is_rough = [], False
    for spec in report.study.runs():
        if report.states[spec.id] in ENDED:
            continue
        run = running_now.get(spec.id)
        left = _seconds_left(spec, run, measured, known, now)
        if left is None and (guess := plan.rough(spec)) is not None:
            passed = max(0.0, now - run.progress.get("started", now)) if run else 0.0
            left, is_rough = max(factor * guess - passed, 0.1 * factor * guess), True
        if left is None:
            unknown.append(spec.id)
        else:
            levels.setdefault(len(report.study.upstream(spec.stage)), []).append(left)
    slots = max(1, report.slots)
    total = sum(max(max(left), sum(left) / slots) for left in levels.values())
    return Estimate(total, tuple(unknown), is_rough)


def _correction(report: Report) -> float:
    """The median of what the finished runs took against their rough figures."""
    ratios = [
        report.seconds[spec.id] / guess
        for spec in report.study.runs()
        if report.states[spec.id] == "finished"
        and report.seconds.get(spec.id)
        and (guess := plan.rough(spec))
    ]
    return statistics.median(ratios) if ratios else 1.0


def _seconds_left(
    spec: RunSpec,
    run: RunStatus | None,
    measured: dict[tuple[str, str | None], float],
    known: Durations,
    now: float,
) -> float | None:
    whole = measured.get((spec.stage, spec.arm), known.expected(spec))
    if run is None:
        return whole
    passed = max(0.0, now - run.progress.get("started", now))
    if whole is not None:
        return max(whole - passed, 0.05 * whole)
    epoch, epochs = run.progress.get("epoch"), run.progress.get("epochs")
    if not epoch or not epochs or run.progress.get("phase", 1) != run.progress.get("phases", 1):
        return None
    in_phase = max(0.0, now - run.progress.get("phase_started", now - passed))
    return max(0.0, _TAIL * in_phase * epochs / epoch - in_phase)


def _means(report: Report) -> dict[tuple[str, str | None], float]:
    gathered: dict[tuple[str, str | None], list[float]] = {}
    for run in report.study.runs():
        if report.states[run.id] == "finished" and run.id in report.seconds:
            gathered.setdefault((run.stage, run.arm), []).append(report.seconds[run.id])
    return {key: statistics.fmean(values) for key, values in gathered.items()}


def spoken(seconds: float) -> str:
    """Returns a duration in words: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _table(report: Report) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    running = at_work(report)
    stages = Table(box=None, pad_edge=False)
    for column in ("stage", "", "done", "running", "queued", "failed"):
        stages.add_column(column, justify="left" if column in ("stage", "") else "right")
    for stage in report.study.stages:
        states = [report.states[spec.id] for spec in stage.runs]
        work = sum(run.stage == stage.name for run in running)
        done = sum(state in ("finished", "skipped") for state in states)
        failed = sum(state in ("failed", "blocked", "killed") for state in states)
        counts = (done, work, len(states) - done - failed - work, failed)
        bar = ProgressBar(total=len(states), completed=done, width=_BAR)
        stages.add_row(stage.name, bar, *(str(number) if number else "·" for number in counts))
    work = Table(box=None, pad_edge=False, show_header=False)
    now = time.time()
    for run in running:
        epoch, epochs = run.progress.get("epoch", 0), run.progress.get("epochs", 0)
        bar = ProgressBar(total=epochs or None, completed=epoch, width=_BAR, pulse=not epochs)
        passed = spoken(now - run.progress.get("started", now))
        work.add_row(run.id, bar, passed, run.line())
    title, left = Text(report.study.question, style="bold"), Text(summary(report, running))
    return Group(title, stages, Text(), work, Text(), left)
