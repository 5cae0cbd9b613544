"""A disk that fills up and a folder that cannot be written: told in one sentence, nothing torn, and
room again is enough.
"""

import os
import random
import shutil
import subprocess
import sys
import time

import pytest

ABLE = sys.platform == "linux" and os.getuid() == 0 and shutil.which("mount") is not None
pytestmark = pytest.mark.skipif(not ABLE, reason="mounts a file system, as root on Linux")


def mount(*words):
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def small(one, tmp_path_factory, monkeypatch):
    """The study on a file system of its own, of 400 MB in memory."""
    home = tmp_path_factory.mktemp("small")
    mount("-t", "tmpfs", "-o", "size=400m", "none", str(home))
    for folder in ("notebooks", "studies"):
        shutil.copytree(one.home / folder, home / folder)
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    yield type(one)(home)
    subprocess.run(["umount", "--lazy", str(home)], check=True)


def fill(home):
    with (
        pytest.raises(OSError, match="No space"),
        (home / "filler").open("wb", buffering=0) as file,
    ):
        while True:
            file.write(bytes(1 << 20)[: max(1, shutil.disk_usage(home).free)])


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
)
def test_a_disk_that_fills_up(one, small, seed):
    process = small.begin("--workers", "2", "--set", "seconds=1")
    while not (small.home / "logs" / "one" / "begin" / "all" / "result.json").exists():
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 4))
    fill(small.home)
    told, complained = process.communicate(timeout=600)
    found = small.results()
    assert process.returncode == (
        0 if found.keys() == one.expected.keys() else 1
    )  # it may have been done by then
    assert "Traceback" not in told + complained
    if process.returncode:
        assert "No space left on device" in told + complained
    (small.home / "filler").unlink()
    assert small.complete("--set", "seconds=1") == one.expected


def test_a_folder_that_cannot_be_written(one):
    """Not the whole root at first, then one stage of it, as a mistaken mount does."""
    mount("--bind", "-o", "ro", str(one.home), str(one.home))
    try:
        told = one.run()
        assert (
            told.returncode == 1
            and "Read-only file system" in told.stderr
            and "Traceback" not in told.stderr
        )
        assert told.stderr.count("\n") == 1
    finally:
        subprocess.run(["umount", str(one.home)], check=True)
    stage = one.home / "logs" / "one" / "work"
    stage.mkdir(parents=True)
    mount("--bind", "-o", "ro", str(stage), str(stage))
    try:
        told = one.run("--json")
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert one.results().keys() == {"begin/all"}
    finally:
        subprocess.run(["umount", str(stage)], check=True)
    assert one.complete() == one.expected
