"""One run: its folder, its key, its lock, its progress and its result.

A run is one notebook with one set of parameters. Its folder is `logs/<study>/<stage>/<unit>`; it has finished when
`result.json` lies there, which is written last. The process that computes holds the run's lock, and the operating system
frees it when that process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import filelock

from lib import atomic, fingerprint, notebook, paths
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = ("queued", "running", "finished", "failed", "killed")

_VERSIONS = (
    "keras", "tensorflow", "jax", "torch", "numpy", "pandas", "pillow", "opencv-python-headless", "scikit-learn",
    "keras-tuner", "papermill", "tensorboard",
)  # fmt: skip
_open_runs: dict[Path, Run] = {}


class Data(Protocol):
    """What a run asks of its data set."""

    name: str

    def raw_digest(self) -> str:
        """Digest of the raw files."""

    def digest(self) -> str:
        """Digest of the accepted images, their labels and groups."""


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

    @property
    def study(self) -> str:
        """The study's name, which is the folder two above the run's own."""
        return self.folder.parent.parent.name

    @property
    def unit(self) -> str:
        """The unit's name: `all`, `<arm>` or `<arm>-s<seed>`."""
        return self.folder.name

    def progress(self, **fields: Any) -> None:
        """Tells how far the run is, for `darkroom status`: `epoch`, `epochs`, `metric`, `value`, `note`."""
        path = self.folder / "progress.json"
        known = _read_json(path) or {}
        about = {"state": "running", "stage": self.stage, "unit": self.unit, "started": self.started}
        atomic.write_json(path, {**known, **about, **fields, "updated": time.time()})

    def figure(self, figure: Figure, name: str) -> Figure:
        """Saves a figure as `figures/<name>.png` and returns it, so that a cell can end in it and show it."""
        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Title": name})
        return figure

    def environment(self, **found: Any) -> None:
        """Adds to `environment.json` what only the running process knows: backend, device, dtype policy."""
        path = self.folder / "environment.json"
        atomic.write_json(path, {**(_read_json(path) or {}), **found})

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes `result.json`, the last file of a run, frees the lock and returns what was written."""
        about = {"study": self.study, "stage": self.stage, "unit": self.unit, "data": self.data}
        marks = {name: self.parameters[name] for name in ("arm", "seed") if name in self.parameters}
        figures = sorted(path.name for path in self.folder.glob("figures/*.png"))
        seconds = round(time.time() - self.started, 2)
        whole = {**about, **marks, "seconds": seconds, "figures": figures, **result, "key": self.key}
        self.progress(state="finished")
        atomic.write_json(self.folder / "result.json", whole)
        _open_runs.pop(self.folder, None)
        self.lock.release()
        return whole


def start(name: str, namespace: dict[str, Any], *, data: Data | None) -> Run:
    """Opens the run of the notebook `name` with the parameters found in `namespace`.

    Args:
        name: the notebook's name, such as `3_train`.
        namespace: the notebook's `globals()`; the values of the declared parameters are taken from it.
        data: the data set, whose digest becomes part of the run's key.

    Raises:
        DarkroomError: when another process works on the same run.
    """
    path = notebook.find(name)
    declared = notebook.declaration(path)
    parameters = {parameter: namespace[parameter] for parameter in declared.parameters}
    folder = paths.run(parameters["study"], declared.stage, unit(parameters))
    wanted = key(path, parameters, data=data)
    if folder in _open_runs:  # the cell was run again in the same kernel
        _open_runs.pop(folder).lock.release()
    lock = acquire(folder)
    resumed = prepare(folder, wanted)
    checkpoint_folder = paths.checkpoint(parameters["study"], declared.stage, unit(parameters))
    run = Run(folder, checkpoint_folder, parameters, wanted, declared.stage, data and data.name, resumed, lock)
    _open_runs[folder] = run
    atomic.write_json(folder / "parameters.json", parameters)
    atomic.write_json(folder / "environment.json", _environment())
    run.progress()
    return run


def unit(parameters: dict[str, Any]) -> str:
    """Returns the unit's name: `all` without an arm, else `<arm>` or `<arm>-s<seed>`.

    A notebook opened by hand names no arm; then the architecture stands for it.
    """
    if "arm" not in parameters:
        return "all"
    arm = parameters["arm"] or parameters.get("architecture", "arm")
    return f"{arm}-s{parameters['seed']}" if "seed" in parameters else arm


def key(path: Path, parameters: dict[str, Any], *, data: Data | None) -> dict[str, Any]:
    """Returns what a run's result depends on; two runs with equal keys have equal results.

    Parts: `parameters`; `data`, the digest of what the notebook reads (raw files or manifest); `inputs`, a digest for each
    finished run that it reads; `notebook` and `code`, digests without docstrings and comments.
    """
    declared = notebook.declaration(path)
    found = None
    if data is not None:
        found = data.raw_digest() if "raw" in declared.reads else data.digest()
    return {
        "parameters": parameters,
        "data": found,
        "inputs": _inputs(parameters["study"], declared.stage) if "runs" in declared.reads else {},
        "notebook": fingerprint.notebook(path),
        "code": fingerprint.code(path),
    }


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns what differs between two keys, in words: `epochs 12 → 20`, `the data`, `the code of lib`."""
    named = {"data": "the data", "inputs": "the runs it reads", "notebook": "the notebook", "code": "the code of lib"}
    before, after = old.get("parameters", {}), new.get("parameters", {})
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    told = [f"{name} {before.get(name)!r} → {after.get(name)!r}" for name in names]
    return told + [words for part, words in named.items() if old.get(part) != new.get(part)]


