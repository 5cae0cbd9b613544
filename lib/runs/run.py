"""An open run: `start`, progress, figures and `finish`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from lib import errors, files, hashing, notebooks, parameter_types, paths
from lib.errors import DarkroomError
from lib.notebooks import Notebook
from lib.runs import failure, keys, record
from lib.runs.keys import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_open_runs: dict[Path, Run] = {}
_written: dict[str, dict[str, Any]] = {}
"""The options that `check` has written to the namespace, by notebook."""

_COUNTED_EVERY_S = 1.0
NOTEBOOK_VARIABLE = "DARKROOM_NOTEBOOK"
"""The environment variable in which an engine says which notebook file it executes."""


@dataclasses.dataclass
class Run:
    """A run in progress. `resumed` is true if it continues an interrupted run with the same key."""

    folder: Path
    checkpoint_folder: Path
    parameters: dict[str, Any]
    """All of them, those of `options` by their own names."""
    key: dict[str, Any]
    stage: str
    data: str | None
    resumed: bool
    lock: filelock.BaseFileLock | None
    notebook: Notebook | None = None
    """The notebook, where one was opened by hand whose cells may have been edited."""
    ran: Sequence[str] = ()
    """IPython's list of the cells that ran, and will run, in this kernel."""
    first_cell: int = 0
    started: float = dataclasses.field(default_factory=time.time)
    _began: float = dataclasses.field(
        default_factory=time.monotonic
    )  # the wall clock may be set back

    @property
    def study(self) -> str:
        """The study's name, which is the folder two above the run's own."""
        return self.folder.parent.parent.name

    @property
    def unit(self) -> str:
        """The run's name in its stage: `all`, `<arm>` or `<arm>-s<seed>`."""
        return self.folder.name

    @property
    def name(self) -> str:
        """`<study>/<stage>/<unit>`."""
        return f"{self.study}/{self.stage}/{self.unit}"

    def progress(self, **fields: Any) -> None:
        """Notes how far the run is, for `darkroom status`: `epoch`, `epochs`, `metric`, `value`,
        `note`.
        """
        about = {"state": "running", "stage": self.stage, "unit": self.unit}
        about |= {"started": self.started, **fields, "updated": time.time()}
        known = record.progress(self.folder)
        files.write_json(self.folder / record.PROGRESS, {**known, **about})

    def counting(self, what: str) -> Callable[[int, int], None]:
        """Returns a function of (done, total) that notes "done of total `what`" as progress, at
        most once a second.
        """
        last = -_COUNTED_EVERY_S

        def update(done: int, total: int) -> None:
            nonlocal last
            if done == total or time.monotonic() - last >= _COUNTED_EVERY_S:
                last = time.monotonic()
                self.progress(note=f"{done:,} of {total:,} {what}")

        return update

    def figure(self, figure: Figure, name: str) -> Figure:
        """Saves a figure as `figures/<name>.png` (and `.svg`, where it can) and returns it, so that
        a cell can end in it and show it. A tiny run saves coarse ones.
        """
        folder, tiny = self.folder / record.FIGURES, bool(self.parameters.get("tiny"))
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=72 if tiny else 192)
        if hasattr(figure, "svg"):
            figure.saved = path
            if not tiny:
                files.write_text(path.with_suffix(".svg"), figure.svg())
        return figure

    def environment(self, **known: Any) -> None:
        """Adds to `environment.json` what only the running process knows: backend, device, dtype
        policy.
        """
        path = self.folder / record.ENVIRONMENT
        files.write_json(path, {**(files.read_json(path) or {}), **known})

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes `result.json`, the last file of a run, frees the lock and returns what was
        written.
        """
        about = {"study": self.study, "stage": self.stage, "unit": self.unit, "data": self.data}
        marks = {name: self.parameters[name] for name in ("arm", "seed") if name in self.parameters}
        figures = sorted(path.name for path in (self.folder / record.FIGURES).glob("*.png"))
        seconds = round(time.monotonic() - self._began, 2)
        if self.parameters.get("tiny") and result.get("sentences"):
            result = {**result, "sentences": [record.TINY, *result["sentences"]]}
        full = {**about, **marks, "seconds": seconds, "figures": figures, **result}
        full |= {"files": record.hashes(self.folder), "key": self._key_of_what_ran()}
        self.progress(state="finished")
        files.write_json(self.folder / record.RESULT, hashing.sealed(full))
        self.close()
        return full

    def _key_of_what_ran(self) -> dict[str, Any]:
        """The key; with the cells that ran, where they are not those of the notebook's file."""
        if self.notebook is None:
            return self.key
        ran = list(self.ran[self.first_cell :])
        own = {hashing.cells([cell]) for cell in self.notebook.cells}
        if {hashing.cells([cell]) for cell in ran} == own:
            return self.key
        return {**self.key, "notebook": hashing.cells(ran)}

    def close(self) -> None:
        """Frees the lock; without `finish` the run counts as interrupted."""
        _open_runs.pop(self.folder, None)
        if self.lock is not None:
            self.lock.release()


