"""Runs notebooks: `python -m lib.batch.run` is told a job in each line of its input and answers
each with a line.

Every job has a kernel of its own, a new process of this interpreter, which ends with the job; so
its memory comes back. The notebook is saved after each cell. The answer is 0 (finished), 1 (failed,
`failure.json` says why) or 3 (another process works on the run). When its input is closed, the
process dies with its kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib import files, runs
from lib.batch import failures, parent_watch
from lib.batch.failures import Failure
from lib.errors import DarkroomError

FINISHED, FAILED, BUSY = 0, 1, 3
"""Exit codes of the process."""


@dataclass(frozen=True)
class Job:
    """What a run process is told."""

    notebook: str
    """Path of the notebook."""
    folder: str
    """The run's folder."""
    parameters: dict[str, Any]
    key: dict[str, Any]
    resume: str = ""
    """The command that goes on with the study."""
    time_limit_s: float | None = None
    memory_bytes: int | None = None
    environment: dict[str, str] | None = None
    """All environment variables that hold for the job; None leaves those there are."""

    def line(self) -> bytes:
        """Returns the job as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Does one job after the other, until the input is closed."""
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    parent_watch.watch(sys.stdin.buffer, hear=jobs.put, then=_die)
    while True:
        print(_do(Job(**json.loads(jobs.get()))), flush=True)


def _do(job: Job) -> int:
    if job.environment is not None:
        os.environ.clear()
        os.environ.update(job.environment)
    folder = Path(job.folder)
    try:
        with runs.acquire(folder):
            runs.prepare(folder, job.key)
    except DarkroomError as busy:
        print(busy, file=sys.stderr)
        sys.stderr.flush()
        return BUSY
    with tempfile.TemporaryDirectory(prefix="darkroom-") as private:
        failure = _Execution(job, Path(private)).run()
    if failure is None:
        return FINISHED
    failures.write(folder, failure, resume=job.resume)
    _tell(folder, state="failed")
    return FAILED


