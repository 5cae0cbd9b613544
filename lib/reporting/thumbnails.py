"""Small pictures for a report: read through the one decoder and drawn anew, so that no metadata of
the file comes along.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from lib.data import decode

SIDE = 96


def data_uris(raw: Path, paths: Iterable[str], *, side: int = SIDE) -> dict[str, str]:
    """Path to `data:image/jpeg;base64,…`, the longer side `side` px; files that are gone or do not
    decode are left out.
    """
    return {
        path: uri
        for path in dict.fromkeys(paths)
        if (uri := _data_uri(Path(raw) / path, side)) is not None
    }


def _data_uri(path: Path, side: int) -> str | None:
    from PIL import Image

    try:
        pixels = decode.decode(path.read_bytes()).pixels
    except (OSError, decode.ImageError):
        return None  # the report says "picture not available" in its place
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    small = decode.resize(
        pixels, height=max(1, round(height * scale)), width=max(1, round(width * scale))
    )
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