def check(name: str, namespace: dict[str, Any]) -> tuple[Notebook, dict[str, Any]]:
    """Checks the parameters in a notebook's namespace, before any work, and writes their typed
    values back to it; returns the notebook and all values.

    Raises:
        DarkroomError: for an unknown or wrong parameter.
    """
    notebook = notebooks.find(os.environ.get(NOTEBOOK_VARIABLE) or name)
    values = notebook.complete(_values(notebook, namespace), text=True)
    written = parameter_types.cell_values(values, notebook.parameters)
    namespace.update(written)
    _written[notebook.name] = written.get("options", {})
    return notebook, values


def start(name: str, namespace: dict[str, Any], *, data: Data | None) -> Run:
    """Opens the run of a notebook with the parameters in its namespace, and writes their typed
    values back to it.

    In a notebook, an exception of a later cell is noted in the run's `failure.json`.

    Args:
        name: the notebook's name, such as `3_train`.
        namespace: the notebook's `globals()`. Values set through `options`, or given by name in a
            cell of parameters, count.
        data: the data set, whose digest becomes part of the run's key.

    Raises:
        DarkroomError: for an unknown or wrong parameter, or when another process works on the same
            run.
    """
    notebook, values = check(name, namespace)
    own = with_free_arm(notebook, values)
    if own != values:
        print(f"That arm has finished with other values, so this is the arm {own['arm']!r}.")
        namespace["arm"], values = own["arm"], own
    run = open_run(notebook, values, data=data)
    if "In" in namespace and not os.environ.get(NOTEBOOK_VARIABLE):
        run.notebook, run.ran = notebook, namespace["In"]
        run.first_cell = len(run.ran) - 1
    failure.watch_cells(lambda: run.folder if run.folder in _open_runs else None)
    return run


def open_run(
    notebook: Notebook,
    values: dict[str, Any],
    *,
    data: Data | None,
    cells: Sequence[str] | None = None,
) -> Run:
    """Opens a run with checked values of all parameters; `cells` is the code that runs, by default
    the notebook's own.
    """
    place = (values["study"], notebook.stage, unit(values))
    folder = paths.run(*place)
    known = record.key(folder)
    wanted = keys.key(notebook, values, data=data, cells=cells, known=known)
    if folder in _open_runs:  # the cell was run again in the same kernel
        _open_runs[folder].close()
    lock = record.acquire(folder)
    resumed = prepare(folder, wanted, continue_run=bool(values.get("continue_run")))
    checkpoints, name = paths.checkpoint(*place), data and data.name
    run = Run(folder, checkpoints, values, wanted, notebook.stage, name, resumed, lock)
    _open_runs[folder] = run
    files.write_json(folder / record.PARAMETERS, values)
    files.write_json(folder / record.ENVIRONMENT, versions())
    run.progress()
    return run


def prepare(folder: Path, wanted: dict[str, Any], *, continue_run: bool = False) -> bool:
    """Makes a run's folder ready, see `record.prepare`; with `continue_run` a finished training
    that only gets more epochs keeps its checkpoint.
    """
    keep = continue_run and _has_more_epochs(folder, wanted)
    before = record.result(folder)
    resumed = record.prepare(folder, wanted, keep_checkpoints=keep)
    if changed := before and record.changes(before.get("key") or {}, wanted):
        print(
            f"The finished run {folder.name} ({', '.join(changed)} changed) is in logs/.earlier "
            "now. Give each run an `arm` of its own to see and compare both."
        )
    return resumed


