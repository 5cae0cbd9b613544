"""Request fields, row numbers, small JPEGs, and the routes of a page of images."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Blueprint, Response, abort, jsonify, request

from lib.data import decode, thumbnails
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

SIDES = (128, 256, 320, 1280)
"""Pixels of the longer side that pages may ask for."""
_DARKENED, _LOW, _HIGH = 0.55, np.array([213, 94, 0]), np.array([255, 236, 120])

MAX_ROWS = 300
"""Images described in one answer."""
NONE = 65_535
"""The code of a missing label."""


class Images:
    """The images of a page: those of a data set, or of an application to be labelled. A subclass
    adds `arrays` (one value an image of all that the page filters and sorts by, see `packed`),
    `file` (of a row), `described_one` (a row in words), and `act` and `undo`, which decide about
    images, flushed to the disk before they return what has changed.

    It sets `name`, `version`, `states`, `paths` (relative), `labels` (class names in the order of
    their codes), `label`, `verdict` (place in `states`) and `decided` (by hand), one number an
    image, which change with every decision, and `undoable`, the decisions of the page.
    """

    def __len__(self) -> int:
        return len(self.paths)

    def about(self) -> dict[str, Any]:
        """Returns names and counts: all that the page needs beside the arrays."""
        return {
            "name": self.name,
            "files": len(self),
            "version": self.version,
            "labels": self.labels,
            "verdicts": self.states,
            "undo": len(self.undoable),
        }

    def described(self, rows: list[int]) -> list[dict[str, Any]]:
        """Returns what is known of some images in words."""
        return [
            {"row": row, "path": str(self.paths[row]), **self.described_one(row)}
            for row in checked(rows, len(self), most=MAX_ROWS)
        ]

    def search(self, text: str) -> list[int]:
        """Returns the rows whose path holds every word of `text`, whatever their case."""
        return matching(self._searchable, text)

    def jpeg(self, row: int, *, side: int) -> bytes:
        """Returns an image as JPEG."""
        return of_path(self.file(row), side=side)

    def code(self, label: str | None) -> int:
        """Returns the code of a label, a new one for a new label."""
        if label is None:
            return NONE
        if label not in self.labels:
            if len(self.labels) >= NONE:
                raise DarkroomError(f"A data set has at most {NONE:,} classes.")
            self.labels.append(label)
        return self.labels.index(label)

    def label_of(self, row: int) -> str | None:
        """Returns the label of an image."""
        code = int(self.label[row])
        return None if code == NONE else self.labels[code]

    def chosen(self, rows: list[int]) -> list[int]:
        """Returns the images to decide about. Raises DarkroomError for none or unknown ones."""
        if not rows:
            raise DarkroomError("Name at least one image.")
        return sorted(set(checked(rows, len(self), most=len(self))))

    def changed(self, rows: list[int]) -> dict[str, Any]:
        """Returns how images are decided now."""
        return {
            "rows": rows,
            "verdicts": self.verdict[rows].tolist(),
            "labels": self.label[rows].tolist(),
            "decided": self.decided[rows].tolist(),
            "names": self.labels,
            "undo": len(self.undoable),
        }

    @functools.cached_property
    def _searchable(self) -> pd.Series:
        return pd.Series(self.paths, dtype="string").str.casefold()


def image_routes(
    pages: Blueprint,
    address: str,
    load: Callable[..., Images],
    after: Callable[[Images], None] = lambda images: None,
) -> None:
    """Adds all that the script of a page of images asks for, below `/api<address>`.

    Args:
        pages: the blueprint that gets the routes.
        address: of the page; the names in it are the arguments of `load`.
        load: returns the images.
        after: called after every decision.
    """

    def current(place: dict[str, str]) -> Images:
        images = load(**place)  # rows that are named must be those of the images as they are now
        if body("version", str) != images.version:
            abort(409, "The images have changed since the page was opened; reload it.")
        return images

    def about(**place: str) -> Response:
        return jsonify(load(**place).about())

    def arrays(**place: str) -> Response:
        return Response(load(**place).arrays(), mimetype="application/octet-stream")

    def search(**place: str) -> Response:
        return jsonify(rows=load(**place).search(request.args.get("text", "")[:200]))

    def picture(row: int, **place: str) -> Response:
        return jpeg_response(load(**place).jpeg(row, side=asked_side()))

    def rows(**place: str) -> Response:
        return jsonify(current(place).described(body("rows", list)))

    def decide(**place: str) -> Response:
        images, action = current(place), body("action", str)
        label = plain_label(body("label", str)) if action == "relabel" else None
        changed = images.act(body("rows", list), action, label)
        after(images)
        return jsonify(changed)

    def undo(**place: str) -> Response:
        images = current(place)
        changed = images.undo()
        after(images)
        return jsonify(changed)

    for view in (about, arrays, search):
        pages.add_url_rule(f"/api{address}/{view.__name__}", view_func=view)
    for view in (rows, decide, undo):
        pages.add_url_rule(f"/api{address}/{view.__name__}", view_func=view, methods=["POST"])
    pages.add_url_rule(f"/api{address}/pictures/<int:row>", view_func=picture)


def body(name: str, kind: type) -> Any:
    """Returns a field of the request's JSON. Answers 400 where it is missing or of another type."""
    try:
        content = json.loads(request.get_data()) if request.is_json else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        abort(400, "This takes JSON: an object.")
    if not isinstance(content.get(name), kind):
        abort(400, f"`{name}` is missing or of another type than {kind.__name__}.")
    return content[name]


