"""The papermill engine `darkroom`, which executes every notebook of the suite.

    papermill --engine darkroom notebooks/3_train.ipynb out.ipynb -p data elpv     # by hand
    darkroom run quickstart                                                        # the same, a
    study

Beyond papermill's own engine it checks and types parameters before a kernel starts, starts a kernel
of this interpreter on private sockets, stops the whole run at a deadline or a memory limit, saves
atomically, reports progress, and writes `failure.json`. A cell that a dead kernel never reached
stays "pending".
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    """Answers papermill where this module is imported first: papermill loads its entry points, and
    so this module, while it is imported below. The class is registered at the module's end.
    """
    if name == "DarkroomEngine":
        return None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


import nbformat  # noqa: E402
from click import ClickException  # noqa: E402
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402
from papermill.engines import (  # noqa: E402
    NBClientEngine,
    NotebookExecutionManager,
    papermill_engines,
)

from lib import files, notebooks, parameter_types, paths, runs  # noqa: E402
from lib.batch import parameter_grid  # noqa: E402
from lib.errors import DarkroomError  # noqa: E402
from lib.runs import failure, record  # noqa: E402
from lib.runs.failure import Failure  # noqa: E402

NAME = "darkroom"
AUTOSAVE_S = 10
"""Interval at which the notebook is saved within a long cell, in seconds."""
SAVE_S = 1.0
"""Shortest time between two saves at the start of cells, in seconds."""
_CHILDREN_EVERY = 4
_MARK = "darkroom-failure"


class Refused(DarkroomError, ClickException):
    """Parameters that the notebook refuses; papermill's command line prints the sentence and exits
    with 2.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        ClickException.__init__(self, message)


@dataclass(frozen=True)
class Supervision:
    """Settings of `darkroom run` for an execution; plain papermill has none."""

    folder: Path | None = None
    """The run's folder, made ready; None: the notebook makes it when it opens its run."""
    time_limit_s: float | None = None
    memory_bytes: int | None = None
    resume: str = ""
    """The command that continues the study, for `failure.json`."""


