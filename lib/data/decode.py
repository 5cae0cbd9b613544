"""The decoder: bytes of a file in, upright uint8 RGB in sRGB out, for cleaning and training."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
from blake3 import blake3
from PIL import Image, ImageCms, UnidentifiedImageError

from lib.data import decode_arrays, integrity, value_range
from lib.data.value_range import Rendering
from lib.errors import DarkroomError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "NPY", "PNG", "PPM", "TIFF", "WEBP")
"""Decoded formats. The list is short because every parser is open to hostile bytes."""

EXTRA_FORMATS = {"DICOM": "pydicom", "HEIC": "pillow_heif", "JPEG XL": "pillow_jxl"}
"""Formats that need a package, and its name as a module."""

REASONS = ("not_an_image", "unsupported", "too_large", "truncated", "corrupted")
"""Why bytes are refused; the vocabulary of `ImageError.reason`."""

MAX_PIXELS = value_range.MAX_PIXELS

MAX_SCANS = 100
"""Scans of a progressive JPEG above which it is refused; encoders write about ten, and each costs a
pass over the picture.
"""

FOUR_BANDS = "4 bands x 8 bits"
"""The mode of a TIFF whose fourth band is not alpha: the first three are shown."""

HEAD_BYTES = 192
"""Number of leading bytes that identify a format."""

_SIGNS = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"BM", "BMP"),
    (rb"P[1-6]\s", "PPM"),
    (rb"\x93NUMPY", "NPY"),
    (rb".{128}DICM", "DICOM"),
    (rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", "HEIC"),
    (rb"8BPS", "PSD"),
    (rb"\0\0\x01\0", "ICO"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"\s*(<\?xml[^>]*>\s*)?<svg", "SVG"),
)
_KINDS = [(re.compile(sign, re.DOTALL), name) for sign, name in _SIGNS]
_WEAK = ("BMP", "PPM", "ICO", "JPEG XL")  # two or four bytes that other files may start with too
_HARMLESS = re.compile(
    r"\b[1-4] extraneous bytes before marker 0xd9|unknown JFIF revision|Unknown Adobe "
    r"color|Invalid SOS parameters"
)
_NOT_SUPPORTED = re.compile(
    r"unsupported|not supported|not implemented|unknown pixel mode|decoder .* not "
    r"available|unknown compression|"
    r"bad photometric|unrecognized .* mode|data precision|arithmetic coding",
    re.IGNORECASE,
)


Stored, Range = tuple[str, float, float], tuple[float, float]
"""Kind, least and greatest of stored values; the values that become 0 and 255."""


class ImageError(ValueError):
    """Bytes that do not decode to a picture; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture. `pixels` is uint8 RGB of shape (height, width, 3), turned upright.

    Args:
        pixels: the first frame.
        format: one of `FORMATS` or `EXTRA_FORMATS`.
        mode: Pillow's name of how it was stored (1, L, I;16, P, RGB, RGBA, CMYK, ...), or bands x
            bits. orientation: the EXIF value 1-8 that has been applied. frames: how many frames or
            pages the file holds. stored: kind, least and greatest of the stored values where they
            have more than 8 bits, else None. range: the stored values that became 0 and 255, or
            None.
    """

    pixels: np.ndarray
    format: str
    mode: str
    orientation: int = 1
    frames: int = 1
    stored: Stored | None = None
    range: Range | None = None


def kind(head: bytes) -> str | None:
    """Returns the format that the first `HEAD_BYTES` promise, also of formats that are not decoded,
    or None.
    """
    return next((name for sign, name in _KINDS if sign.match(head)), None)


def kind_of_file(path: Path) -> str | None:
    """Returns what `kind` says about a file; None also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return kind(file.read(HEAD_BYTES))
    except OSError:
        return None


