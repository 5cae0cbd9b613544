"""Weights out of a legacy PyTorch file, without PyTorch and without running anything that the file
says.

Such a file is five pickles (magic number, protocol, machine, tensors by name, storage keys) and
then the storages raw. Source: `_legacy_save` in torch/serialization.py.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.errors import DarkroomError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MOST_BYTES = 4 << 30

_STORAGES = {
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

# What tensors by name need, and nothing that names a class in another way, makes an object or
# reserves memory ahead.
_OPCODES = frozenset(
    (
        "PROTO",
        "STOP",
        "MARK",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "BINPERSID",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
    )
    + ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")
    + ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
    + ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS")
    + ("EMPTY_DICT", "SETITEM", "SETITEMS")
)


def _sealed(self: object, state: object) -> None:
    """What BUILD calls; without it a pickle could change attributes that have been checked, or our
    own functions.
    """
    raise DarkroomError("its pickle changes what has been made.")


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    num_elements: int
    __setstate__ = _sealed


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    __setstate__ = _sealed


class _Named(dict):
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Leaves aside the versions of layers that PyTorch notes on its OrderedDict."""


@dataclass(frozen=True, slots=True)
class _Maker:
    make: Callable[..., object]
    __setstate__ = _sealed

    def __call__(self, *given: object) -> object:
        return self.make(*given)


def load(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name, each a read-only view of the file's bytes in the tensor's shape
    and dtype.

    Raises DarkroomError for anything but a legacy PyTorch file of named tensors; nothing in it is
    ever executed, and no more memory is taken than the file has bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise DarkroomError(f"There is no weights file {str(path)!r}.")
    if path.stat().st_size > _MOST_BYTES:
        raise DarkroomError(
            f"{path.name} is larger than {_MOST_BYTES >> 30} GiB, which no weights file of ours is."
        )
    try:
        return _load(path.read_bytes())
    except DarkroomError as error:
        raise DarkroomError(
            f"{path.name} is not a legacy PyTorch file of named tensors: {error}"
        ) from None


def _load(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if _next(stream) != _MAGIC:
        raise DarkroomError("it does not begin with the magic number.")
    if _next(stream) != _PROTOCOL:
        raise DarkroomError(f"its protocol is not {_PROTOCOL}.")
    machine = _next(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise DarkroomError("it was not written on a little-endian machine.")
    tensors, keys = _next(stream), _next(stream)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items()
    ):
        raise DarkroomError("it holds something else than tensors by name.")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise DarkroomError("its list of storages is broken.")
    storages = _storages(data, stream.tell(), keys=keys, tensors=tensors)
    return {name: _array(tensor, storages) for name, tensor in tensors.items()}


def _next(stream: io.BytesIO) -> object:
    start = stream.tell()
    _scan(stream)
    stream.seek(start)
    try:
        return _Unpickler(stream).load()
    except DarkroomError:
        raise
    except Exception as error:  # a broken pickle may fail with almost any class of error
        raise DarkroomError(f"its pickle is broken ({type(error).__name__}).") from None


def _scan(stream: io.BytesIO) -> None:
    size = stream.getbuffer().nbytes
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name not in _OPCODES:
                raise DarkroomError(
                    f"its pickle uses {opcode.name}, which named tensors do not need."
                )
            if opcode.name == "GLOBAL":
                _allowed(*argument.split(" ", 1))
            # The unpickler reserves as many memo places as the largest number says.
            if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument) <= size:
                raise DarkroomError("its pickle numbers its memo absurdly.")
    except DarkroomError:
        raise
    except (ValueError, OverflowError):
        raise DarkroomError("its pickle is broken or cut off.") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        return _allowed(module, name)

    def persistent_load(self, reference: object) -> _Storage:
        valid = (
            isinstance(reference, tuple) and len(reference) in (5, 6) and reference[0] == "storage"
        )
        if not valid or (len(reference) == 6 and reference[5] is not None):
            raise DarkroomError("it refers to something else than a plain storage.")
        _, dtype, key, _, num_elements = reference[:5]
        if (
            dtype not in _STORAGES.values()
            or not isinstance(key, str)
            or not _natural(num_elements)
        ):
            raise DarkroomError("a reference to a storage is broken.")
        return _Storage(key, dtype, num_elements)


def _allowed(module: str, name: str) -> object:
    if (module, name) == ("collections", "OrderedDict"):
        return _Maker(_Named)
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return _Maker(_tensor)
    if module == "torch" and name in _STORAGES:
        return _STORAGES[name]
    raise DarkroomError(f"it asks for {module}.{name}, and only tensors are allowed.")


def _tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
) -> _Tensor:
    if not isinstance(storage, _Storage) or not _natural(offset) or not isinstance(shape, tuple):
        raise DarkroomError("a tensor is broken.")
    if len(shape) > 8 or not all(_natural(length) for length in shape):
        raise DarkroomError("a tensor's shape is broken.")
    if (
        not isinstance(strides, tuple)
        or len(strides) != len(shape)
        or not _in_one_piece(shape, strides)
    ):
        raise DarkroomError("a tensor does not lie in one piece.")
    if offset + math.prod(shape) > storage.num_elements:
        raise DarkroomError("a tensor reaches beyond its storage.")
    return _Tensor(storage, offset, shape, strides)


def _in_one_piece(shape: tuple[int, ...], strides: tuple[object, ...]) -> bool:
    # The axes may be permuted, as conversions from TensorFlow leave them; elements must neither
    # repeat nor leave gaps.
    expected = 1
    axes = [axis for axis, length in enumerate(shape) if length != 1]
    if not all(_natural(strides[axis]) for axis in range(len(shape))):
        return False
    for axis in sorted(axes, key=lambda axis: strides[axis]):
        if strides[axis] != expected and math.prod(shape):
            return False
        expected *= shape[axis]
    return True


def _storages(
    data: bytes, start: int, *, keys: list[str], tensors: dict[str, _Tensor]
) -> dict[str, np.ndarray]:
    wanted: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if wanted.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise DarkroomError("one storage has two descriptions.")
    if set(wanted) != set(keys) or len(keys) != len(wanted):
        raise DarkroomError("its list of storages does not match its tensors.")
    found = {}
    for key in keys:
        storage = wanted[key]
        num_bytes = storage.num_elements * np.dtype(storage.dtype).itemsize
        if (
            int.from_bytes(data[start : start + 8], "little") != storage.num_elements
            or len(data) < start + 8 + num_bytes
        ):
            raise DarkroomError("a storage is cut off or has another length than it says.")
        found[key] = np.frombuffer(data, storage.dtype, storage.num_elements, start + 8)
        start += 8 + num_bytes
    return found


def _array(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    flat = storages[tensor.storage.key][tensor.offset : tensor.offset + math.prod(tensor.shape)]
    slowest_first = sorted(
        range(len(tensor.shape)), key=lambda axis: tensor.strides[axis], reverse=True
    )
    stored = flat.reshape([tensor.shape[axis] for axis in slowest_first])
    return stored.transpose(np.argsort(slowest_first, kind="stable"))


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
