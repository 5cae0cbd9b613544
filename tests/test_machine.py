"""What a piece of work gets of its machine. The GPUs are only names here."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from lib import processes
from lib.batch import machine
from lib.batch.machine import Share


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv(processes.CORES, raising=False)


def given(share, *, slots=1, wanted=lambda: True):
    return machine.environment(share, slots=slots, home="/home", wanted=wanted)


def test_cores_are_shared_among_as_many_as_run_at_once(monkeypatch):
    monkeypatch.setattr(processes, "num_cores", lambda: 12)
    for share, slots, threads in [
        (Share(parallel=100), 4, "3"),
        (Share(parallel=2), 4, "6"),
        (Share(cores=5), 4, "5"),
        (Share(parallel=100), 50, "1"),
    ]:
        with given(share, slots=slots) as found:
            assert (
                found["OMP_NUM_THREADS"]
                == found["TF_NUM_INTRAOP_THREADS"]
                == found[processes.CORES]
                == threads
            )
    monkeypatch.undo()
    monkeypatch.setenv(processes.CORES, "3")
    assert processes.num_cores() == 3  # work that a run hands out keeps to what the run was given


def test_a_gpu_of_its_own_is_exclusive_and_others_wait_for_it():
    with given(Share(gpus=1)) as first, given(Share(gpus=1)) as second:
        assert [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]] == ["0", "1"]
        end = time.monotonic() + 1
        with given(Share(gpus=1), wanted=lambda: time.monotonic() < end) as third:
            assert (
                third["CUDA_VISIBLE_DEVICES"] == "-1" and time.monotonic() >= end
            )  # it waited until nobody wanted it
    with given(Share(gpus=2)) as both:
        assert both["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_gpus_of_another_process_are_left_to_it_until_it_dies(tmp_path):
    script = (
        "import sys\nfrom lib.batch import machine\n"
        f"machine.tempfile.gettempdir = lambda: {str(tmp_path)!r}\n"
        "with machine.environment(machine.Share(gpus=1), slots=1, home='', wanted=lambda: True):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with given(Share(gpus=1)) as found:
        assert found["CUDA_VISIBLE_DEVICES"] == "1"
    holder.kill()
    holder.communicate()
    with given(Share(gpus=1)) as found:
        assert found["CUDA_VISIBLE_DEVICES"] == "0"


def test_work_that_a_run_hands_out_shares_the_gpus_that_the_run_holds(monkeypatch):
    with given(Share(gpus=1)) as outer, contextlib.ExitStack() as inner:
        monkeypatch.setattr(machine, "_owned", set())  # as in the run's own process
        for name in ("CUDA_VISIBLE_DEVICES", machine.GPUS):
            monkeypatch.setenv(name, outer[name])
        assert inner.enter_context(given(Share(gpus=1)))["CUDA_VISIBLE_DEVICES"] == "0"


def test_runs_that_ask_for_none_share_the_one_used_least_and_those_that_ask_for_zero_see_none():
    with (
        given(Share()) as first,
        given(Share()) as second,
        given(Share()) as third,
        given(Share(gpus=0)) as blind,
    ):
        found = [each["CUDA_VISIBLE_DEVICES"] for each in (first, second, third, blind)]
    assert found == ["0", "1", "0", "-1"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with given(Share(gpus=1)) as found:
        assert "CUDA_VISIBLE_DEVICES" not in found  # a machine without any
