"""Conversion of stored pictures to upright uint8 RGB in sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

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
