"""Checkpoints for exact resume: weights, optimiser, history, and the best weights.

A generation is written aside, hashed and renamed. The newest whose hashes hold is used; a torn or
damaged one is skipped with a warning, for the one before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lib import files
from lib.errors import DarkroomError

KEPT = 2
MAX_KEPT_BYTES = 64_000_000
"""Largest size of a checkpoint that is kept after the training, in bytes."""
_HASHES = "sha256.json"


@dataclasses.dataclass
class State:
    """The state of a training after an epoch.

    `history` holds one row an epoch; `best_weights` are those of `best_epoch` (1-based, 0 for none
    yet); `wait` counts the epochs since then.
    """

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_value: float | None = None
    best_epoch: int = 0
    best_weights: list[np.ndarray] | None = None
    wait: int = 0
    diverged: bool = False
    """Whether the loss became NaN or infinite in this session; never stored."""
    halted: bool = False
    """Whether a caller interrupted the training in this session; never stored."""

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return len(self.history)


def write(folder: Path, state: State, model: keras.Model) -> None:
    """Writes the generation of the epoch just done below `folder` and deletes all but the newest
    two.

    Raises:
        DarkroomError: when the disk cannot hold it; the generations before stay.
    """
    _refuse_full_disk(folder, state, model)
    content = {
        name: getattr(state, name) for name in ("history", "best_value", "best_epoch", "wait")
    }
    rate = model.optimizer.learning_rate
    with files.directory(folder / f"generation-{state.epoch:05}") as aside:
        _save(aside / "weights.npz", model.get_weights())
        _save(
            aside / "optimizer.npz",
            [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables],
        )
        if (
            state.best_weights is not None and state.best_epoch != state.epoch
        ):  # else they are the weights
            _save(aside / "best.npz", state.best_weights)
        files.write_json(
            aside / "state.json",
            {**content, "learning_rate": float(keras.ops.convert_to_numpy(rate))},
        )
        files.write_json(
            aside / _HASHES, {path.name: _sha256(path) for path in sorted(aside.iterdir())}
        )
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old)


def restore(folder: Path, model: keras.Model) -> State:
    """Puts the newest sound generation into a built and compiled model and returns its state; an
    empty one if there is none.

    Raises:
        DarkroomError: when a sound generation belongs to another model.
    """
    for generation in reversed(_all(folder)):
        if not _is_sound(generation):
            print(
                f"{generation.name} is damaged and is skipped; training continues from the one "
                "before it."
            )
            continue
        content = json.loads((generation / "state.json").read_text(encoding="utf-8"))
        model.optimizer.build(model.trainable_variables)
        _assign(model.weights, _load(generation / "weights.npz"), generation)
        _assign(model.optimizer.variables, _load(generation / "optimizer.npz"), generation)
        if (generation / "best.npz").is_file():
            content["best_weights"] = _load(generation / "best.npz")
        elif content["best_epoch"]:
            content["best_weights"] = model.get_weights()
        content.pop("learning_rate")  # for readers; the optimiser's own variables hold it
        return State(**content)
    return State()


def clear(folder: Path) -> None:
    """Deletes all generations of a finished training but the last, where that is small: with it the
    training can continue for more epochs.
    """
    for generation in _all(folder)[:-1]:
        shutil.rmtree(generation)
    for generation in _all(folder):
        if sum(path.stat().st_size for path in generation.iterdir()) > MAX_KEPT_BYTES:
            shutil.rmtree(generation)
    if folder.is_dir():
        files.clear_aside(folder)


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("generation-*"))


def _save(path: Path, arrays: list[np.ndarray]) -> None:
    np.savez(path, **{f"{number:05}": array for number, array in enumerate(arrays)})


def _load(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in sorted(stored.files)]


def _assign(variables: list, arrays: list[np.ndarray], generation: Path) -> None:
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise DarkroomError(
            f"{generation} belongs to another model: its {len(arrays)} arrays do not fit the "
            f"{len(variables)} variables. Delete that folder to retrain."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _is_sound(generation: Path) -> bool:
    try:
        hashes = json.loads((generation / _HASHES).read_text(encoding="utf-8"))
        return all(_sha256(generation / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(state: State, model: keras.Model) -> int:
    """Returns how many bytes a generation takes, about."""
    arrays: list[Any] = [*model.weights, *model.optimizer.variables, *(state.best_weights or [])]
    return sum(4 * int(np.prod(array.shape)) for array in arrays)


def _refuse_full_disk(folder: Path, state: State, model: keras.Model) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = size(state, model)
    free = shutil.disk_usage(folder).free
    if free < 1.1 * needed + 10_000_000:
        raise DarkroomError(
            f"A checkpoint of this training needs {needed / 1e9:.2f} GB in {folder}; "
            f"{free / 1e9:.2f} GB are free. Free some (`darkroom prune` shows what can go) and run "
            "the same command again: it continues from the last checkpoint."
        )
