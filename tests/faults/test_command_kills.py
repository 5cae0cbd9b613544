"""The commands are killed at random moments, most of them five times before they may end: nothing
stays alive, nothing unfinished counts as finished, and the same command ends with the same numbers.

A moment is a share of the CPU time that the undisturbed command takes, which does not depend on
how busy the machine is.
"""

import random
import shutil
import time
from collections import Counter

import pytest
from commands import KINDS, Opened, make_command, make_home


@pytest.fixture(autouse=True, scope="module")
def servers():
    yield
    Opened.close_servers()


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("clean", 2), *(pytest.param(kind, 25, marks=pytest.mark.slow) for kind in KINDS)],
)
def test_killed_at_random_moments(tmp_path, kind, kills):
    ready = tmp_path / "ready"
    make_home(ready)
    for before in KINDS[kind].before:
        make_command(before, ready).complete()
    kill_again_and_again(tmp_path, ready, kind, kills=kills)


def kill_again_and_again(folder, ready, kind, *, kills):
    moments = random.Random(kind)
    homes = [shutil.copytree(ready, folder / name, symlinks=True) for name in ("calm", "killed")]
    calm, killed = (make_command(kind, home) for home in homes)
    expected, whole = calm.complete()
    assert expected
    counts, longest, in_a_row = Counter(), 0.0, 0
    while counts["kills"] < kills:
        moment = moments.uniform(0, whole)
        whom = moments.choice(("all", "all", "command", "kernel", "other"))
        killed.begin()
        while killed.poll() is None and killed.cpu() < moment:
            time.sleep(0.25)
        if is_killed := killed.poll() is None:
            whom = killed.kill(whom, moments)
            counts["kills"] += 1
            counts[whom] += 1
            print(f"kill {counts['kills']} at {moment:.1f} CPU-s: {whom}", flush=True)
        longest = max(longest, killed.end())
        found = killed.outcome()
        assert found.items() <= expected.items(), f"finished with other numbers: {found}"
        assert killed.poll() != 0 or found == expected, killed.said()
        assert is_killed or killed.poll() == 0, killed.said()
        in_a_row += is_killed
        if found != expected and (in_a_row == 5 or counts["kills"] == kills):
            found, _ = killed.complete()
            assert found == expected
        if found == expected:
            counts["ends"] += 1
            in_a_row = 0
            shutil.rmtree(killed.home)
            shutil.copytree(ready, killed.home, symlinks=True)
    print(f"{kind}: {dict(counts)}, {whole:.1f} CPU-s, alive for {longest:.1f} s at most")