def decode(
    data: bytes, *, max_pixels: int | None = None, rendering: Rendering | None = None
) -> Decoded:
    """Returns the first frame as it should look on a screen: upright, sRGB, transparency laid on
    white.

    CMYK, palettes, 1-bit and grey are converted. More than 8 bits are scaled to 0..255 by the
    ranges of `rendering`, which are those of the data set. The declared size is checked before
    anything is decoded. Damage is refused also where a decoder would paper over it.

    Raises:
        ImageError: `not_an_image`, `unsupported`, `too_large`, `truncated` or `corrupted`.
    """
    promised, rendering = kind(data[:HEAD_BYTES]), rendering or Rendering()
    max_pixels = max_pixels or rendering.max_pixels
    if max_pixels > MAX_PIXELS:  # Pillow's own limit is lower; ours is checked on the same numbers
        Image.MAX_IMAGE_PIXELS = max_pixels
    unknown = "the bytes are no image format that we know" if data else "empty file"
    is_weak, opened = promised in (None, *_WEAK), False
    if promised not in FORMATS and promised not in EXTRA_FORMATS:
        if is_weak:
            raise ImageError("not_an_image", unknown)
        raise ImageError(
            "unsupported", f"{promised} is not decoded; convert the file to JPEG or PNG"
        )
    with _quiet():
        try:
            if promised in ("NPY", "DICOM") or (
                promised == "TIFF" and _needs_array(data, rendering)
            ):
                return _from_array(data, promised, max_pixels, rendering)
            integrity.check_head(data, promised)
            with Image.open(io.BytesIO(data), formats=[_pillow_format(promised)]) as image:
                opened = True
                _refuse_large(*image.size, max_pixels)
                integrity.check(data, promised)
                return _convert(image, data, promised, rendering)
        except ImageError as error:
            if is_weak and not opened and error.reason == "unsupported":
                raise ImageError("not_an_image", unknown) from error
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(str(error), max_pixels) from error
        except integrity.Damage as error:
            raise ImageError(error.reason, str(error)) from error
        # a parser fed with broken bytes may raise anything: all of it means that they are broken
        except Exception as error:
            if is_weak and not opened:
                raise ImageError("not_an_image", unknown) from error
            raise _broken(error, data, promised) from error


def pixel_hash(pixels: np.ndarray) -> str:
    """Returns the hex BLAKE3 of the shape and the pixels: the same picture has the same, however it
    is stored.

    Not SHA-256, which would take a quarter of the whole scan for what BLAKE3 does in less than half
    of the time, as safely.
    """
    return blake3(repr(pixels.shape).encode()).update(np.ascontiguousarray(pixels)).hexdigest()


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
        keep_height = max(1, min(old_height, round(height / scale)))
        keep_width = max(1, min(old_width, round(width / scale)))
        top, left = (old_height - keep_height) // 2, (old_width - keep_width) // 2
        pixels = pixels[top : top + keep_height, left : left + keep_width]
    elif fit == "pad":
        scale = min(height / old_height, width / old_width)
        inner_height, inner_width = (max(1, round(old * scale)) for old in pixels.shape[:2])
        canvas = np.zeros((height, width, pixels.shape[2]), np.uint8)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        inner = resize(pixels, height=inner_height, width=inner_width)
        canvas[top : top + inner_height, left : left + inner_width] = inner
        return canvas
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=way)


def _needs_array(data: bytes, rendering: Rendering) -> bool:
    """Whether a TIFF has bands or values that Pillow does not read, or reads by the high byte
    alone.
    """
    tags = integrity.tiff_tags(data)
    is_wide = tags.bits > 32 or (tags.bits > 8 and tags.bands > 1)
    is_half = tags.bits == 16 and tags.is_float
    return bool(rendering.bands) or tags.bands > 4 or is_wide or is_half


def _pillow_format(promised: str) -> str:
    """Returns Pillow's name of the format, whose plugin is loaded where it needs one. Raises
    ImageError without it.
    """
    if promised not in EXTRA_FORMATS:
        return promised
    try:
        if promised == "HEIC":
            import pillow_heif

            pillow_heif.register_heif_opener()
            return "HEIF"
        import pillow_jxl  # noqa: F401  registers itself
    except ImportError as error:
        raise _needs_package(promised) from error
    return "JXL"


