"""Decoding of arrays: NumPy files, DICOM, and TIFF of many bands or uncommon types."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.data import integrity

_MOST_BYTES = 16
"""Bytes of stored values for each pixel that a file may have: eight bands of 16 bits."""
_DEFLATE, _LZMA, _LZW = (8, 32946), 34925, 5  # compressions of a TIFF


class NotSupported(ValueError):
    """A file that is whole, but of a kind that is not read."""


class TooLarge(ValueError):
    """A file whose declared size is beyond the limit."""


@dataclass(frozen=True, eq=False)
class Stored:
    """The first frame as stored: `values` of shape (height, width, bands); `alpha` is 1 or 2 where
    the last band is alpha.
    """

    values: np.ndarray
    mode: str
    frames: int = 1
    alpha: int | None = None
    white_is_zero: bool = False


def from_npy(data: bytes, max_pixels: int) -> Stored:
    """Returns the array of an .npy file of shape (height, width), (height, width, bands) or (1 or
    3, height, width).

    Raises NotSupported for other shapes and for objects, TooLarge before anything is read,
    ValueError for damage.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise NotSupported(f"version {version[0]}.{version[1]} of the format")
    shape, is_fortran, kind = headers[version](file)
    if kind.hasobject or kind.kind not in "buif":
        raise NotSupported(f"an array of {kind}")
    described = f"an array of shape {' x '.join(map(str, shape))}"
    if len(shape) not in (2, 3) or min(shape, default=0) < 1:
        raise NotSupported(described)
    _refuse_large(shape, max_pixels)
    num_values = int(np.prod(shape, dtype=np.int64))
    if len(data) - file.tell() < num_values * kind.itemsize:
        raise ValueError("truncated array")
    values = np.frombuffer(data, kind, num_values, file.tell())  # without a copy
    values = values.reshape(shape, order="F" if is_fortran else "C")
    if values.ndim == 3 and values.shape[0] in (1, 3) and min(values.shape[1:]) > 4:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] > 64:
        raise NotSupported(f"{described}, which may be several pictures; write each as a file")
    values = values[..., None] if values.ndim == 2 else values
    return Stored(_native(values), f"{values.shape[2]} x {values.dtype.name}")


def from_dicom(data: bytes, max_pixels: int) -> Stored:
    """Returns the first frame of a DICOM file with its rescale slope and intercept applied
    (Hounsfield units in CT).

    Raises ImportError without pydicom, NotSupported for a transfer syntax that cannot be decoded
    here.
    """
    import pydicom
    from pydicom import pixels

    dataset = pydicom.dcmread(io.BytesIO(data))
    rows, columns = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    if not rows or not columns or "PixelData" not in dataset:
        raise NotSupported("it holds no picture")
    _refuse_large((rows, columns), max_pixels)
    try:
        values = pixels.pixel_array(dataset, index=0)
    except (RuntimeError, NotImplementedError, AttributeError, KeyError) as error:
        raise NotSupported(str(error).partition("\n")[0][:160]) from error
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    if (slope, intercept) != (1, 0):
        values = values.astype(np.float32) * slope + intercept
        if slope.is_integer() and intercept.is_integer():
            fits = abs(values).max(initial=0) < 2**15
            values = values.astype(np.int16 if fits else np.int32)
    values = values[..., None] if values.ndim == 2 else values
    name = str(dataset.get("PhotometricInterpretation", ""))
    return Stored(
        values,
        f"{values.shape[2]} x {values.dtype.name}",
        int(dataset.get("NumberOfFrames", 1) or 1),
        white_is_zero=name == "MONOCHROME1",
    )


