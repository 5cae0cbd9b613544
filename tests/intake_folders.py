"""Folders of small pictures as people have them, and how they are read.

Reading opens no picture, so one small picture stands for all of them.
"""

import io

import numpy as np
import pandas as pd
from PIL import Image

from lib.data import file_listing, sources


def _picture():
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = _picture()


def fill(root, *names, size=0):
    """Writes a picture under each name; `size` bytes more make it another file."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE + bytes(size))
    return root


def each(pattern, n=4, **words):
    """Every combination of the words in `pattern`, each with `n` numbers for {i}."""
    names = [pattern]
    for word, values in words.items():
        names = [name.replace("{" + word + "}", value) for name in names for value in values]
    return [name.replace("{i}", f"{name.count('/')}{i:03}") for name in names for i in range(n)]


def table(root, header, rows, name="labels.csv", sep=",", encoding="utf-8"):
    lines = ([header] if header else []) + [sep.join(map(str, row)) for row in rows]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return root


def read(root, **options):
    """The reading; the options that it pins give the same again, as every later command does."""
    files = file_listing.files(root, hidden="report", links=options.get("links"))
    reading = sources.read_folder(root, files, options)
    again = sources.read_folder(root, files, {**reading.options, **options})
    pd.testing.assert_frame_equal(again.rows, reading.rows)
    return reading


def labels(reading):
    return dict(reading.rows["label"].dropna().value_counts().sort_index())


def splits(reading):
    rows = reading.rows[reading.rows["label"].notna()]
    return dict(rows["source_split"].dropna().value_counts().sort_index())
