"""Scales pictures on import, to save disk space."""

from __future__ import annotations

import io

from lib.data import decode
from lib.errors import DarkroomError

_QUALITY = 95


def scaled(data: bytes, *, side: int, fit: str = "stretch") -> bytes:
    """Returns a JPEG of side x side pixels of the picture in `data`; PNG where it was none of JPEG
    or WebP.

    Raises decode.ImageError for bytes that are no picture, DarkroomError for a side out of range.
    """
    from PIL import Image

    if not 8 <= side <= 2048:
        raise DarkroomError(f"Pictures are scaled to 8 to 2048 pixels. Received: {side}.")
    decoded = decode.decode(data)
    small = Image.fromarray(decode.resize(decoded.pixels, height=side, width=side, fit=fit))
    buffer = io.BytesIO()
    if decoded.format in ("JPEG", "WEBP"):
        small.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue()
