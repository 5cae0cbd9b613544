"""A run in progress: what a notebook opens with `start`, tells its progress to, and ends with
`finish`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from lib import files, notebooks, paths
from lib.runs import environment, keys, record
from lib.runs.keys import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_open_runs: dict[Path, Run] = {}

_COUNTED_EVERY_S = 1.0


@dataclasses.dataclass
class Run:
    """A run in progress. `resumed` is true when an interrupted run with the same key goes on."""

    folder: Path
    checkpoint_folder: Path
    parameters: dict[str, Any]
    key: dict[str, Any]
    stage: str
    data: str | None
    resumed: bool
    lock: filelock.BaseFileLock
    started: float = dataclasses.field(default_factory=time.time)
    _began: float = dataclasses.field(
        default_factory=time.monotonic
    )  # the clock on the wall may be set back

    @property
    def study(self) -> str:
        """The study's name, which is the folder two above the run's own."""
        return self.folder.parent.parent.name

    @property
    def unit(self) -> str:
        """The unit's name: `all`, `<arm>` or `<arm>-s<seed>`."""
        return self.folder.name

    def progress(self, **fields: Any) -> None:
        """Tells how far the run is, for `darkroom status`: `epoch`, `epochs`, `metric`, `value`,
        `note`.
        """
        path = self.folder / "progress.json"
        known = files.read_json(path) or {}
        about = {
            "state": "running",
            "stage": self.stage,
            "unit": self.unit,
            "started": self.started,
        }
        files.write_json(path, {**known, **about, **fields, "updated": time.time()})

    def counting(self, what: str) -> Callable[[int, int], None]:
        """Returns a function of (done, total) that tells `darkroom status` of "done of total
        `what`", once a second at most.
        """
        told = -_COUNTED_EVERY_S

        def tell(
            done: int, total: int
        ) -> None:  # called for every file, but a file is not written for every file
            nonlocal told
            if done == total or time.monotonic() - told >= _COUNTED_EVERY_S:
                told = time.monotonic()
                self.progress(note=f"{done:,} of {total:,} {what}")

        return tell

    def figure(self, figure: Figure, name: str) -> Figure:
        """Saves a figure as `figures/<name>.png` (and `.svg`, where it can) and returns it, so that
        a cell can end in it and show it.
        """
        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=192, metadata={"Title": name})
        if hasattr(figure, "svg"):
            files.write_text(folder / f"{name}.svg", figure.svg())
        return figure

    def environment(self, **found: Any) -> None:
        """Adds to `environment.json` what only the running process knows: backend, device, dtype
        policy.
        """
        path = self.folder / "environment.json"
        files.write_json(path, {**(files.read_json(path) or {}), **found})

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes `result.json`, the last file of a run, frees the lock and returns what was
        written.
        """
        about = {"study": self.study, "stage": self.stage, "unit": self.unit, "data": self.data}
        marks = {name: self.parameters[name] for name in ("arm", "seed") if name in self.parameters}
        figures = sorted(path.name for path in self.folder.glob("figures/*.png"))
        seconds = round(time.monotonic() - self._began, 2)
        whole = {
            **about,
            **marks,
            "seconds": seconds,
            "figures": figures,
            **result,
            "key": self.key,
        }
        self.progress(state="finished")
        files.write_json(self.folder / "result.json", whole)
        _open_runs.pop(self.folder, None)
        self.lock.release()
        return whole


def start(name: str, namespace: dict[str, Any], *, data: Data | None) -> Run:
    """Opens the run of the notebook `name` with the parameters found in `namespace`.

    Args:
        name: the notebook's name, such as `3_train`.
        namespace: the notebook's `globals()`; the values of the declared parameters are taken from
            it. data: the data set, whose digest becomes part of the run's key.

    Raises:
        DarkroomError: when another process works on the same run.
    """
    notebook = notebooks.find(name)
    parameters = {parameter: namespace[parameter] for parameter in notebook.parameters}
    place = (parameters["study"], notebook.stage, unit(parameters))
    folder = paths.run(*place)
    wanted = keys.key(notebook, parameters, data=data)
    if folder in _open_runs:  # the cell was run again in the same kernel
        _open_runs.pop(folder).lock.release()
    lock = record.acquire(folder)
    resumed = record.prepare(folder, wanted)
    run = Run(
        folder,
        paths.checkpoint(*place),
        parameters,
        wanted,
        notebook.stage,
        data and data.name,
        resumed,
        lock,
    )
    _open_runs[folder] = run
    files.write_json(folder / "parameters.json", parameters)
    files.write_json(folder / "environment.json", environment.found())
    run.progress()
    return run


def unit(parameters: dict[str, Any]) -> str:
    """Returns the unit's name: `all` where there are no arms, else `<arm>` or `<arm>-s<seed>`.

    A training opened by hand names no arm; then the architecture stands for it.
    """
    if "arm" not in parameters:
        return "all"
    arm = parameters["arm"] or parameters.get("architecture", "all")
    return f"{arm}-s{parameters['seed']}" if "seed" in parameters else arm
