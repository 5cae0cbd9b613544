"""Checks of file bytes: damage that decoders ignore, and the tags of a TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_BLOCK = 1 << 20


class Damage(ValueError):
    """Bytes that are not what was once written; `reason` is truncated or corrupted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check(data: bytes, promised: str) -> None:
    """Returns when the container of the format `promised` is whole.

    Raises Damage: a PNG chunk whose checksum does not match or that ends early, a GIF or WEBP
    shorter than it says. JPEG needs no check of its own, its decoder is strict.
    """
    if promised == "PNG":
        _check_png(data)
    elif promised == "WEBP":
        declared = int.from_bytes(data[4:8], "little") + 8
        if len(data) < declared:
            raise Damage("truncated", f"WEBP of {declared:,} bytes ends after {len(data):,}")
    elif promised == "GIF":
        _check_gif(data)
    elif promised == "BMP":
        _check_bmp(data)


def ends_early(data: bytes, promised: str) -> bool:
    """Whether the end mark of a JPEG or PNG is missing."""
    if promised == "JPEG":
        return b"\xff\xd9" not in data[-4096:]
    return promised == "PNG" and b"IEND" not in data[-4096:]


def _check_png(data: bytes) -> None:
    """Walks the chunks (Source: PNG specification, section 5) and inflates the pixels, which must
    fill every row.
    """
    position, view, packed = 8, memoryview(data), []
    num_heads = 0
    while True:
        if position + 12 > len(data):
            raise Damage("truncated", "PNG ends before its end mark")
        (length,) = struct.unpack_from(">I", data, position)
        name = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise Damage("truncated", f"PNG ends inside its {name.decode('latin-1')!r} chunk")
        (declared,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != declared:
            raise Damage(
                "corrupted",
                f"PNG: the checksum of the {name.decode('latin-1')!r} chunk does not match",
            )
        num_heads += name == b"IHDR"
        if num_heads > 1:
            raise Damage("corrupted", "PNG: a second IHDR chunk")
        if name == b"IDAT":
            packed.append(view[position + 8 : end - 4])
        if name == b"IEND":
            _check_inflation(packed, data[16:29])
            return
        position = end


def _check_inflation(packed: list[memoryview], header: bytes) -> None:
    """Inflates as much as the rows need, without keeping it: a stream that breaks or ends before
    leaves rows made up.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    stream, inflated = zlib.decompressobj(), 0
    try:
        for part in packed:
            while part and not stream.eof and inflated <= wanted:
                inflated += len(stream.decompress(part, _BLOCK))
                part = stream.unconsumed_tail
    except zlib.error as error:
        raise Damage("corrupted", f"PNG: the packed pixels are damaged ({error})") from error
    if inflated < wanted or (not stream.eof and inflated == wanted):
        raise Damage(
            "truncated", f"PNG: the packed pixels end after {inflated:,} of {wanted:,} bytes"
        )
    if inflated > wanted:
        raise Damage("corrupted", f"PNG: more packed pixels than the {wanted:,} bytes of its rows")


_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, and the steps to the next, of each pass. Source: PNG specification,
section 8.2.
"""


def check_palette(image: Image.Image, promised: str) -> None:
    """Raises Damage where a pixel of a PNG or BMP names a colour that the palette does not have."""
    if image.mode != "P" or promised not in ("PNG", "BMP") or image.palette is None:
        return
    num_colours = len(image.palette.getdata()[1]) // len(
        image.palette.getdata()[0].replace("X", "").replace(";", "")[:4] or "RGB"
    )
    greatest = image.getextrema()[1]
    if greatest >= max(1, num_colours):
        raise Damage(
            "corrupted",
            f"{promised}: a pixel has colour {greatest}, and the palette has {num_colours} colours",
        )


def _check_bmp(data: bytes) -> None:
    """Walks the runs of a compressed BMP, which must stay inside the picture. Source: Microsoft,
    Bitmap compression.
    """
    if len(data) < 54 or data[14:18] < b"\x28":
        return
    offset, size = struct.unpack_from("<II", data, 10)
    if size < 40:
        return
    width, height = struct.unpack_from("<ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression not in (1, 2):
        return
    x = y = 0
    position = offset
    while position + 1 < len(data):
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            x += count
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return
        elif value == 2:
            if position + 1 >= len(data):
                break
            x, y, position = x + data[position], y + data[position + 1], position + 2
        else:
            x += value
            num_bytes = value if compression == 1 else (value + 1) // 2
            position += num_bytes + num_bytes % 2
        if x > width or y > abs(height):
            raise Damage("corrupted", "BMP: a run leads out of the picture")
    raise Damage("truncated", "BMP: its runs have no end")


def _check_gif(data: bytes) -> None:
    """Walks the blocks of the first frame (Source: GIF89a specification); a frame whose data has no
    end is cut off.
    """
    flags = data[10] if len(data) > 12 else 0
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while position < len(data):
        block = data[position]
        if block == 0x3B:
            return
        if block == 0x2C and position + 10 <= len(data):
            flags = data[position + 9]
            position = _skip(data, position + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
            if position <= len(data):
                return
        elif block == 0x21:
            position = _skip(data, position + 2)
        else:
            raise Damage("corrupted", "GIF: a block of an unknown kind before the first frame")
    raise Damage("truncated", "GIF ends inside its first frame")


def _skip(data: bytes, position: int) -> int:
    """The position after a chain of sub-blocks; past the end of the data when the chain
    has no end.
    """
    while position < len(data):
        size = data[position]
        position += size + 1
        if size == 0:
            return position
    return len(data) + 1


@dataclass(frozen=True)
class TiffTags:
    """Tags of a TIFF's first page; zeros if it cannot be read."""

    bits: int = 0
    bands: int = 1
    photometric: int = -1
    sample_format: int = 1
    compression: int = 1
    orientation: int = 1
    alpha: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.sample_format == 3

    @property
    def is_signed(self) -> bool:
        """Whether the values are signed whole numbers."""
        return self.sample_format == 2

    @property
    def white_is_zero(self) -> bool:
        """Whether zero is white."""
        return self.photometric == 0

    def describe(self) -> str | None:
        """Returns `5 bands x 16 bits`, or None where the tags could not be read."""
        if not self.bits:
            return None
        kind = " float" if self.is_float else ""
        return f"{self.bands} bands x {self.bits} bits{kind}, compression {self.compression}"


_TAGS = {
    "photometric": 262,
    "bands": 277,
    "sample_format": 339,
    "compression": 259,
    "orientation": 274,
}


def tiff_tags(data: bytes) -> TiffTags:
    """Returns the tags of the first page of a TIFF or BigTIFF. Source: TIFF revision 6.0, sections
    2 and 8.
    """
    try:
        tags = ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        values = {
            tag: np.ravel(tags[tag]).tolist() for tag in (*_TAGS.values(), 258, 338) if tag in tags
        }
    # damaged tags may raise anything in the parser; the decoder then names the damage
    except Exception:
        return TiffTags()
    alpha = next((kind for kind in values.get(338, ()) if kind in (1, 2)), None)
    first = {name: values[tag][0] for name, tag in _TAGS.items() if values.get(tag)}
    return TiffTags(bits=max(values.get(258) or (1,)), alpha=alpha, **first)