def _needs_package(promised: str) -> ImageError:
    package = EXTRA_FORMATS[promised].replace("_", "-").replace("pillow-jxl", "pillow-jxl-plugin")
    return ImageError(
        "unsupported", f"{promised} is decoded where {package} is installed: pip install {package}"
    )


def _from_array(data: bytes, promised: str, max_pixels: int, rendering: Rendering) -> Decoded:
    """A picture that is read as an array of stored values: NumPy files, DICOM, TIFF of
    many bands.
    """
    readers = {
        "NPY": decode_arrays.from_npy,
        "DICOM": decode_arrays.from_dicom,
        "TIFF": decode_arrays.from_tiff,
    }
    try:
        stored = readers[promised](data, max_pixels)
    except decode_arrays.NotSupported as error:
        raise ImageError("unsupported", f"{promised}: {error}") from error
    except decode_arrays.TooLarge as error:
        raise _too_large(str(error), max_pixels) from error
    except ImportError as error:
        raise _needs_package("DICOM") from error
    values, mode = stored.values, stored.mode
    if rendering.bands:
        if max(rendering.bands) > values.shape[2]:
            raise ImageError("unsupported", f"{mode}: there is no band {max(rendering.bands)}")
        values = values[..., [band - 1 for band in rendering.bands]]
    elif values.shape[2] not in (1, 3) and (values.shape[2] != 4 or stored.alpha is None):
        raise ImageError("unsupported", f"{mode}; choose the bands by the option bands=1,2,3")
    orientation = integrity.tiff_tags(data).orientation if promised == "TIFF" else 1
    known = ends = None
    if values.dtype != np.uint8:
        values, known, ends = _to_8_bit(values, rendering)
    if values.shape[2] == 4:
        values = on_white(values, is_multiplied=stored.alpha == 1)
    if stored.white_is_zero:
        values = 255 - values
    pixels = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
    pixels = upright(pixels, orientation)
    return Decoded(pixels, promised, mode, orientation, stored.frames, known, ends)


def _to_8_bit(values: np.ndarray, rendering: Rendering) -> tuple[np.ndarray, Stored, Range]:
    """Values of more than 8 bits as uint8 by the data set's range, what they were, and the
    range.
    """
    kind_name, (low, high) = value_range.kind_of(values), value_range.ends_of(values)
    ends = rendering.range_of(kind_name, low, high)
    return value_range.to_8_bit(values, *ends), (kind_name, low, high), ends


def _convert(image: Image.Image, data: bytes, promised: str, rendering: Rendering) -> Decoded:
    mode, profile, orientation = image.mode, image.info.get("icc_profile"), _orientation(image)
    frames = _frames(image, data, promised)
    left = orientation  # what is still to be done: Pillow turns TIFF itself
    known = ends = None
    if promised == "JPEG":
        pixels = _jpeg(image, data)
    elif promised == "PNG" and data[24] == 16 and mode in ("RGB", "RGBA", "LA"):
        pixels, known, ends = _wide_png(image, data, rendering)
    elif promised == "WEBP":
        pixels = _webp(image)
    else:
        integrity.check_pixels(image, data, promised)
        image.load()
        left = _orientation(image)
        if promised == "PNG":  # which may carry it after the pixels
            orientation = left
        if mode[0] in "IF":
            pixels, known, ends = _wide_grey(image, data, promised, rendering)
        elif promised == "TIFF" and mode[:3] == "RGB" and _has_fourth_band(data):
            pixels, mode = np.asarray(image)[..., :3], FOUR_BANDS
        else:
            pixels = rgb(image)
            integrity.check_palette(image, promised)
    if profile and mode[0] not in "IF" and known is None:
        pixels = to_srgb(image, pixels, profile)
    return Decoded(upright(pixels, left), promised, mode, orientation, frames, known, ends)


