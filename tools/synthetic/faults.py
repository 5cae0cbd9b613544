"""The faults that are planted, each a small function; what is planted where stands in the truth
table.

Four tables by name: `LOOKS` spoil pixels, `BYTES` spoil files, `COPIES` make near-duplicates,
`STRANGERS` are no images.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

LooksFault = Callable[[np.ndarray, np.random.Generator], np.ndarray]
BytesFault = Callable[[bytes, np.random.Generator], tuple[bytes, str]]
Copy = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def uniform(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns one grey tone with a breath of noise."""
    tone = rng.integers(60, 200, 3)
    return np.clip(tone + rng.integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)


def dark(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture with 4 to 7 % of its light."""
    return np.rint(pixels * rng.uniform(0.04, 0.07)).astype(np.uint8)


def bright(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture washed out to the top 4 to 7 % of the range."""
    return np.rint(255 - (255 - pixels.astype(float)) * rng.uniform(0.04, 0.07)).astype(np.uint8)


def blurred(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture far out of focus (sigma 4 to 6 % of the longer side)."""
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) * rng.uniform(0.04, 0.06))


LOOKS: dict[str, LooksFault] = {
    "uniform": uniform,
    "dark": dark,
    "bright": bright,
    "blurred": blurred,
}


def truncated(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Returns the first 35 to 80 % of a file."""
    kept = int(len(data) * rng.uniform(0.35, 0.8))
    return data[:kept], f"{kept} of {len(data)} bytes"


def rotten_jpeg(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Returns a JPEG with a run of bytes flipped in the middle, among them a marker that must not
    stand there.
    """
    start, length = int(len(data) * rng.uniform(0.4, 0.6)), max(16, len(data) // 25)
    run = bytearray(byte ^ 0x5A for byte in data[start : start + length])
    run[:4] = b"\xff\xc4\x00\x05"  # a table of codes too short to be one
    return data[:start] + bytes(run) + data[start + length :], f"{length} bytes from {start}"


def bad_crc(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Returns a PNG whose image data no longer match their checksum; a lenient reader still shows
    the picture.
    """
    place = _chunk(data, b"IDAT")
    end = place + 8 + struct.unpack(">I", data[place : place + 4])[0]
    return data[:end] + bytes(byte ^ 0xFF for byte in data[end : end + 4]) + data[
        end + 4 :
    ], "checksum of IDAT"


def bad_zlib(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Returns a PNG whose compressed data are damaged while every checksum is right."""
    place = _chunk(data, b"IDAT")
    size = struct.unpack(">I", data[place : place + 4])[0]
    body = bytearray(data[place + 8 : place + 8 + size])
    start = size // 2
    body[start : start + 64] = rng.bytes(len(body[start : start + 64]))
    checksum = struct.pack(">I", zlib.crc32(b"IDAT" + bytes(body)))
    return data[: place + 8] + bytes(body) + checksum + data[
        place + 12 + size :
    ], f"64 bytes of IDAT from {start}"


def _chunk(data: bytes, name: bytes) -> int:
    place = 8
    while data[place + 4 : place + 8] != name:
        place += 12 + struct.unpack(">I", data[place : place + 4])[0]
    return place


BYTES: dict[str, tuple[str, BytesFault]] = {
    "truncated_jpeg": ("jpg", truncated),
    "truncated_png": ("png", truncated),
    "rotten_jpeg": ("jpg", rotten_jpeg),
    "rotten_crc": ("png", bad_crc),
    "rotten_zlib": ("png", bad_zlib),
}
"""Format that is spoilt, and how. All but `rotten_crc` do not decode."""


def _scaled(pixels: np.ndarray, *, by: float) -> tuple[np.ndarray, np.ndarray]:
    lit = np.clip(np.rint(pixels * by), 0, 255).astype(np.uint8)
    return lit, np.eye(2, 3)


def _half(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return small, np.array([[0.5, 0, 0], [0, 0.5, 0]])


def _crop(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = pixels.shape[:2]
    y, x = max(1, round(height * 0.02)), max(1, round(width * 0.02))
    return pixels[y : height - y, x : width - x], np.array([[1.0, 0, -x], [0, 1.0, -y]])


def _turn(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 2.0, 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), matrix


def _mirror(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels[:, ::-1], np.array([[-1.0, 0, pixels.shape[1]], [0, 1.0, 0]])


def _quarter(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.rot90(pixels), np.array([[0, 1.0, 0], [-1.0, 0, pixels.shape[1]]])


COPIES: dict[str, Copy] = {
    "quality_50": lambda pixels: _scaled(pixels, by=1.0),
    "half_size": _half,
    "lighter_15": lambda pixels: _scaled(pixels, by=1.15),
    "darker_15": lambda pixels: _scaled(pixels, by=0.85),
    "crop_2_percent": _crop,
    "turn_2_degrees": _turn,
    "mirror": _mirror,
    "turn_90_degrees": _quarter,
}
"""Near-duplicates: new pixels, and the affine (2, 3) matrix that takes the old points to the new
ones.
"""

STRANGERS: dict[str, tuple[str, bytes]] = {
    "text": ("jpg", b"Notes on the hanging of the spring show.\nRoom two needs lamps.\n" * 6),
    "html": (
        "jpg",
        (
            b"<!DOCTYPE html><html><head><title>404</title></head><body><h1>Not "
            b"Found</h1></body></html>\n"
        ),
    ),
    "empty": ("png", b""),
    "header_only": ("jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
}
"""Files that are no images in spite of their extension: extension and content."""

LITTER: dict[str, bytes] = {
    ".DS_Store": b"\x00\x00\x00\x01Bud1" + bytes(120),
    "Thumbs.db": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(120),
}
"""What file managers leave behind: name and content."""
