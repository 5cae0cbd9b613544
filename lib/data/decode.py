"""The one decoder: bytes of a file in, uint8 RGB out. What cleaning judges and what training sees
both come from here.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from lib.data import colour, integrity

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. A short list on purpose: every further format is another parser that hostile
bytes can reach.
"""

REASONS = ("not_an_image", "unsupported", "too_large", "truncated", "rotten")
"""Why bytes are refused; the vocabulary of `ImageError.reason`."""

MAX_PIXELS = 100_000_000
"""Declared width times height above which nothing is decoded: 300 MB of RGB."""

_SIGNS = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"BM", "BMP"),
    (rb"P[1-6]\s", "PPM"),
    (rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", "HEIC"),
    (rb"8BPS", "PSD"),
    (rb"\0\0\x01\0", "ICO"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"\s*<svg", "SVG"),
)
_KINDS = [(re.compile(sign, re.DOTALL), name) for sign, name in _SIGNS]
_WEAK = ("BMP", "PPM", "ICO", "JPEG XL")  # two or four bytes that other files may start with too
_HARMLESS = re.compile(
    r"\b[1-4] extraneous bytes before marker 0xd9|unknown JFIF revision|Unknown Adobe "
    r"color|Invalid SOS parameters"
)


class ImageError(ValueError):
    """Bytes that do not decode to a picture; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture. `pixels` is uint8 RGB of shape (height, width, 3), turned upright; `mode` is
    Pillow's name of how it was stored (1, L, I;16, P, RGB, RGBA, CMYK, ...), `orientation` the EXIF
    value 1-8 that has been applied.
    """

    pixels: np.ndarray
    format: str
    mode: str
    orientation: int = 1


def kind(head: bytes) -> str | None:
    """Returns the format that the first bytes (12 or more) promise, also of formats that are not
    decoded, or None.
    """
    return next((name for sign, name in _KINDS if sign.match(head)), None)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Returns the first frame as it should look on a screen: upright, sRGB, transparency laid on
    white.

    CMYK, palettes, 1-bit and grey are converted; 16-bit grey is scaled to 0..255, not clipped. The
    declared size is checked before anything is decoded. Damage is refused also where a decoder
    would paper over it.

    Raises:
        ImageError: `not_an_image`, `unsupported`, `too_large`, `truncated` or `rotten`.
    """
    promised = kind(data[:64])
    if promised not in FORMATS:
        if promised is None or promised in _WEAK:
            raise ImageError(
                "not_an_image",
                "empty file" if not data else "the bytes are no image format that we know",
            )
        raise ImageError(
            "unsupported", f"{promised} is not decoded; convert the file to JPEG or PNG"
        )
    opened = False
    with _quiet():
        try:
            with Image.open(io.BytesIO(data), formats=[promised]) as image:
                opened = True
                width, height = image.size
                if width * height > max_pixels:
                    raise _too_large(f"{width:,} x {height:,} pixels")
                integrity.check(data, promised)
                return _convert(image, data, promised)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(str(error)) from error
        except integrity.Damage as error:
            raise ImageError(error.reason, str(error)) from error
        # a parser fed with broken bytes may raise anything: all of it means that they are broken
        except Exception as error:
            if promised in _WEAK and not opened:
                raise ImageError(
                    "not_an_image", "the bytes are no image format that we know"
                ) from error
            raise _broken(error, data, promised) from error


def resize(
    pixels: np.ndarray,
    *,
    height: int,
    width: int,
    fit: Literal["stretch", "pad", "crop"] = "stretch",
) -> np.ndarray:
    """Returns uint8 pixels of shape (height, width, 3), by area when shrinking and linear when
    enlarging.

    `stretch` changes the aspect, `pad` keeps it with black beside the centred picture, `crop` keeps
    it and cuts the sides.
    """
    import cv2

    if fit not in ("stretch", "pad", "crop"):
        raise ValueError(f"fit must be 'stretch', 'pad' or 'crop'. Received: {fit!r}.")
    if min(height, width) < 1:
        raise ValueError(f"height and width must be at least 1 px. Received: {height} x {width}.")
    old_height, old_width = pixels.shape[:2]
    if fit == "crop":
        scale = max(height / old_height, width / old_width)
        keep_height, keep_width = (
            min(old_height, round(height / scale)),
            min(old_width, round(width / scale)),
        )
        top, left = (old_height - keep_height) // 2, (old_width - keep_width) // 2
        pixels = pixels[top : top + max(1, keep_height), left : left + max(1, keep_width)]
    elif fit == "pad":
        scale = min(height / old_height, width / old_width)
        inner_height, inner_width = (
            max(1, round(old_height * scale)),
            max(1, round(old_width * scale)),
        )
        canvas = np.zeros((height, width, pixels.shape[2]), np.uint8)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        inner = resize(pixels, height=inner_height, width=inner_width)
        canvas[top : top + inner_height, left : left + inner_width] = inner
        return canvas
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(
        pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def _convert(image: Image.Image, data: bytes, promised: str) -> Decoded:
    mode, profile, orientation = image.mode, image.info.get("icc_profile"), _orientation(image)
    left = orientation  # what is still to be done: Pillow turns TIFF itself
    if promised == "JPEG":
        pixels = _jpeg(image, data)
    else:
        image.load()
        left = _orientation(image)
        orientation = (
            left if promised == "PNG" else orientation
        )  # PNG may carry it after the pixels
        pixels = colour.wide_grey(np.asarray(image)) if mode[0] in "IF" else colour.rgb(image)
    if profile and mode[0] not in "IF":
        pixels = colour.to_srgb(image, pixels, profile)
    return Decoded(colour.upright(pixels, left), promised, mode, orientation)


def _jpeg(image: Image.Image, data: bytes) -> np.ndarray:
    """Decodes a JPEG by libjpeg-turbo with its warnings as errors, which Pillow passes over and
    fills with grey.
    """
    plain = image.mode in ("RGB", "L")
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB" if plain else "CMYK", strict=True)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
        pixels = simplejpeg.decode_jpeg(data, "RGB" if plain else "CMYK", strict=False)
    return pixels if plain else colour.rgb(image)  # Adobe's inverted CMYK is Pillow's business


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        return 1  # damaged notes about a picture do not damage the picture
    return value if value in range(1, 9) else 1


def _too_large(what: str) -> ImageError:
    return ImageError("too_large", f"{what}; the limit is {MAX_PIXELS / 1e6:,.0f} million")


def _broken(error: Exception, data: bytes, promised: str) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError("too_large", "decoding needs more memory than there is")
    message = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        # Pillow's words end in an address in memory, which no finding should change by
        message = "its head cannot be read"
    short = integrity.ends_early(data, promised) or re.search(
        r"truncated|premature end of jpeg|eof", message, re.IGNORECASE
    )
    return ImageError(
        "truncated" if short else "rotten", f"{promised}: {message.splitlines()[0][:200]}"
    )


_lock, _inside, _held = threading.Lock(), 0, contextlib.ExitStack()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Pillow's warnings about odd files; the filters are the process's, so the last thread
    out restores them.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _held.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _held.close()
