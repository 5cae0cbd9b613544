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
from commands import KINDS, make_command, make_home


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(tmp_path, monkeypatch, kind):
    kill_again_and_again(tmp_path, monkeypatch, kind, kills=25, seed=kind)


def kill_again_and_again(folder, monkeypatch, kind, *, kills, seed):
    ready, moments = folder / "ready", random.Random(seed)
    make_home(ready)
    for before in KINDS[kind][2]:
        make_command(before, ready).complete()
    homes = [shutil.copytree(ready, folder / name, symlinks=True) for name in ("calm", "killed")]
    calm, killed = (make_command(kind, home) for home in homes)
    monkeypatch.setenv("DARKROOM_HOME", str(calm.home))
    expected, whole = calm.complete()
    assert expected
    monkeypatch.setenv("DARKROOM_HOME", str(killed.home))
    counts, longest, in_a_row = Counter(), 0.0, 0
    while counts["kills"] < kills:
        moment = moments.uniform(0, whole)
        whom = moments.choice(("all", "all", "command", "command", "other"))
        killed.begin()
        while killed.poll() is None and killed.cpu() < moment:
            time.sleep(0.25)
        if is_killed := killed.poll() is None:
            killed.kill(whom)
            counts["kills"] += 1
            counts[whom] += 1
            print(f"kill {counts['kills']} at {moment:.1f} CPU-s: {whom}", flush=True)
        longest = max(longest, killed.end())
        found = killed.outcome(killed.home)
        assert found in ({}, expected), f"finished with other numbers: {found}"
        assert is_killed or (killed.poll() == 0 and found), killed.said()
        in_a_row += is_killed
        if not found and (in_a_row == 5 or counts["kills"] == kills):
            found, _ = killed.complete()
            assert found == expected
        if found:
            counts["ends"] += 1
            in_a_row = 0
            shutil.rmtree(killed.home)
            shutil.copytree(ready, killed.home, symlinks=True)
    print(f"{kind}: {dict(counts)}, {whole:.1f} CPU-s, alive for {longest:.1f} s at most")
