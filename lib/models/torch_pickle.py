"""Reads the tensors of a legacy PyTorch file without PyTorch and without running its code.

Such a file is five pickles (magic number, protocol, machine, tensors by name, storage keys)
followed by the raw storages. Source: `_legacy_save` in torch/serialization.py.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.errors import DarkroomError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_BYTES = 4 << 30
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What tensors by name need; the other opcodes create objects, take classes off the stack or reserve
# memory.
# fmt: off
_OPCODES = (
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "NONE", "NEWTRUE",
    "NEWFALSE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "BININT",
    "BININT1", "BININT2",
    "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS",
)
# fmt: on


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    num_elements: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name, each a read-only view of the file's bytes.

    Raises:
        DarkroomError: for anything but a legacy PyTorch file of named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DarkroomError(f"There is no weights file {str(path)!r}.")
    if path.stat().st_size > _MAX_BYTES:
        raise DarkroomError(
            f"{path.name} is larger than {_MAX_BYTES >> 30} GiB, the limit for weights files."
        )
    try:
        return _load(path.read_bytes())
    except DarkroomError as error:
        raise DarkroomError(
            f"{path.name} is not a legacy PyTorch file of named tensors: {error}"
        ) from None
    except Exception as error:  # a broken pickle may fail with almost any class of error
        raise DarkroomError(
            f"{path.name} is not a legacy PyTorch file of named tensors: its pickle is broken or "
            "cut off "
            f"({type(error).__name__})."
        ) from None


def _load(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if _Unpickler(stream).load() != _MAGIC:
        raise DarkroomError("it does not begin with the magic number.")
    if _Unpickler(stream).load() != _PROTOCOL:
        raise DarkroomError(f"its protocol is not {_PROTOCOL}.")
    machine = _Unpickler(stream).load()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DarkroomError("it was not written on a little-endian machine.")
    tensors, keys = (_Unpickler(stream).load() for _ in range(2))
    named = isinstance(tensors, dict) and all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items()
    )
    if not named:
        raise DarkroomError("it holds something else than tensors by name.")
    flat = _read_storages(
        data, stream.tell(), keys, {tensor.storage for tensor in tensors.values()}
    )
    return {name: _array(tensor, flat[tensor.storage.key]) for name, tensor in tensors.items()}


def _build(unpickler: pickle._Unpickler) -> None:
    # PyTorch notes the versions of layers on its OrderedDict; BUILD on anything else would set
    # attributes.
    unpickler.stack.pop()
    if not isinstance(unpickler.stack[-1], dict):
        raise DarkroomError("its pickle changes what has been made.")


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, whose memo is a dict, with an allow-list of opcodes."""

    dispatch = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPCODES
    }
    dispatch[pickle.BUILD[0]] = _build

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise DarkroomError(f"it asks for {module}.{name}, and only tensors are allowed.")

    def persistent_load(self, reference: object) -> _Storage:
        kind, dtype, key, _, num_elements, *view = reference
        if (
            kind != "storage"
            or not isinstance(dtype, np.dtype)
            or not isinstance(key, str)
            or view not in ([], [None])
        ):
            raise DarkroomError("a reference to a storage is broken.")
        return _Storage(key, dtype, _natural(num_elements))


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) > 8 or len(shape) != len(strides):
        raise DarkroomError("a tensor is broken.")
    shape, strides = tuple(map(_natural, shape)), tuple(map(_natural, strides))
    if _natural(offset) + math.prod(shape) > storage.num_elements:
        raise DarkroomError("a tensor reaches beyond its storage.")
    # Axes may be permuted, as conversions from TensorFlow leave them; elements neither repeat nor
    # leave gaps.
    expected = 1
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length != 1 and math.prod(shape) and stride != expected:
            raise DarkroomError("a tensor does not lie in one piece.")
        expected *= length
    return _Tensor(storage, offset, shape, strides)


def _read_storages(
    data: bytes, start: int, keys: object, storages: set[_Storage]
) -> dict[str, np.ndarray]:
    by_key = {storage.key: storage for storage in storages}
    if not isinstance(keys, list) or len(by_key) != len(storages) or sorted(keys) != sorted(by_key):
        raise DarkroomError("its list of storages does not match its tensors.")
    arrays = {}
    for key in keys:
        _, dtype, num_elements = by_key[key]
        end = start + 8 + num_elements * dtype.itemsize
        if int.from_bytes(data[start : start + 8], "little") != num_elements or len(data) < end:
            raise DarkroomError("a storage is cut off or has another length than it says.")
        arrays[key] = np.frombuffer(data, dtype, num_elements, start + 8)
        start = end
    return arrays


def _array(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    slowest_first = sorted(
        range(len(tensor.shape)), key=lambda axis: tensor.strides[axis], reverse=True
    )
    values = flat[tensor.offset : tensor.offset + math.prod(tensor.shape)]
    stored = values.reshape([tensor.shape[axis] for axis in slowest_first])
    return stored.transpose(np.argsort(slowest_first, kind="stable"))


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DarkroomError("an offset, a length or a tensor's shape is broken.")
    return value
