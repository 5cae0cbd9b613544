"""The pixel cache: all decoded images of a data set as one memory-mapped array on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
import pandas

from lib import files as files_module
from lib import hashing
from lib.data import decode
from lib.data.dataset import Dataset
from lib.data.value_range import Rendering
from lib.errors import DarkroomError

MIN_SIDE, MAX_SIDE = 8, 2048
# images a task: large enough that threads do not wait on the queue, small enough to share the end
# evenly
_CHUNK = 64
_seen_whole: set[tuple[str, int, int]] = set()  # what this process has checked


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A data set's accepted images, decoded and resized.

    `array` is uint8 RGB of shape (images, height, width, 3), mapped from disk and read-only; `rows`
    maps a path to its row; `key` names the images and how they were resized.
    """

    array: np.ndarray
    rows: pandas.Series
    key: str

    def rows_of(self, paths: pandas.Series) -> np.ndarray:
        """Returns the row numbers (int64) of the given paths, in their order."""
        return self.rows.loc[paths].to_numpy()


def cache(
    dataset: Dataset,
    *,
    side: int | tuple[int, int],
    fit: str = "stretch",
    rows: pandas.DataFrame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Returns the decoded images of a data set; decodes them at the first call for this side.

    Several processes may ask at once: one decodes, the others wait for it.

    Args:
        dataset: a cleaned data set.
        side: height and width of the result in pixels, 8 to 2048, or (height, width), each 1 to
            2048, for thumbnails.
        fit: `stretch`, `pad` or `crop`, see `decode.resize`.
        rows: which images (`path` and `pixels` of a manifest); None takes those that are accepted.
        progress: called with (images done, images in all) while decoding.

    Raises:
        DarkroomError: for a side out of range, too little free disk, or a file that changed since
            it was cleaned.
    """
    height, width = _size(side)
    rows = (dataset.accepted() if rows is None else rows).sort_values("path", ignore_index=True)
    key = key_of(rows, side=side, fit=fit)
    folder = dataset.folder / "pixels" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{key}.lock"):
        if not _is_whole(folder, (len(rows), height, width, 3)):
            shutil.rmtree(folder, ignore_errors=True)
            _refuse_full_disk(folder.parent, len(rows) * height * width * 3)
            with files_module.directory(folder) as aside:
                target, size = aside / "pixels.npy", (height, width)
                _decode_all(dataset, rows, target, size=size, fit=fit, progress=progress)
                index = {"paths": list(rows["path"]), "pixels": list(rows["pixels"])}
                index["crc32"] = _checksum(np.load(target, mmap_mode="r"))
                files_module.write_json(aside / "index.json", index)
    paths = json.loads((folder / "index.json").read_text(encoding="utf-8"))["paths"]
    array = np.load(folder / "pixels.npy", mmap_mode="r")
    return Pixels(array, pandas.Series(np.arange(len(paths)), index=paths), key)


def _is_whole(folder: Path, shape: tuple[int, ...]) -> bool:
    """Whether the decoded images are there and what was written; else they are decoded again."""
    index = files_module.read_json(folder / "index.json")
    if not isinstance(index, dict) or not isinstance(index.get("paths"), list):
        return False
    try:
        array = np.load(folder / "pixels.npy", mmap_mode="r")
        stat = (folder / "pixels.npy").stat()
    except (OSError, ValueError, EOFError):
        return False
    if array.shape != shape or len(index["paths"]) != shape[0]:
        return False
    state = (str(folder), stat.st_size, stat.st_mtime_ns)
    if "crc32" in index and state not in _seen_whole:  # older ones have none
        if _checksum(array) != index["crc32"]:
            return False
        _seen_whole.add(state)
    return True


def _checksum(array: np.ndarray) -> int:
    value = 0
    for start in range(0, len(array), _CHUNK):
        value = zlib.crc32(np.ascontiguousarray(array[start : start + _CHUNK]), value)
    return value


def stale(dataset: Dataset) -> list[Path]:
    """Returns the folders of decoded images that are of other data: a picture in them has changed
    or is in no manifest now.
    """
    table = dataset.manifest()
    known = dict(zip(table["path"], table["pixels"], strict=True))
    folders = []
    for index in sorted((dataset.folder / "pixels").glob("*/index.json")):
        content = json.loads(index.read_text(encoding="utf-8"))
        pairs = zip(content["paths"], content.get("pixels", ()), strict=False)
        if any(known.get(path) != pixels for path, pixels in pairs):
            folders.append(index.parent)
    return folders


def key_of(rows: pandas.DataFrame, *, side: int | tuple[int, int], fit: str) -> str:
    """Returns the name of the decoded images of `rows` (`path` and `pixels` of a manifest, sorted
    by path).
    """
    height, width = _size(side)
    size = str(height) if height == width else f"{height}x{width}"
    return f"{size}-{fit}-{digest_of(rows)}"


def digest_of(rows: pandas.DataFrame) -> str:
    """Returns the part of `key_of` that tells which images they are, whatever their size: 16 hex
    digits.
    """
    return hashing.digest(*rows["path"], *rows["pixels"])


def decode_few(
    raw: Path,
    files: Sequence[str],
    *,
    side: int | tuple[int, int],
    fit: str = "stretch",
    rendering: Rendering | None = None,
) -> np.ndarray:
    """Returns a few images of a cleaned data set, uint8 (n, height, width, 3), without keeping them
    on disk.
    """
    height, width = _size(side)

    def small(path: str) -> np.ndarray:
        return decode.resize(_read(raw, path, rendering), height=height, width=width, fit=fit)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return np.stack(list(pool.map(small, files)))


def _size(side: int | tuple[int, int]) -> tuple[int, int]:
    size = (side, side) if isinstance(side, int) else side
    lowest = MIN_SIDE if isinstance(side, int) else 1
    if not lowest <= min(size) <= max(size) <= MAX_SIDE:
        name = "image_side" if isinstance(side, int) else "size"
        raise DarkroomError(f"`{name}` must be {lowest} to {MAX_SIDE} pixels. Received: {side}.")
    return size


def statistics(array: np.ndarray, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation (1 at least) of each channel over the given rows, in
    units of 0 to 255.
    """
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(rows), _CHUNK):
        chunk = array[rows[start : start + _CHUNK]]
        counts += [np.bincount(chunk[..., channel].ravel(), minlength=256) for channel in range(3)]
    shares = counts / counts.sum(axis=1, keepdims=True)  # (3, 256)
    levels = np.arange(256)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    return [float(value) for value in mean], [max(1.0, float(value)) for value in std]