def plain_label(text: str) -> str:
    """Returns a class name as it is kept. Raises DarkroomError for one that is empty, long or holds
    control characters.
    """
    label = " ".join(text.split())
    if not label or len(label) > 200 or not label.isprintable():
        raise DarkroomError("A label is one line of 1 to 200 characters.")
    return label


def checked(rows: list[int], num: int, *, most: int) -> list[int]:
    """Returns the rows that a request names. Raises DarkroomError unless they are some of 0 to
    `num - 1`, `most` at once.
    """
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise DarkroomError("Images are named by a list of whole numbers.")
    if len(rows) > most:
        raise DarkroomError(f"At most {most:,} images at once. Received: {len(rows):,}.")
    if rows and (min(rows) < 0 or max(rows) >= num):
        raise DarkroomError(
            f"There are the images 0 to {num - 1:,}. Received: {min(rows)} to {max(rows)}."
        )
    return rows


def matching(texts: pd.Series, words: str) -> list[int]:
    """Returns the rows of casefolded `texts` that hold every word, whatever its case."""
    match = np.full(len(texts), bool(words.split()))
    for word in words.casefold().split():
        match &= texts.str.contains(word, regex=False).to_numpy(bool)
    return np.flatnonzero(match).tolist()


def asked_side() -> int:
    """Returns the side in pixels that the request asks for, one of `pictures.SIDES`."""
    side = request.args.get("side", "256")
    if side not in map(str, SIDES):
        abort(400, f"`side` is one of {SIDES}.")
    return int(side)


def jpeg_response(content: bytes) -> Response:
    """Returns a picture that the browser may keep; its address changes with the data set."""
    response = Response(content, mimetype="image/jpeg")
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response


def packed(columns: dict[str, np.ndarray]) -> bytes:
    """Returns arrays as one block: uint32 length of a JSON header, the header, then each array at a
    multiple of eight bytes.

    The header lists `name`, `type` (NumPy's name), `offset` in bytes from the block's start, and
    `shape`.
    """
    parts, listed, offset = [], [], 0
    for name, values in columns.items():
        content, kind = np.ascontiguousarray(values).tobytes(), values.dtype.name
        listed.append({"name": name, "type": kind, "offset": offset, "shape": values.shape})
        content += b"\0" * (-len(content) % 8)
        parts.append(content)
        offset += len(content)
    header = json.dumps(listed).encode()
    header += b" " * (-(len(header) + 4) % 8)
    return len(header).to_bytes(4, "little") + header + b"".join(parts)


def file_of(dataset: Dataset, path: str) -> Path:
    """Returns the file of an image. Raises DarkroomError for one that lies outside the data set."""
    raw = dataset.raw.resolve()
    file = (raw / path).resolve()
    if not file.is_relative_to(raw):
        raise DarkroomError("This image lies outside its data set; it is not shown.")
    return file


def of_path(file: Path, *, side: int) -> bytes:
    """Returns an image file as JPEG whose longer side is at most `side` pixels. Raises
    DarkroomError if it cannot be read.
    """
    try:
        content = _cached(file, file.stat().st_mtime_ns, side)
    except OSError:
        content = b""
    if not content:
        raise DarkroomError("This image cannot be read any more.")
    return content


@functools.lru_cache(maxsize=6_000)
def _cached(file: Path, _changed_ns: int, side: int) -> bytes:
    if not file.is_file():  # a pipe would never end
        return b""
    try:
        pixels = decode.decode(file.read_bytes()).pixels
        return thumbnails.jpeg(thumbnails.scaled(pixels, side=side, enlarge=False))
    except (OSError, decode.ImageError):
        return b""


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the picture in dark grey, with the places that speak for the class in orange to
    yellow, uint8 (h, w, 3).
    """
    strength = np.clip(values / max(float(values.max()), 1e-9), 0, 1)[..., None]  # (h, w, 1)
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) * _DARKENED
    warm = _LOW + strength * (_HIGH - _LOW)
    mixed = grey * (1 - 0.8 * strength) + warm * 0.8 * strength
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
