import os
import pickle
import struct

import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import efficientnet_lite

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
HEAD = (
    MAGIC
    + pickle.dumps(1001, 2)
    + pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
)


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key, shape, strides, *, offset=0, num_elements=6, kind=b"FloatStorage"):
    """The pickle operations that PyTorch writes for one tensor."""
    storage = (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind
        + b"\n"
        + text(key)
        + text("cpu")
        + integer(num_elements)
        + b"NtQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + integer(offset)
        + integers(shape)
        + integers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def named(tensors):
    inside = b"".join(text(name) + value for name, value in tensors.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + inside + b"u."


def storage(values, dtype="<f4"):
    return struct.pack("<q", len(values)) + np.asarray(values, dtype).tobytes()


def write(tmp_path, body):
    path = tmp_path / "weights.pth"
    path.write_bytes(body)
    return path


def test_tensors_come_back_with_shape_strides_and_dtype(tmp_path):
    tensors = {
        "rows": tensor("a", (2, 3), (3, 1)),
        "columns": tensor("a", (3, 2), (1, 3)),  # the same storage, transposed
        "tail": tensor("a", (2,), (1,), offset=4),
        "scalar": tensor("b", (), (), num_elements=1, kind=b"LongStorage"),
    }
    body = (
        HEAD
        + named(tensors)
        + pickle.dumps(["a", "b"], 2)
        + storage(range(6))
        + storage([7], "<i8")
    )
    found = efficientnet_lite.read_tensors(write(tmp_path, body))
    assert found["rows"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["columns"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["tail"].tolist() == [4, 5]
    assert found["scalar"].shape == () and found["scalar"] == 7
    assert found["rows"].dtype == np.float32 and found["scalar"].dtype == np.int64


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_the_file_is_never_run(tmp_path, protocol):
    trace = tmp_path / "executed"
    path = write(tmp_path, HEAD + pickle.dumps(Exploit(trace), protocol))
    with pytest.raises(DarkroomError, match="not a legacy PyTorch file of named tensors"):
        efficientnet_lite.read_tensors(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Exploit(trace), protocol))  # an open unpickler does run it
    assert trace.exists()


ONE = named({"a": tensor("a", (6,), (1,))})

HOSTILE = {
    "class by name": (
        HEAD + b"\x80\x02cbuiltins\neval\n" + text("1") + b"\x85R.",
        "asks for builtins.eval",
    ),
    "another torch class": (HEAD + b"\x80\x02ctorch\nload\n.", "asks for torch.load"),
    "class from the stack": (
        HEAD + b"\x80\x04" + text("os") + text("system") + b"\x93.",
        "asks for os.system|or it is cut off",
    ),
    "reserved memory": (
        HEAD + b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "or it is cut off",
    ),
    "memo far out": (
        HEAD + b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFF0) + b".",
        "or it is cut off",
    ),
    "string longer than the file": (
        HEAD + b"\x80\x02X" + struct.pack("<I", 0xFFFFFFF0) + b"a.",
        "or it is cut off",
    ),
    "no magic": (pickle.dumps(1, 2), "or it is cut off"),
    "empty": (b"", "or it is cut off"),
    "zip": (b"PK\x03\x04" + bytes(100), "or it is cut off"),
    "another protocol": (MAGIC + pickle.dumps(1002, 2), "another header|or it is cut off"),
    "stack underflow": (HEAD + b"\x80\x02u.", "or it is cut off"),
    "no tensors": (
        HEAD + pickle.dumps([1], 2) + pickle.dumps(["a"], 2),
        "or it is cut off",
    ),
    "cut off": (
        HEAD + ONE + pickle.dumps(["a"], 2) + storage(range(6))[:-1],
        "or it is cut off",
    ),
    "storage missing": (HEAD + ONE + pickle.dumps([], 2), "or it is cut off"),
    "length differs": (
        HEAD + ONE + pickle.dumps(["a"], 2) + storage(range(5)) + bytes(4),
        "another length than it declares",
    ),
    "absurd length": (
        HEAD
        + named({"a": tensor("a", (6,), (1,), num_elements=2**31 - 1)})
        + pickle.dumps(["a"], 2)
        + bytes(8),
        "or it is cut off",
    ),
    "beyond its storage": (
        HEAD + named({"a": tensor("a", (7,), (1,))}),
        "or it is cut off",
    ),
    "negative": (HEAD + named({"a": tensor("a", (-1,), (1,))}), "or it is cut off"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_broken_files_are_refused(tmp_path, case):
    body, message = HOSTILE[case]
    with pytest.raises(DarkroomError, match=message):
        efficientnet_lite.read_tensors(write(tmp_path, body))


def test_every_cut_of_a_good_file_is_refused(tmp_path):
    good = HEAD + ONE + pickle.dumps(["a"], 2) + storage(range(6))
    assert list(efficientnet_lite.read_tensors(write(tmp_path, good))) == ["a"]
    for length in range(len(good)):
        with pytest.raises(DarkroomError):
            efficientnet_lite.read_tensors(write(tmp_path, good[:length]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DarkroomError, match="no weights file .*nothing.pth"):
        efficientnet_lite.read_tensors(tmp_path / "nothing.pth")