def _decode_all(
    dataset: Dataset,
    rows: pandas.DataFrame,
    target: Path,
    *,
    size: tuple[int, int],
    fit: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    shape, rendering = (len(rows), *size, 3), dataset.rendering
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)

    def fill(start: int) -> int:
        chunk = rows.iloc[start : start + _CHUNK]
        for index, row in enumerate(chunk.itertuples(), start=start):
            decoded = _read(dataset.raw, row.path, rendering)
            _refuse_changed(dataset.name, row.path, decoded, row.pixels)
            array[index] = decode.resize(decoded, height=size[0], width=size[1], fit=fit)
        return start + len(chunk)

    # Pillow and OpenCV decode and resize without holding the interpreter's lock, so threads are
    # enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(fill, range(0, len(rows), _CHUNK)):
            if progress:
                progress(done, len(rows))
    array.flush()


def _refuse_changed(name: str, path: str, pixels: np.ndarray, known: str) -> None:
    """Refuses a picture that was replaced since cleaning: it would have the old label and hash."""
    if decode.pixel_hash(pixels) != known:
        raise DarkroomError(
            f"{path} has changed since the data set {name!r} was cleaned: it shows another picture "
            f"now. Run 1_clean again (darkroom clean {name}), which judges what is there now."
        )


def _read(raw: Path, path: str, rendering: Rendering | None) -> np.ndarray:
    try:
        return decode.decode((raw / path).read_bytes(), rendering=rendering).pixels
    except (OSError, decode.ImageError) as error:
        raise DarkroomError(
            f"{path} could be read when the data set was cleaned and cannot now ({error}). Run "
            "1_clean again."
        ) from error


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise DarkroomError(
            f"The decoded images need {needed / 1e9:.2f} GB in {folder}; {free / 1e9:.2f} GB are "
            "free. Free some (`darkroom prune` shows what can go) or choose a smaller image_side."
        )