def _has_fourth_band(data: bytes) -> bool:
    """Whether a TIFF has a band beside RGB that is no alpha, such as near infrared."""
    tags = integrity.tiff_tags(data)
    return tags.bands == 4 and tags.alpha is None


def _frames(image: Image.Image, data: bytes, promised: str) -> int:
    if promised in ("GIF", "TIFF"):  # Pillow would read them all
        return max(1, integrity.num_frames(data, promised))
    return max(1, min(int(getattr(image, "n_frames", 1)), integrity.MOST_FRAMES))


def _wide_grey(
    image: Image.Image, data: bytes, promised: str, rendering: Rendering
) -> tuple[np.ndarray, Stored, Range]:
    """16-bit, 32-bit and float grey by the data set's range; a TIFF whose zero is white is
    inverted.
    """
    values, image.im = np.asarray(image), None  # one copy of the pixels is enough
    tags = integrity.tiff_tags(data) if promised == "TIFF" else None
    if values.dtype == np.int32:
        if tags is not None and tags.bits == 16:
            values = values.astype(np.int16)
        elif tags is not None and tags.bits == 32 and not tags.is_signed:
            values = values.view(np.uint32)
        elif promised != "TIFF":
            values = values.astype(np.uint16)
    grey, known, ends = _to_8_bit(values, rendering)
    if tags is not None and tags.white_is_zero:
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2), known, ends


def _wide_png(
    image: Image.Image, data: bytes, rendering: Rendering
) -> tuple[np.ndarray, Stored, Range]:
    """A PNG of 16 bits and several channels, of which Pillow would keep the high bytes alone."""
    import cv2

    image.load()  # which refuses what OpenCV would pass over
    image.im = None  # frees a second copy of the pixels
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if values is None or values.dtype != np.uint16:
        raise ImageError("corrupted", "PNG: its 16-bit pixels cannot be read")
    values = np.atleast_3d(values)
    colours = values[..., 2::-1] if values.shape[2] >= 3 else values  # OpenCV's order is BGR
    pixels, known, ends = _to_8_bit(colours, rendering)
    if values.shape[2] == 4:
        alpha = value_range.to_8_bit(values[..., 3:], 0, 65535)
        del values, colours
        pixels = on_white(np.dstack([pixels, alpha]), is_multiplied=False)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels, known, ends


def _jpeg(image: Image.Image, data: bytes) -> np.ndarray:
    """Decodes a JPEG by libjpeg-turbo with its warnings as errors, which Pillow passes over and
    fills with grey.
    """
    plain = image.mode in ("RGB", "L")
    wanted = "RGB" if plain else "CMYK"
    scans = _count_scans(data)
    if scans > MAX_SCANS:
        raise ImageError("too_large", f"JPEG of {scans:,} scans; the limit is {MAX_SCANS}")
    try:
        pixels = simplejpeg.decode_jpeg(data, wanted, strict=True)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
        pixels = simplejpeg.decode_jpeg(data, wanted, strict=False)
    return pixels if plain else rgb(image)  # Adobe's inverted CMYK is Pillow's business


def _count_scans(data: bytes) -> int:
    """The number of `FF DA` in the bytes, faster than by `bytes.count`."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - at) // 2, at) for at in (0, 1))
    return sum(int(np.count_nonzero(pair == 0xDAFF)) for pair in pairs)


def _webp(image: Any) -> np.ndarray:
    """Returns the first frame from Pillow's decoder; `Image.load` would hold three more copies."""
    decoder = getattr(image, "_decoder", None)
    if not hasattr(decoder, "get_next"):  # a version of Pillow that reads WebP in another way
        return rgb(image)
    frame, image._decoder = decoder.get_next(), None
    values = np.frombuffer(frame[0], np.uint8).reshape(image.height, image.width, 4)
    return values[..., :3] if image.mode == "RGB" else rgb(Image.fromarray(values))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        return 1  # damaged notes about a picture do not damage the picture
    return value if value in range(1, 9) else 1


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width:,} x {height:,} pixels", max_pixels)


