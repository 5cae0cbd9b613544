"""A pass over many files in parts. Workers import this file, so it imports little."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from lib.batch.dask_executor import Executor
from lib.errors import DarkroomError


def squares(part, times, log):
    """Also notes that it was called."""
    with Path(log).open("a") as file:
        file.write(f"{part[0]}\n")
    import pandas as pd

    return pd.DataFrame({"square": [number**2 * times for number in part]})


def halves(part):
    return np.float32([number / 2 for number in part])


def dies(part, marker):
    """Kills its process on the part that begins with 2: the first time only, or always where there
    is no marker.
    """
    if part[0] == 2 and not (marker and Path(marker).exists()):
        if marker:
            Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return halves(part)


@pytest.fixture
def executor(monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    )
    with Executor(workers=2) as executor:
        yield executor


def test_parts_come_in_order_and_are_not_done_twice(executor, tmp_path):
    parts = [[0, 1], [2, 3], [4]]
    assert [list(part) for part in parts] == [[0, 1], [2, 3], [4]]
    log = tmp_path / "log"
    for _ in range(2):
        found = executor.map(squares, parts, 10, str(log), folder=tmp_path / "parts")
        assert [(index, list(table["square"])) for index, table in found] == [
            (0, [0, 10]),
            (1, [40, 90]),
            (2, [160]),
        ]
        assert sorted(log.read_text().split()) == ["0", "2", "4"]
    list(executor.map(squares, parts, 11, str(log), folder=tmp_path / "parts"))
    assert len(log.read_text().split()) == 6  # other work is not taken for the same


def test_a_part_whose_process_dies_is_done_again_and_given_up_at_last(executor, tmp_path):
    parts = [[0, 1], [2, 3]]
    marker = str(tmp_path / "marker")
    found = list(executor.map(dies, parts, marker, folder=tmp_path / "parts"))
    assert [list(values) for _, values in found] == [[0, 0.5], [1, 1.5]]
    with pytest.raises(
        DarkroomError, match=r"A part of 2 files, 2 to 3, failed: WorkerDied.*signal 9"
    ) as caught:
        list(executor.map(dies, parts, "", folder=tmp_path / "others"))
    assert "the same command continues" in str(caught.value)
