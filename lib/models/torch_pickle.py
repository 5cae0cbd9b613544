"""Reads the tensors of a legacy PyTorch file without PyTorch and without running its code.

Such a file is five pickles (magic number, protocol, machine, tensors by name, storage keys)
followed by the raw storages. Source: `_legacy_save` in torch/serialization.py.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np

from lib.errors import DarkroomError, first_line

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def load(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by name, in the file's order, each a read-only view of its bytes.

    Raises:
        DarkroomError: for anything but a legacy PyTorch file of named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DarkroomError(f"There is no weights file {str(path)!r}.")
    try:
        return _load(path.read_bytes())
    except Exception as error:  # a broken pickle may fail with almost any class of error
        raise DarkroomError(
            f"{path.name} is not a legacy PyTorch file of named tensors, or it is cut off: "
            f"{first_line(error)}"
        ) from None


def _load(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    magic, protocol, machine, tensors, keys = (_Unpickler(stream).load() for _ in range(5))
    if (magic, protocol, machine["little_endian"]) != (_MAGIC, _PROTOCOL, True):
        raise ValueError("it has another header.")
    # `dict.values`, because the file may give its dictionary an attribute of that name.
    declared = {key: (dtype, length) for (key, dtype, length), *_ in dict.values(tensors)}
    start, storages = stream.tell(), {}
    for key in keys:
        dtype, length = declared[key]
        if struct.unpack_from("<q", data, start) != (length,):
            raise ValueError("a storage has another length than it declares.")
        storages[key] = np.frombuffer(data, dtype, length, start + 8)
        start += 8 + storages[key].nbytes
    return {
        name: np.ndarray(  # which refuses what reaches beyond the storage
            shape,
            storages[key].dtype,
            storages[key],
            offset * storages[key].itemsize,
            [stride * storages[key].itemsize for stride in strides],
        )
        for name, ((key, *_), offset, shape, strides) in dict.items(tensors)
    }


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, whose memo is a dict, without what reserves memory or finds classes
    on the stack.
    """

    dispatch = {
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if pickletools.code2op[chr(code)].proto <= 2
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in _DTYPES:
            return name
        raise ValueError(f"it asks for {module}.{name}, and only tensors are allowed.")

    def persistent_load(self, reference: object) -> tuple[str, np.dtype, int]:
        _, dtype, key, _, length, *_ = reference
        return key, np.dtype(_DTYPES[dtype]), length
