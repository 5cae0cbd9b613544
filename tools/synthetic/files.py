"""Writing the drawn data set: class folders of image files, and the truth about them beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import files
from lib.errors import DarkroomError

from . import formats, kinds, plan
from .faults import LITTER, LOOKS
from .formats import File
from .kinds import SIDES, Picture
from .plan import Entry

TRUTH = "truth.parquet"
"""The truth table's name; it lies beside the raw folder, never inside."""

Touch = Callable[[np.ndarray, str], np.ndarray]


def draw(
    folder: Path,
    *,
    num_images: int = 1000,
    seed: int = 0,
    faults: bool = True,
    sides: tuple[int, int] = SIDES,
    touch: Touch | None = None,
) -> pd.DataFrame:
    """Draws pictures into class folders of `folder`, writes `truth.parquet` beside it, and returns
    that truth.

    `num_images` pictures are drawn. With `faults`, about 8 % of them are spoilt or wrongly
    labelled, and about 9 % come on top: copies, and files that are no images (each fault at least
    once, so that small sets hold more). `sides` are the shortest and the longest side in pixels.
    `touch(pixels, label)` may change each drawn picture last of all, for instance to plant a
    shortcut. The same arguments give the same files, byte for byte, with the same versions of the
    libraries.

    The truth has one row a file, sorted by `path` (POSIX, relative to `folder`): `label` (the
    folder), `kind` (what it truly is; None for what is no image), `fault` (None for a sound file),
    `detail`, `partner` (the path of the file it copies), `attr_artist`, `attr_palette`,
    `attr_year`, and `box_left`, `box_top`, `box_right`, `box_bottom` in pixels.

    Raises:
        DarkroomError: too few images, impossible sides, or a folder that is not empty.
    """
    folder = Path(folder)
    _check(folder, num_images, with_faults=faults)
    entries = plan.settle(num_images, seed=seed, with_faults=faults)
    rows = []
    for entry, file, picture in _made(entries, seed=seed, sides=sides, touch=touch):
        path = _path(entry, file)
        _write(folder / path, file.data)
        rows.append(
            {"number": entry.number, "copies": entry.partner, **_row(path, entry, file, picture)}
        )
    for name, data in LITTER.items() if faults else ():
        _write(folder / entries[0].label / name, data)
        rows.append(
            {"path": f"{entries[0].label}/{name}", "label": entries[0].label, "fault": "litter"}
        )
    truth = _table(rows)
    files.write_parquet(folder.parent / TRUTH, truth)
    return truth


def _check(folder: Path, num_images: int, *, with_faults: bool) -> None:
    least, when = (plan.MINIMUM, " with faults") if with_faults else (len(kinds.KINDS), "")
    if num_images < least:
        raise DarkroomError(f"`num_images` must be at least {least}{when}. Received: {num_images}.")
    if folder.exists() and any(folder.iterdir()):
        raise DarkroomError(
            f"The folder {folder} is not empty; give one that is, or one that does not exist yet."
        )


def _made(
    entries: list[Entry], *, seed: int, sides: tuple[int, int], touch: Touch | None
) -> Iterator[tuple[Entry, File, Picture | None]]:
    """Each drawn picture, followed at once by its copies, so that memory holds one picture only."""
    copies: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.partner is not None:
            copies.setdefault(entry.partner, []).append(entry)
    for entry in entries:
        if entry.partner is not None:
            continue
        if entry.kind is None:
            yield entry, formats.stranger(str(entry.fault)), None
            continue
        picture = kinds.drawn(entry.kind, seed=[seed, entry.number], sides=sides)
        pixels = picture.pixels if touch is None else touch(picture.pixels, entry.label)
        rng = np.random.default_rng([seed, entry.number, 7])
        if entry.fault in (None, "wrong_label"):
            file = formats.sound(pixels, picture.box, rng=rng)
        else:
            file = formats.spoilt(pixels, picture.box, fault=entry.fault, rng=rng)
        yield entry, file, picture
        for copy in copies.get(entry.number, []):
            yield copy, formats.copied(file, fault=str(copy.fault)), picture


def _path(entry: Entry, file: File) -> str:
    return f"{entry.label}/{entry.number:05d}.{file.extension}"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _row(path: str, entry: Entry, file: File, picture: Picture | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": path,
        "label": entry.label,
        "kind": entry.kind,
        "fault": entry.fault,
        "detail": file.detail,
    }
    if picture is not None:
        style = picture.style
        row |= {"attr_artist": style.artist, "attr_palette": style.palette, "attr_year": style.year}
    if file.box is not None:
        row |= dict(zip(("box_left", "box_top", "box_right", "box_bottom"), file.box, strict=True))
    if entry.fault in LOOKS:
        row["detail"] = f"a {entry.fault} picture"
    if entry.fault == "wrong_label":
        row["detail"] = f"truly {entry.kind}"
    return row


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = [
        "path",
        "label",
        "kind",
        "fault",
        "detail",
        "partner",
        "attr_artist",
        "attr_palette",
        "attr_year",
    ]
    columns += ["box_left", "box_top", "box_right", "box_bottom"]
    by_number = {row["number"]: row["path"] for row in rows if "number" in row}
    filled = [{**row, "partner": by_number.get(row.get("copies"))} for row in rows]
    table = pd.DataFrame(filled, columns=columns).sort_values("path", ignore_index=True)
    for name in ("kind", "fault", "detail", "partner", "attr_artist", "attr_palette"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table.astype(
        {"attr_year": "Int64"} | {name: "float64" for name in columns if name.startswith("box_")}
    )