def from_tiff(data: bytes, max_pixels: int) -> Stored:
    """Returns the first page of a TIFF. Raises NotSupported for a compression that needs a further
    package.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        shape, kind = page.shape, page.dtype
        _refuse_large((page.imagelength, page.imagewidth), max_pixels)
        bands, bits = page.samplesperpixel, page.bitspersample
        described = f"{bands} bands x {bits} bits"
        if (
            kind is None
            or len(shape) not in (2, 3)
            or bands > 512
            or int(np.prod(shape, dtype=np.int64)) > max_pixels * bands
        ):
            raise NotSupported(described)
        if int(np.prod(shape, dtype=np.int64)) * kind.itemsize > _MOST_BYTES * max_pixels:
            raise TooLarge(f"{' x '.join(map(str, shape))} values of {kind}")
        _check_strips(page, data, kind.itemsize)
        try:
            if page.is_contiguous and page.compression == 1 and page.predictor == 1:
                num_values = int(np.prod(shape, dtype=np.int64))
                stored = np.dtype(file.byteorder + kind.char)
                values = np.frombuffer(data, stored, num_values, page.dataoffsets[0])
                values = values.reshape(shape)  # without a copy
            else:
                values = page.asarray(maxworkers=1)
        except (ImportError, KeyError, NotImplementedError, ValueError) as error:
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
            values = _packed_tiff(data, page)
            if values is None:
                raise NotSupported(f"{described}, {str(error)[:120]}") from error
        if values.ndim == 3 and page.planarconfig == 2:
            values = values.transpose(1, 2, 0)
        alpha = [int(extra) for extra in page.extrasamples]
        values = values[..., None] if values.ndim == 2 else values
        has_alpha = bands == 4 and len(alpha) == 1 and alpha[0] in (1, 2)
    frames = integrity.num_frames(data, "TIFF")
    return Stored(
        _native(values), described, frames, alpha[0] if has_alpha else None, page.photometric == 0
    )


def _check_strips(page: Any, data: bytes, itemsize: int) -> None:
    """Raises ValueError for missing strips or tiles, which tifffile would fill with zeros, and for
    one that inflates to more than its rows, which it would do whole.
    """
    if len(page.dataoffsets) < int(np.prod(page.chunked, dtype=np.int64)):
        raise ValueError("truncated: strips or tiles are missing")
    if page.compression == _LZMA:
        raise NotSupported("compression LZMA")
    most = int(np.prod(page.chunks, dtype=np.int64)) * itemsize
    if page.compression not in _DEFLATE:
        return
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        packed = memoryview(data)[start : start + size]
        if size and len(zlib.decompressobj().decompress(packed, most + 1)) > most:
            raise ValueError("a strip or tile holds more than its rows")


def _packed_tiff(data: bytes, page: Any) -> np.ndarray | None:
    """The pixels of a page that is packed by LZW, by OpenCV; None where it may read them otherwise
    than they are meant. Raises ValueError for damaged ones.
    """
    import cv2

    is_plain = page.photometric in (1, 2) and page.samplesperpixel in (1, 3, 4)
    if page.compression != _LZW or page.planarconfig != 1 or not is_plain:
        return None
    cv2.utils.logging.setLogLevel(0)  # it prints what is damaged
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if values is None:
        raise ValueError("the packed pixels are damaged")
    if (values.shape, values.dtype) != (page.shape, page.dtype.newbyteorder("=")):
        return None
    return values[..., [2, 1, 0, 3][: values.shape[2]]] if values.ndim == 3 else values  # from BGR


def _native(values: np.ndarray) -> np.ndarray:
    """Returns values in this machine's byte order: booleans as 0 and 255, int8 as int16."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return values.astype(np.float64)
    if values.dtype == np.int8:
        return values.astype(np.int16)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _refuse_large(shape: tuple[int, ...], max_pixels: int) -> None:
    pixels = int(np.prod(shape, dtype=np.int64)) // (
        min(shape) if len(shape) == 3 and min(shape) <= 64 else 1
    )
    if pixels > max_pixels:
        raise TooLarge(f"{' x '.join(f'{side:,}' for side in shape)} pixels")
