"""Checks of file bytes: damage that decoders ignore, and the tags of a TIFF."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_BLOCK = 1 << 20
_HEAD_BYTES = 1 << 16
_PPM_HEAD = re.compile(rb"P[1-6](\s+(#[^\r\n]*[\r\n]\s*)*\d{1,9}){2,3}\s")
_MOST_SEGMENTS = 10_000
_WITHOUT_LENGTH = (0, 1, *range(0xD0, 0xDA), 0xFF)  # markers of a JPEG
_SMALL_CHUNK = 256
_LAST_FILTER = 4  # of a PNG row: Paeth
_PLANAR = 284  # TIFF tag PlanarConfiguration; 2: each band is stored by itself

MOST_FRAMES = 9_999
"""Frames or pages of a file are counted up to this number."""


class Damage(ValueError):
    """Bytes that are not what was once written; `reason` is truncated or corrupted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check(data: bytes, promised: str) -> None:
    """Returns when the container of the format `promised` is whole.

    Raises Damage: a PNG chunk whose checksum does not match or that ends early, a GIF or WEBP
    shorter than it says. JPEG and PPM have been checked by `check_head`, JPEG's decoder is strict.
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


def check_head(data: bytes, promised: str) -> None:
    """Raises ValueError for a head that would keep a parser busy: segments or stray bytes in
    thousands, comments of kilobytes.
    """
    if promised == "PNG":
        next(name for name, _ in _png_chunks(data) if name in (b"IDAT", b"IEND"))
    if promised == "PPM" and not _PPM_HEAD.match(data[:_HEAD_BYTES]):
        raise ValueError("its head cannot be read")
    position, num_segments, num_stray = 2, 0, 0
    while promised == "JPEG" and len(marker := data[position : position + 2]) == 2:
        if marker == b"\xff\xda":  # the pixels begin
            return
        if max(num_segments, num_stray) > _MOST_SEGMENTS:
            raise ValueError(f"more than {_MOST_SEGMENTS:,} segments or stray bytes in its head")
        if marker[0] != 0xFF or marker[1] in _WITHOUT_LENGTH:
            position, num_stray = position + 1, num_stray + 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            num_segments += 1


def num_frames(data: bytes, promised: str) -> int:
    """Returns the number of frames of a GIF or pages of a TIFF, counted up to `MOST_FRAMES`."""
    return len(list(islice((_gif_frames if promised == "GIF" else _tiff_pages)(data), MOST_FRAMES)))


def ends_early(data: bytes, promised: str) -> bool:
    """Whether the end mark of a JPEG or PNG is missing."""
    if promised == "JPEG":
        return b"\xff\xd9" not in data[-4096:]
    return promised == "PNG" and b"IEND" not in data[-4096:]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yields name and content of each chunk (Source: PNG specification, section 5)."""
    position, view = 8, memoryview(data)
    num_of = Counter[bytes]()
    while True:
        if position + 12 > len(data):
            raise Damage("truncated", "PNG ends before its end mark")
        (length,) = struct.unpack_from(">I", data, position)
        name, end = bytes(view[position + 4 : position + 8]), position + 12 + length
        called = repr(name.decode("latin-1"))
        if end > len(data):
            raise Damage("truncated", f"PNG ends inside its {called} chunk")
        (declared,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != declared:
            raise Damage("corrupted", f"PNG: the checksum of the {called} chunk does not match")
        num_of[name] += 1
        if name in (b"IHDR", b"PLTE") and num_of[name] > 1:
            raise Damage("corrupted", f"PNG: a second {name.decode()} chunk")
        if num_of.total() > max(_MOST_SEGMENTS, end // _SMALL_CHUNK):
            raise Damage("corrupted", f"PNG: {num_of.total():,} chunks in {end:,} bytes")
        if not name[0] & 0x20 and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            raise Damage("unsupported", f"PNG: the chunk {called} changes how it is to be read")
        yield name, view[position + 8 : end - 4]
        if name == b"IEND":
            return
        position = end


def _check_png(data: bytes) -> None:
    """Walks the chunks and inflates the pixels, which must fill every row."""
    packed = [content for name, content in _png_chunks(data) if name == b"IDAT"]
    _check_inflation(packed, data[16:29])


def _check_inflation(packed: list[memoryview], header: bytes) -> None:
    """Inflates as much as the rows need, without keeping it: a stream that breaks or ends before,
    or a row with an unknown filter, leaves rows made up.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wanted, rows_of = 0, []
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            stride = 1 + (columns * bits + 7) // 8
            rows_of.append(range(wanted, wanted + rows * stride, stride))
            wanted += rows * stride
    stream, inflated = zlib.decompressobj(), 0
    try:
        for part in packed:
            while part and not stream.eof and inflated <= wanted:
                block = np.frombuffer(stream.decompress(part, _BLOCK), np.uint8)
                for rows in rows_of:  # each begins with the number of its filter
                    first = max(rows.start, inflated + (rows.start - inflated) % rows.step)
                    end = max(0, rows.stop - inflated)
                    if (block[first - inflated : end : rows.step] > _LAST_FILTER).any():
                        raise Damage("corrupted", "PNG: a row has an unknown filter")
                inflated += len(block)
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
    if greatest >= num_colours:
        raise Damage(
            "corrupted",
            f"{promised}: a pixel has colour {greatest}, and the palette has {num_colours} colours",
        )


def check_pixels(image: Image.Image, data: bytes, promised: str) -> None:
    """Raises Damage for a TIFF or PPM as it was opened: uncompressed strips or tiles that do not
    cover the picture, values above the declared greatest one.
    """
    if not image.tile:
        return
    codec, _, offset, options = image.tile[0]
    if promised == "TIFF" and codec == "raw":
        covered = sum((box[2] - box[0]) * (box[3] - box[1]) for _, box, _, _ in image.tile)
        num_planes = len(image.getbands()) if image.tag_v2.get(_PLANAR) == 2 else 1
        if covered < image.width * image.height * num_planes:
            raise Damage("truncated", "TIFF: its strips or tiles do not cover the picture")
    if promised == "PPM" and codec == "ppm":
        values = np.frombuffer(data, np.uint8 if options[1] < 256 else ">u2", offset=offset)
        greatest = values[: image.width * image.height * len(image.getbands())].max(initial=0)
        if greatest > options[1]:
            raise Damage("corrupted", f"PPM: a value {greatest}, and the greatest is {options[1]}")


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
    if not any(True for _ in _gif_frames(data)) and data[-1:] != b";":
        raise Damage("truncated", "GIF ends inside its first frame")


def _gif_frames(data: bytes) -> Iterator[int]:
    """Walks the blocks (Source: GIF89a specification); yields where each frame ends. A frame whose
    data has no end is cut off.
    """
    flags = data[10] if len(data) > 12 else 0
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    found = 0
    while position < len(data) and data[position] != 0x3B:
        block = data[position]
        if block == 0x2C and position + 10 <= len(data):
            flags = data[position + 9]
            position = _skip(data, position + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
            if position <= len(data):
                found += 1
                yield position
        elif block == 0x21:
            position = _skip(data, position + 2)
        elif found:
            return  # what follows the first frame does not damage it
        else:
            raise Damage("corrupted", "GIF: a block of an unknown kind before the first frame")


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


def _tiff_pages(data: bytes) -> Iterator[int]:
    """Yields where the directories of a TIFF or BigTIFF begin, up to one that leads back."""
    order, is_big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    count, size, link = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    seen: set[int] = set()
    try:
        (position,) = struct.unpack_from(order + link, data, 8 if is_big else 4)
        while position and position not in seen:
            seen.add(position)
            (entries,) = struct.unpack_from(order + count, data, position)
            yield position
            after = position + struct.calcsize(count) + entries * size
            (position,) = struct.unpack_from(order + link, data, after)
    except struct.error:  # it ends before
        return


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