def finished(folder: Path, wanted: dict[str, Any] | None = None) -> bool:
    """Whether a run has finished; with a key, whether it finished with just that key."""
    result = _read_json(folder / "result.json")
    return result is not None and (wanted is None or result.get("key") == wanted)


def read(folder: Path) -> dict[str, Any]:
    """Returns a finished run's `result.json`. Raises DarkroomError where there is none."""
    result = _read_json(folder / "result.json")
    if result is None:
        raise DarkroomError(f"The run {folder} has not finished: it has no readable result.json. Run its study again.")
    return result


def about(study: str) -> dict[str, Any]:
    """Returns what batch wrote about a study (`question`, `published`, `command`, …); empty for notebooks opened by hand."""
    return _read_json(paths.logs() / study / "study.json") or {}


def state(folder: Path) -> str:
    """Returns `queued`, `running`, `finished`, `failed` or `killed` (started, not finished, and nobody works on it)."""
    if locked(folder):
        return "running"
    for file, told in (("result.json", "finished"), ("failure.json", "failed"), ("progress.json", "killed")):
        if (folder / file).is_file():
            return told
    return "queued"


def prepare(folder: Path, wanted: dict[str, Any]) -> bool:
    """Makes `folder` ready for a run with the key `wanted`; returns whether an interrupted one can go on there.

    A finished run, or one with another key, is moved aside to `logs/.earlier/` with its checkpoints, never overwritten.
    """
    known = _read_json(folder / "key.json")
    resumable = known == wanted and not (folder / "result.json").exists()
    if folder.exists() and not resumable and known is not None:
        _move_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / "key.json", wanted)
    (folder / "failure.json").unlink(missing_ok=True)
    return resumable


def acquire(folder: Path) -> filelock.BaseFileLock:
    """Takes the lock of a run. Raises DarkroomError when another process holds it."""
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process works on the run {folder.name} in {folder.parent} now. Wait for it, stop it, or give this "
            "one another study or arm."
        ) from None
    return lock


def locked(folder: Path) -> bool:
    """Whether a living process works on the run."""
    if not _lock_file(folder).exists():
        return False
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def _lock_file(folder: Path) -> Path:
    # Beside the folder, because the folder itself may be moved, which Windows forbids while a file in it is open.
    return folder.with_name(f".{folder.name}.lock")


def _lock(folder: Path) -> filelock.BaseFileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(_lock_file(folder), is_singleton=False)


def _move_aside(folder: Path) -> None:
    for top in (paths.logs(), paths.checkpoints()):
        place = folder.relative_to(paths.logs())
        if not (top / place).exists():
            continue
        target = top / ".earlier" / place.with_name(f"{place.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        (top / place).rename(target)
        for events in target.rglob("events.out.tfevents.*"):  # or TensorBoard would go on showing them
            events.rename(events.with_name(events.name.replace("tfevents", "earlier")))


def _inputs(study: str, stage: str) -> dict[str, str]:
    """Digests of the finished runs that a stage reads: those of the stages it comes after, as batch wrote them down.

    A notebook opened by hand has no such list; then all trainings of its study count.
    """
    told = about(study)
    stages = {each["name"]: each for each in told.get("stages", [])}
    if stage in stages:
        units = [(name, unit) for name in stages[stage]["upstream"] for unit in stages[name]["units"]]
        shown = json.dumps([told.get("question"), told.get("published")], sort_keys=True)
        found = {"study": fingerprint.digest(shown)}
    else:
        units = sorted(("train", path.parent.name) for path in (paths.logs() / study).glob("train/*/result.json"))
        found = {}
    for name, unit in units:
        with contextlib.suppress(OSError):
            result = paths.run(study, name, unit) / "result.json"
            found[f"{name}/{unit}"] = fingerprint.digest(result.read_text(encoding="utf-8"))
    return found


def _environment() -> dict[str, Any]:
    versions = {}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "executable": Path(sys.executable).name,
        "versions": versions,
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        asked = subprocess.run(
            ["git", "-C", str(paths.checkout()), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
