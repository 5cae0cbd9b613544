"""Damage that decoders pass over in silence, found in the bytes themselves."""

from __future__ import annotations

import struct
import zlib

_BLOCK = 1 << 20


class Damage(ValueError):
    """Bytes that are not what was once written; `reason` is truncated or rotten."""

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
                "rotten",
                f"PNG: the checksum of the {name.decode('latin-1')!r} chunk does not match",
            )
        if name == b"IDAT":
            packed.append(view[position + 8 : end - 4])
        if name == b"IEND":
            _check_inflation(packed, data[16:29])
            return
        position = end


def _check_inflation(packed: list[memoryview], header: bytes) -> None:
    """Inflates without keeping: a stream that breaks, or ends before the last row, leaves rows that
    a decoder makes up.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) + 7) // 8
    wanted = 0 if interlaced else height * row
    stream, inflated = zlib.decompressobj(), 0
    try:
        for part in packed:
            while part and not stream.eof:
                inflated += len(stream.decompress(part, _BLOCK))
                part = stream.unconsumed_tail
    except zlib.error as error:
        raise Damage("rotten", f"PNG: the packed pixels are damaged ({error})") from error
    if not stream.eof or inflated < wanted:
        raise Damage(
            "truncated", f"PNG: the packed pixels end after {inflated:,} of {wanted:,} bytes"
        )


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
            raise Damage("rotten", "GIF: a block of an unknown kind before the first frame")
    raise Damage("truncated", "GIF ends inside its first frame")


def _skip(data: bytes, position: int) -> int:
    """The position after a chain of sub-blocks; past the end of the data when the chain has no end."""
    while position < len(data):
        size = data[position]
        position += size + 1
        if size == 0:
            return position
    return len(data) + 1
