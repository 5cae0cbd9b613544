"""The study `one` as a person runs it from a shell, and what must hold of it after whatever has
happened.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DARKROOM = [sys.executable, "-m", "lib.cli"]


class OneStudy:
    """Begin, then 2 arms × 2 seeds, then gather, in `home`; `expected` is what they find."""

    expected = {
        "begin/all": {},
        "gather/all": {"num_runs": 4},
        "work/plain-s0": {"score": 0.0},
        "work/plain-s1": {"score": 1.0},
        "work/double-s0": {"score": 0.0},
        "work/double-s1": {"score": 2.0},
    }

    def __init__(self, home: Path):
        self.home = home

    def run(self, *words, **environment):
        return subprocess.run(
            [*DARKROOM, "run", "one", *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def begin(self, *words, **environment):
        return subprocess.Popen(
            [*DARKROOM, "run", "one", *words],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def results(self):
        """What each finished run has found, and when; reading fails when any file is torn."""
        found = {}
        for path in self.home.glob("logs/one/*/*/*.json"):
            content = json.loads(path.read_text())
            if path.name == "result.json":
                unit = path.parent.relative_to(self.home / "logs" / "one").as_posix()
                found[unit] = content["metrics"], path.stat().st_mtime_ns
        return found

    def complete(self, *words):
        """Runs the study to its end and returns the metrics; a run that had finished is not done
        again.
        """
        before = self.results()
        told = self.run("--json", *words)
        assert told.returncode == 0, told.stdout + told.stderr
        after = self.results()
        stage = ("begin/", "work/")  # gather is done anew when what it reads is new
        assert {
            unit: found for unit, found in before.items() if unit.startswith(stage)
        }.items() <= after.items()
        assert not list(self.home.glob("logs/one/*/.aside-*/result.json"))
        return {unit: metrics for unit, (metrics, _) in after.items()}

    def kernels(self):
        """The kernels that are at work, forked or not, without the process they are forked from."""
        numbers = set(self.processes("lib.batch.kernel"))
        template = set(self.processes("--template"))
        parents = {}
        for number in numbers:
            with contextlib.suppress(psutil.NoSuchProcess):
                parents[number] = psutil.Process(number).ppid()
        return [n for n in parents if n not in template or parents[n] in template]

    def processes(self, module):
        """Those that run `module` for this study."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = f"DARKROOM_HOME={self.home}".encode() in (process / "environ").read_bytes()
                if here and module.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found


@pytest.fixture
def one(batch_home):
    return OneStudy(batch_home)
