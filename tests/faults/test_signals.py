"""What a system sends to a study at work: hang-up, terminate, Ctrl-C once and twice, stop and go on.

Whatever ends it, nothing counts as finished that is not, no process stays, and the same command
ends with the same numbers.
"""

import os
import signal
import time

import pytest


@pytest.fixture(autouse=True)
def default_actions():
    """A suite started in the background ignores these signals, and its children would, too."""
    before = {name: signal.signal(name, signal.SIG_DFL) for name in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for name, action in before.items():
        signal.signal(name, action)


def begun(one, process):
    """Waits until a run of the second stage is at work."""
    while not list(one.home.glob("logs/one/work/*/progress.json")):
        assert process.poll() is None
        time.sleep(0.05)


def ended(one):
    """Waits until no process of the study is left; workers notice that their parent is gone."""
    while one.processes("lib.processes") or one.kernels():
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("signals", "whole"),
    [
        ([signal.SIGHUP], False),
        ([signal.SIGTERM], True),  # the runs at work end first
        ([signal.SIGINT], True),
        ([signal.SIGINT, signal.SIGINT], False),
        ([signal.SIGTERM, signal.SIGTERM], False),
        ([signal.SIGQUIT], False),
    ],
)
def test_a_signal_ends_a_study_that_continues_later(one, signals, whole):
    process = one.begin("--workers", "2", "--set", "seconds=2")
    begun(one, process)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    process.communicate(timeout=600)
    assert process.returncode != 0
    ended(one)
    found = one.results()
    assert "begin/all" in found and "gather/all" not in found
    assert any(unit.startswith("work/") for unit in found) == whole
    assert one.complete("--set", "seconds=2") == one.expected


@pytest.mark.parametrize("seconds", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_a_study_is_stopped_and_continues(one, seconds):
    process = one.begin("--workers", "2", "--set", "seconds=1")
    begun(one, process)
    family = [process.pid, *one.processes("lib.")]
    for number in family:
        os.kill(number, signal.SIGSTOP)
    time.sleep(seconds)
    for number in family:
        os.kill(number, signal.SIGCONT)
    written, complained = process.communicate(timeout=600)
    assert process.returncode == 0, written + complained
    assert one.complete("--set", "seconds=1") == one.expected
    ended(one)