def _has_more_epochs(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a key asks for more epochs of a finished run, and for nothing else.

    Raises:
        DarkroomError: when its learning rates were laid out for the epochs it had.
    """
    known = (record.result(folder) or {}).get("key") or {}
    before, after = known.get("parameters", {}), wanted["parameters"]
    same_but_epochs = {**wanted, "parameters": {**after, "epochs": before.get("epochs")}}
    if record.changes(known, same_but_epochs) or before["epochs"] >= after["epochs"]:
        return False
    if after["schedule"] in ("cosine", "step"):
        raise DarkroomError(
            f"continue_run cannot continue from epoch {before['epochs']}, for which the "
            f"{after['schedule']} schedule laid out its learning rates. Leave continue_run out, or "
            "use schedule = 'constant' or 'plateau'."
        )
    return True


def unit(values: Mapping[str, Any]) -> str:
    """Returns a run's name in its stage: `all` where there are no arms, else `<arm>` or
    `<arm>-s<seed>`.

    A training opened by hand names no arm; then the architecture or the classifier is used.
    """
    if "arm" not in values:
        return "all"
    arm = values["arm"] or values.get("architecture") or values.get("classifier") or "all"
    return f"{arm}-s{values['seed']}" if "seed" in values else arm


_SEEDS = ("seed", "split_seed")


def with_free_arm(notebook: Notebook, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a run that is opened by hand, with the arm `<arm>-2`, `<arm>-3`, …
    where finished runs of their own arm have other values, so that a loop over values keeps all.

    Runs that a study file names keep their arm.
    """
    study = values.get("study", "")
    stages = record.study_info(study).get("stages", ())
    listed = [name for row in stages if row["name"] == notebook.stage for name in row["units"]]
    if "arm" not in values or values.get("continue_run") or unit(values) in listed:
        return values
    name = unit({**values, "seed": 0}).removesuffix("-s0")
    finished = record.finished_runs(paths.logs() / study / notebook.stage)
    arm, number = name, 1
    while any(
        re.fullmatch(rf"{re.escape(arm)}(-s\d+)?", run.name)
        and _has_other_values(notebook, values, run)
        for run in finished
    ):
        number += 1
        arm = f"{name}-{number}"
    return values if number == 1 else {**values, "arm": arm}


def _has_other_values(notebook: Notebook, values: Mapping[str, Any], folder: Path) -> bool:
    known = {**notebook.defaults(), **record.parameters(folder)}
    return any(
        known[name] != value
        for name, value in values.items()
        if name not in ("arm", *_SEEDS) and name in known and notebook.parameters[name].in_key
    )


def _values(notebook: Notebook, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the parameters in a namespace, and those that a cell of parameters sets by
    names of its own.

    IPython keeps the cells that ran in `In`. From the last parameters cell on, a cell that holds
    nothing but literals under names sets parameters, such as the one that papermill injects; so a
    misspelt name is found.
    """
    in_cell = [name for name, row in notebook.parameters.items() if row.in_cell]
    values = {name: namespace[name] for name in in_cell if name in namespace}
    if missing := [name for name in in_cell if name not in values]:
        raise DarkroomError(
            f"`{missing[0]}` of {notebook.name} has no value. Run the cell with the parameters "
            "first."
        )
    ran = [parameter_types.assigned(source) for source in list(namespace.get("In", ()))[:-1]]
    last = max(
        (number for number, cell in enumerate(ran) if set(cell) >= set(in_cell)),
        default=len(ran),
    )
    by_name: dict[str, Any] = {}
    for cell in ran[last:]:
        if any(name in notebook.parameters or errors.suggest(name, in_cell) for name in cell):
            by_name |= {
                name: value for name, value in cell.items() if name not in (*in_cell, "options")
            }
    if parameter_types.has_options(notebook.parameters):
        options = namespace.get("options", {})
        if options == _written.get(notebook.name):  # by an earlier `check`
            options = {name: value for name, value in options.items() if name not in by_name}
        values["options"] = options
    return values | by_name


_VERSIONS = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "pandas",
    "pillow",
    "opencv-python-headless",
    "scikit-learn",
    "keras-tuner",
    "papermill",
    "tensorboard",
)


def versions() -> dict[str, Any]:
    """Returns what is known before the backend is loaded; `Run.environment` adds the rest."""
    installed = {}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "executable": Path(sys.executable).name,
        "versions": installed,
        "commit": _commit(),
    }


def _commit() -> str | None:
    command = ["git", "-C", str(paths.checkout()), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return completed.stdout.strip() or None
    return None