def _too_large(what: str, max_pixels: int) -> ImageError:
    return ImageError(
        "too_large",
        f"{what}; the limit is {max_pixels / 1e6:,.0f} million pixels. Make the picture smaller, "
        "cut it into tiles, or raise the limit by the option max_megapixels=N",
    )


def _broken(error: Exception, data: bytes, promised: str) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError("too_large", "decoding needs more memory than there is")
    message = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        # Pillow's words end in an address in memory, which no finding should change by
        message = "its head cannot be read"
        described = integrity.tiff_tags(data).describe() if promised == "TIFF" else None
        if described is not None:
            return ImageError(
                "unsupported", f"TIFF of {described} is not decoded; convert the file to PNG"
            )
    first = message.splitlines()[0][:200]
    is_short = re.search(r"truncated|premature end of jpeg|eof", message, re.IGNORECASE)
    if is_short or integrity.ends_early(data, promised):
        return ImageError("truncated", f"{promised}: {first}")
    reason = "unsupported" if _NOT_SUPPORTED.search(message) else "corrupted"
    return ImageError(reason, f"{promised}: {first}")


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


def scaled(data: bytes, *, side: int, fit: str = "stretch") -> bytes:
    """Returns a JPEG of side x side pixels of the picture in `data`; PNG where it was none of JPEG
    or WebP.

    Raises ImageError for bytes that are no picture, DarkroomError for a side out of range.
    """
    if not 8 <= side <= 2048:
        raise DarkroomError(f"Pictures are scaled to 8 to 2048 pixels. Received: {side}.")
    decoded = decode(data)
    small = Image.fromarray(resize(decoded.pixels, height=side, width=side, fit=fit))
    buffer = io.BytesIO()
    if decoded.format in ("JPEG", "WEBP"):
        small.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue()


_STRIP = 256  # rows that are converted at once; whole pictures would take several times the memory


def rgb(image: Image.Image) -> np.ndarray:
    """Returns a loaded Pillow picture of up to 8 bits a channel as uint8 RGB (height, width, 3),
    transparency laid on white.
    """
    result = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        rows = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        result[top : top + _STRIP] = _rgb(rows)
    return result


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, lab, _srgb(), outputMode="RGB") or image
    return image.convert("RGB")


def on_white(rgba: np.ndarray, *, is_multiplied: bool) -> np.ndarray:
    """Returns uint8 RGBA (height, width, 4) laid on white, by rows; `is_multiplied` where colours
    hold their alpha already.
    """
    result = np.empty((*rgba.shape[:2], 3), np.uint8)
    for row, target in zip(rgba, result, strict=True):
        alpha = row[:, 3:].astype(np.float32) / 255
        shade = row[:, :3] if is_multiplied else row[:, :3] * alpha
        target[...] = np.rint(np.clip(shade + 255 * (1 - alpha), 0, 255))
    return result


def to_srgb(image: Image.Image, pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Returns `pixels`, which were decoded from `image`, in sRGB; as they are where the profile
    says nothing usable.
    """
    space = {"RGB": "RGB", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    transform = _transform(profile, space)
    if transform is None:
        return pixels
    source = (
        image if space == "CMYK" else Image.fromarray(pixels if space == "RGB" else pixels[..., 0])
    )
    return np.asarray(transform.apply(source))


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, space: str) -> ImageCms.ImageCmsTransform | None:
    """The way from an ICC profile to sRGB; None where it is sRGB already, does not fit the pixels
    or is damaged.
    """
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        about = ImageCms.getProfileDescription(opened)
        fits = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[
            space
        ] == opened.profile.xcolor_space.strip()
        if "srgb" in about.casefold() or not fits:
            return None
        return ImageCms.buildTransform(opened, _srgb(), space, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the pixels with the EXIF orientation (1-8) applied, contiguous. Source: CIPA DC-008,
    section 4.6.5.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])
