"""From pixels to a file's bytes: formats, qualities, and what a spoilt or copied
picture becomes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import faults
from .drawing import Box, moved


@dataclass(frozen=True)
class File:
    """The bytes of one file, the box of its main thing after whatever befell it, and a word on the
    fault.
    """

    data: bytes
    extension: str
    box: Box | None = None
    detail: str = ""


def encode(pixels: np.ndarray, extension: str, *, quality: int = 90, note: str = "") -> bytes:
    """Returns the bytes of a jpg, png, webp or bmp file of uint8 RGB `pixels`; `note` becomes a
    comment in a png.
    """
    buffer, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(pixels))
    if extension == "png":
        info = PngInfo()
        if note:
            info.add_text("Comment", note)
        image.save(buffer, "PNG", compress_level=2, pnginfo=info)
    elif extension == "bmp":
        image.save(buffer, "BMP")
    else:
        image.save(buffer, {"jpg": "JPEG", "webp": "WEBP"}[extension], quality=quality)
    return buffer.getvalue()


def sound(pixels: np.ndarray, box: Box | None, *, rng: np.random.Generator) -> File:
    """Returns a sound file: three times in four a JPEG of quality 55 to 95, else PNG,
    BMP or WebP.
    """
    extension = str(rng.choice(["jpg", "png", "bmp", "webp"], p=[0.76, 0.18, 0.03, 0.03]))
    return File(encode(pixels, extension, quality=int(rng.integers(55, 96))), extension, box)


def spoilt(pixels: np.ndarray, box: Box | None, *, fault: str, rng: np.random.Generator) -> File:
    """Returns the file of a drawn picture that a fault of its own befalls: one of LOOKS, BYTES or
    `wrong_extension`.
    """
    if fault in faults.LOOKS:
        return File(
            encode(faults.LOOKS[fault](pixels, rng), "jpg"),
            "jpg",
            None if fault == "uniform" else box,
        )
    if fault in faults.BYTES:
        extension, spoil = faults.BYTES[fault]
        data, detail = spoil(encode(pixels, extension), rng)
        return File(data, extension, box, detail)
    return File(encode(pixels, "png"), "jpg", box, "a PNG called .jpg")


def copied(source: File, *, fault: str) -> File:
    """Returns the file of a copy: `exact_bytes`, `two_labels`, `exact_pixels` or `near_<name in
    COPIES>`.
    """
    if fault in ("exact_bytes", "two_labels"):
        return File(source.data, source.extension, source.box, "the same bytes")
    pixels = np.asarray(Image.open(io.BytesIO(source.data)).convert("RGB"))
    if fault == "exact_pixels":
        return File(
            encode(pixels, "png", note="second scan"),
            "png",
            source.box,
            "the same pixels in other bytes",
        )
    name = fault.removeprefix("near_")
    copy, matrix = faults.COPIES[name](pixels)
    box = moved(source.box, matrix, width=copy.shape[1], height=copy.shape[0])
    return File(encode(copy, "jpg", quality=50 if name == "quality_50" else 90), "jpg", box, name)


def stranger(fault: str) -> File:
    """Returns a file that is no image: `not_an_image_<name in STRANGERS>`."""
    extension, data = faults.STRANGERS[fault.removeprefix("not_an_image_")]
    return File(data, extension)