class DarkroomEngine(NBClientEngine):
    """Executes a notebook as papermill's own engine does, with what the module's head lists."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = AUTOSAVE_S,
        **options: Any,
    ) -> Any:
        """Returns the executed notebook; papermill then raises for the error that a failed one
        holds.

        Raises:
            DarkroomError: a parameter is unknown, of another type or out of range; nothing is
                started.
        """
        nb = _typed(nb, kernel_name)
        manager = ExecutionManager(
            nb,
            output_path=output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **options)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
            manager.close()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: ExecutionManager,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        supervision: Supervision | None = None,
        cwd: str | None = None,
        **options: Any,
    ) -> None:
        """Executes all cells; a failure is noted in the notebook and in the run's folder, not
        raised.
        """
        with tempfile.TemporaryDirectory(prefix="darkroom-", ignore_cleanup_errors=True) as private:
            execution = _Execution(nb_man, supervision or Supervision(), Path(private))
            execution.run(
                beside=_folder_of(options.get("input_path")),
                cwd=cwd,
                cell_timeout_s=execution_timeout,
                startup_timeout=start_timeout,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
            )


class ExecutionManager(NotebookExecutionManager):
    """Papermill's record of an execution, saved atomically, where only what ran is "completed"."""

    _saving = True
    _saved = float("-inf")
    close: Callable[[], None] = staticmethod(lambda: None)
    """Called when the notebook is complete."""

    def save(self, **_: Any) -> None:
        """Saves the notebook; one with a remote path is written there at the end, by papermill."""
        self.last_save_time = self.now()
        if self._saving and self.output_path and "://" not in self.output_path:
            files.write_text(Path(self.output_path), written(self.nb))
            self._saved = time.monotonic()

    def cell_start(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:
        """Notes the start of a cell; of short cells one in a second saves the notebook."""
        with self._saving_if(time.monotonic() - self._saved >= SAVE_S):
            super().cell_start(cell, cell_index)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:
        """Notes the end of a cell; the start of the next one saves it at once."""
        with self._saving_if(False):
            super().cell_complete(cell, cell_index)

    @contextlib.contextmanager
    def _saving_if(self, is_due: bool) -> Iterator[None]:
        self._saving = is_due
        try:
            yield
        finally:
            self._saving = True

    def notebook_complete(self, **_: Any) -> None:
        """Notes the end of the notebook. Cells that were never reached stay "pending"."""
        papermill = self.nb.metadata.papermill
        self.end_time = self.now()
        papermill["end_time"] = self.end_time.isoformat()
        if papermill.get("start_time"):
            papermill["duration"] = (self.end_time - self.start_time).total_seconds()
        self.cleanup_pbar()
        self.save()


class _Client(PapermillNotebookClient):
    """Executes cell by cell, and goes no further after one that failed in whatever way."""

    number = 0

    def execute(self, **kernel: Any) -> None:
        """Starts the kernel and executes all cells.

        Raises:
            CellExecutionError: a cell raised.
            CellTimeoutError: the deadline has passed.
            DeadKernelError: the kernel died.
        """
        self.reset_execution_trackers()
        with self.setup_kernel(cleanup_kc=True, **kernel):
            self.papermill_execute_cells()
            about = self.wait_for_reply(self.kc.kernel_info())
            self.nb.metadata["language_info"] = about["content"]["language_info"]
            self.set_widgets_metadata()

    def papermill_execute_cells(self) -> None:
        for index, cell in enumerate(self.nb.cells):
            self.number = index
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except BaseException as error:
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                raise
            finally:
                self.nb_man.cell_complete(cell, cell_index=index)


class _Execution:
    """One running notebook: the client that drives the kernel, and its watchers."""

    def __init__(self, manager: ExecutionManager, supervision: Supervision, private: Path) -> None:
        from lib.batch import kernel

        self.manager, self.limits, self.private = manager, supervision, private
        self.record = _RunRecord(manager.nb, supervision.folder)
        stage = supervision.folder.parent.name if supervision.folder else ""
        self.kernel_manager = kernel.manager(private, stage=stage)
        self.killed = self.ended = False
        self.deadline = supervision.time_limit_s and time.monotonic() + supervision.time_limit_s

    def run(
        self, *, beside: Path | None, cwd: str | None, cell_timeout_s: int | None, **client: Any
    ) -> None:
        """Executes all cells and notes a failure in the notebook and in `failure.json`."""
        self.cell_timeout_s = cell_timeout_s
        self.client = _Client(
            self.manager,
            km=self.kernel_manager,
            timeout_func=self._seconds_left,
            force_raise_errors=True,
            shutdown_kernel="immediate",
            on_cell_execute=self._before,
            **client,
        )
        _at_work.append(self)
        threading.Thread(target=self._watch_memory, daemon=True).start()
        try:
            failed = self._execute(cwd or str(Path.cwd()), beside)
        finally:
            self.ended = True
            _at_work.remove(self)
        if failed is not None:
            self._note(failed)
        resume = self.limits.resume
        self.manager.close = lambda: self.record.close(self.manager, failed, resume=resume)

    def _execute(self, cwd: str, beside: Path | None) -> Failure | None:
        with (self.private / "output").open("wb") as output:
            try:
                executed = self.manager.nb.metadata.papermill.get("input_path")
                environment = _kernel_environment(self.private, beside, executed)
                self.client.execute(stdout=output, stderr=output, cwd=cwd, env=environment)
            except CellExecutionError as error:
                about = {"message": error.evalue, "traceback": [error.traceback]}
                return failure.of_cell(self._cell(), exception=error.ename, **about)
            except CellTimeoutError:
                seconds = self.limits.time_limit_s or self.cell_timeout_s
                return self._stopped("time limit", "TimeLimit", f"stopped after {seconds:g} s")
            except (DeadKernelError, RuntimeError) as error:
                if self.killed:
                    grew = f"grew beyond {self.limits.memory_bytes / 1e9:.1f} GB"
                    return self._stopped("out of memory", "MemoryLimit", grew)
                return self._stopped("kernel died", "DeadKernel", str(error))
        if self.record.begun() and not runs.finished(self.record.folder):
            message = "the notebook ended, but wrote no result.json; call run.finish(...) last"
            return Failure("code", "NoResult", message)
        return None

    def _stopped(self, kind: str, name: str, message: str) -> Failure:
        output = (self.private / "output").read_text("utf-8", errors="replace").splitlines()[-20:]
        if kind == "kernel died" and failure.of_exception("", "\n".join(output)) == "out of memory":
            kind, name = "out of memory", "MemoryLimit"
        cell = self._cell()
        number = cell.get("execution_count") or self._count() or None
        source = failure.first_line(cell["source"])
        return Failure(kind, name, message, number, source, output=output)

    def _cell(self) -> Any:
        return self.manager.nb.cells[self.client.number]

    def _count(self) -> int:
        """Number of code cells up to the present one."""
        return sum(_is_code(cell) for cell in self.manager.nb.cells[: self.client.number + 1])

    def _note(self, failed: Failure) -> None:
        """Notes a failure where people look: above the cell that failed, and as the cell's
        error.
        """
        nb, is_at_cell = self.manager.nb, failed.cell is not None
        nb.metadata.papermill["exception"] = True
        numbered = [cell for cell in nb.cells if _is_code(cell)]
        shown = self._cell() if is_at_cell else numbered[-1]
        if not any(output.output_type == "error" for output in shown.outputs):
            about = {"ename": failed.exception, "evalue": failed.message}
            about["traceback"] = [failed.sentence()]
            shown.outputs.append(nbformat.v4.new_output("error", **about))
        text = f"**The run stopped here.** {failed.sentence()}".replace("\n", " ")
        note = nbformat.v4.new_markdown_cell(text, metadata={"tags": [_MARK]})
        note.metadata["papermill"] = {"status": "completed", "exception": False}
        nb.cells.insert(self.client.number if is_at_cell else len(nb.cells), note)

    def _before(self, **_: Any) -> None:
        cells = sum(_is_code(cell) for cell in self.manager.nb.cells)
        # A note is of the cell before.
        self.record.progress(cell=self._count(), cells=cells, note="")

    def _seconds_left(self, cell: Any) -> int | None:
        left = [] if self.deadline is None else [self.deadline - time.monotonic()]
        left += [] if self.cell_timeout_s is None else [self.cell_timeout_s]
        return max(1, int(min(left))) if left else None  # nbclient takes 0 as no limit

    def _watch_memory(self) -> None:
        import psutil

        limit, checks = self.limits.memory_bytes, itertools.count()
        while limit is not None and not self.killed and not self.ended:
            time.sleep(0.25)
            if (pid := self._kernel_pid()) is None:
                continue
            with contextlib.suppress(psutil.Error):
                kernel = psutil.Process(pid)
                held = kernel.memory_info().rss
                if next(checks) % _CHILDREN_EVERY == 0:  # finding them reads all of /proc
                    children = kernel.children(recursive=True)
                    held += sum(process.memory_info().rss for process in children)
                if held > limit:
                    self.killed = True
                    self.kill()

    def _kernel_pid(self) -> int | None:
        return getattr(self.kernel_manager.provisioner, "pid", None)

    def kill(self) -> None:
        """Kills the kernel with everything that it has started."""
        import psutil

        if (pid := self._kernel_pid()) is None:
            return
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.name != "nt":
                os.killpg(pid, signal.SIGKILL)  # the kernel leads a session with its own children
                return
            for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                process.kill()


class _RunRecord:
    """The run's folder, as far as the engine writes to it: progress, the notebook, a failure."""

    def __init__(self, nb: Any, folder: Path | None) -> None:
        self.prepared = folder is not None
        self.folder = folder or _run_folder(nb)
        self._started = self._read().get("started")

    def begun(self) -> bool:
        """Whether the folder is this execution's, and not that of an earlier run."""
        return self.prepared or self._read().get("started", self._started) != self._started

    def progress(self, **fields: Any) -> None:
        """Adds to `progress.json`. The kernel writes it too, but only while a cell runs."""
        if self.begun():
            about = {"state": "running", "stage": self.folder.parent.name, "unit": self.folder.name}
            now = time.time()
            known = {**about, "started": now, **self._read(), **fields, "updated": now}
            files.write_json(self.folder / record.PROGRESS, known)

    def close(self, manager: ExecutionManager, failed: Failure | None, *, resume: str) -> None:
        """Writes `failure.json`, and a copy of a notebook whose output goes elsewhere."""
        if not self.begun():
            return
        if failed is not None:
            failure.write(self.folder, failed, resume=resume)
            self.progress(state="failed")
        own = self.folder / "notebook.ipynb"
        if manager.output_path is None or Path(manager.output_path).absolute() != own.absolute():
            files.write_text(own, written(manager.nb))

    def _read(self) -> dict[str, Any]:
        return {} if self.folder is None else record.progress(self.folder)


def written(nb: Any) -> str:
    """Returns a notebook as text."""
    return nbformat.v4.writes(nb) + "\n"


def _typed(nb: Any, kernel_name: str) -> Any:
    """Returns the notebook with its parameters in their declared types; one that is not ours as it
    is.
    """
    given = nb.metadata.papermill.get("parameters") or {}
    try:
        notebook = notebooks.of_document(nb)
        if notebook is None:
            return nb
        names = notebook.check(given, text=True, where=f"{notebook.name}.ipynb")
        complete = notebook.complete(names)
        if "data" in complete:
            parameter_grid.check_data(complete["data"])
    except DarkroomError as error:
        raise Refused(str(error)) from None
    checked = parameter_types.cell_values(
        {name: complete[name] for name in names}, notebook.parameters
    )
    if checked == dict(given):
        return nb
    from papermill.parameterize import parameterize_notebook

    return parameterize_notebook(nb, checked, kernel_name=kernel_name, engine_name=NAME)


def _run_folder(nb: Any) -> Path | None:
    """The folder that the notebook will open its run in; None for a notebook that is not ours."""
    declared = notebooks.of_document(nb)
    if declared is None:
        return None
    values = declared.complete(nb.metadata.papermill.get("parameters", {}), text=True)
    if "study" not in values:
        return None
    unit = runs.unit(runs.with_free_arm(declared, values))
    return paths.run(values["study"], declared.stage, unit)


def _is_code(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _kernel_environment(private: Path, beside: Path | None, executed: Any) -> dict[str, str]:
    """The kernel's environment: none of the user's start-up files, modules beside the notebook
    importable, and the name of the notebook that is executed, whose cells are part of the key.
    """
    places = [str(paths.checkout()), os.environ.get("PYTHONPATH"), beside and str(beside)]
    return {
        **os.environ,
        "IPYTHONDIR": str(private / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        **({runs.NOTEBOOK_VARIABLE: str(Path(executed).absolute())} if beside else {}),
    }


def _folder_of(input_path: Any) -> Path | None:
    local = isinstance(input_path, str) and Path(input_path).is_file()
    return Path(input_path).absolute().parent if local else None


_at_work: list[_Execution] = []


def kill_kernels() -> None:
    """Kills the kernels of this process."""
    for execution in list(_at_work):
        execution.kill()


papermill_engines.register(NAME, DarkroomEngine)