class _Execution:
    """The notebook at work: the document, the client that drives the kernel, the watches over it."""

    def __init__(self, job: Job, private: Path) -> None:
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema would build its grammar for 1-2 s
        import nbformat
        from nbclient import NotebookClient

        from lib.batch import kernel

        self.job, self.private, self.folder = job, private, Path(job.folder)
        self.document = nbformat.reads(Path(job.notebook).read_text(encoding="utf-8"), as_version=4)
        self.number = 0
        self.killed: str | None = None
        self.ended = False
        self.deadline = time.monotonic() + job.time_limit_s if job.time_limit_s else None
        _inject(self.document, job.parameters)
        self.manager = kernel.manager(private)
        _at_work.append(self)
        self.client = NotebookClient(
            self.document,
            km=self.manager,
            timeout_func=self._seconds_left,
            startup_timeout=120,
            force_raise_errors=True,
            shutdown_kernel="immediate",
            on_cell_execute=self._before,
            on_cell_executed=self._after,
        )

    def run(self) -> Failure | None:
        """Executes all cells; returns None when the run has finished, else what went wrong."""
        with (self.private / "output").open("wb") as output:
            threading.Thread(target=self._watch_memory, daemon=True).start()
            failure = self._execute(output)
        self.ended = True
        _at_work.remove(self)
        if failure is not None:
            _mark(self.document, failure)
        self.document.metadata["darkroom"] = {
            **self.document.metadata.get("darkroom", {}),
            "failed": failure is not None,
        }
        self._save()
        return failure

    def _execute(self, output: Any) -> Failure | None:
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

        environment = {
            **os.environ,
            "IPYTHONDIR": str(self.private / "ipython"),
        }  # none of the user's start-up files
        where = str(Path(self.job.notebook).parent)
        try:
            self.client.execute(
                cleanup_kc=True, stdout=output, stderr=output, cwd=where, env=environment
            )
        except CellExecutionError as error:
            return failures.of_cell(
                self._cell(),
                exception=error.ename,
                message=error.evalue,
                traceback=[error.traceback],
            )
        except CellTimeoutError:
            return self._stopped("time limit", f"stopped after {self.job.time_limit_s:g} s")
        except (DeadKernelError, RuntimeError) as error:
            return self._stopped(self.killed or "kernel died", str(error))
        if not runs.finished(self.folder):
            return Failure(
                "code",
                "NoResult",
                "the notebook ended, but wrote no result.json; call run.finish(...) last",
            )
        return None

    def _stopped(self, kind: str, message: str) -> Failure:
        cell = self._cell()
        said = (
            (self.private / "output")
            .read_text(encoding="utf-8", errors="replace")
            .splitlines()[-20:]
        )
        if kind == "kernel died" and failures.of_exception("", "\n".join(said)) == "out of memory":
            kind = "out of memory"
        if self.killed and self.job.memory_bytes:
            message = f"grew beyond {self.job.memory_bytes / 1e9:.1f} GB"
        names = {
            "time limit": "TimeLimit",
            "out of memory": "MemoryLimit",
            "kernel died": "DeadKernel",
        }
        source = failures.first_line(cell["source"])
        return Failure(
            kind,
            names[kind],
            message,
            cell.get("execution_count") or self._count() or None,
            source,
            output=said,
        )

    def _cell(self) -> Any:
        return self.document.cells[self.number]

    def _count(self) -> int:
        return sum(
            cell.cell_type == "code" and bool(cell.source.strip())
            for cell in self.document.cells[: self.number + 1]
        )

    def _before(self, cell: Any, cell_index: int) -> None:
        self.number = cell_index
        cells = sum(cell.cell_type == "code" for cell in self.document.cells)
        _tell(self.folder, cell=self._count(), cells=cells, note="")  # a note is of the cell before

    def _after(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        self._save()

    def _save(self) -> None:
        import nbformat

        files.write_text(self.folder / "notebook.ipynb", nbformat.v4.writes(self.document) + "\n")

    def _seconds_left(self, cell: Any) -> int | None:
        # nbclient counts whole seconds, and takes 0 as no limit.
        return None if self.deadline is None else max(1, int(self.deadline - time.monotonic()))

    def _watch_memory(self) -> None:
        import psutil

        limit = self.job.memory_bytes
        while limit is not None and self.killed is None and not self.ended:
            time.sleep(0.25)
            if (kernel := self._kernel()) is None:
                continue
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(kernel), *psutil.Process(kernel).children(recursive=True)]
                if sum(process.memory_info().rss for process in family) > limit:
                    self.killed = "out of memory"
                    self.kill()

    def _kernel(self) -> int | None:
        return getattr(self.manager.provisioner, "pid", None)

    def kill(self) -> None:
        """Kills the kernel with whatever it has started."""
        import psutil

        if (kernel := self._kernel()) is None:
            return
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.name != "nt":
                os.killpg(
                    kernel, signal.SIGKILL
                )  # the kernel leads a session, so its own children go too
                return
            for process in [
                *psutil.Process(kernel).children(recursive=True),
                psutil.Process(kernel),
            ]:
                process.kill()


_at_work: list[_Execution] = []


def _die() -> None:
    for execution in _at_work:
        execution.kill()
    os._exit(143)


def _inject(document: Any, parameters: dict[str, Any]) -> None:
    """Puts the parameters after the cell tagged `parameters`, as papermill does, and clears what
    was shown before.
    """
    import nbformat

    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(
        f"# Parameters\n{lines}", metadata={"tags": ["injected-parameters"]}
    )
    tags = [each.metadata.get("tags", []) for each in document.cells]
    document.cells = [
        each
        for each, tag in zip(document.cells, tags, strict=True)
        if "injected-parameters" not in tag
    ]
    at = next(
        index
        for index, each in enumerate(document.cells)
        if "parameters" in each.metadata.get("tags", [])
    )
    document.cells.insert(at + 1, cell)
    for each in document.cells:
        if each.cell_type == "code":
            each.outputs, each.execution_count = [], None


def _mark(document: Any, failure: Failure) -> None:
    """Puts a note above the cell that failed, so that whoever opens the notebook finds it."""
    import nbformat

    text = f"**The run stopped here.** {failure.sentence()}".replace("\n", " ")
    at = next(
        (n for n, cell in enumerate(document.cells) if cell.get("execution_count") == failure.cell),
        len(document.cells),
    )
    document.cells.insert(
        at, nbformat.v4.new_markdown_cell(text, metadata={"tags": ["darkroom-failure"]})
    )


def _tell(folder: Path, **fields: Any) -> None:
    """Adds to `progress.json`. The kernel writes it too, but only while a cell is at work."""
    path = folder / "progress.json"
    known: dict[str, Any] = {
        "state": "running",
        "stage": folder.parent.name,
        "unit": folder.name,
        "started": time.time(),
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        known |= json.loads(path.read_text(encoding="utf-8"))
    files.write_json(path, {**known, **fields, "updated": time.time()})


if __name__ == "__main__":
    main()
