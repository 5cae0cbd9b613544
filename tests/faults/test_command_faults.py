"""What else happens to a command at work: signals, a clock that is set back, a full
disk.
"""

import os
import shutil
import signal
import subprocess
import time

import pytest
from commands import KINDS, make_command, make_home
from test_clock import JUMP
from test_disk import ABLE, fill, mount

pytestmark = pytest.mark.slow
COMMANDS = ["clean", "train by batch", "tune by batch", "apply"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Returns for a kind of command: a home to copy, what the command leaves and its CPU time."""
    known = {}

    def prepare(kind):
        if kind not in known:
            ready = tmp_path_factory.mktemp("home") / "ready"
            make_home(ready)
            for before in KINDS[kind].before:
                make_command(before, ready).complete()
            calm = make_command(kind, shutil.copytree(ready, ready.parent / "calm", symlinks=True))
            known[kind] = ready, *calm.complete()
        return known[kind]

    return prepare


@pytest.fixture
def begun(prepared, tmp_path):
    """Begins a command in a copy of its home; returns it after a share of its CPU time, and what it
    leaves when nothing happens.
    """

    def begin(kind, share, home=None, **environment):
        ready, expected, whole = prepared(kind)
        home = home or tmp_path / "home"
        shutil.copytree(ready, home, symlinks=True, dirs_exist_ok=True)
        command = make_command(kind, home, **environment)
        command.begin()
        while command.poll() is None and command.cpu() < share * whole:
            time.sleep(0.1)
        return command, expected

    return begin


@pytest.fixture
def default_actions():
    """A suite started in the background ignores these signals, and its children would, too."""
    actions = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, action) for number, action in actions.items()}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGINT SIGINT"])
def test_a_signal_ends_it_and_the_same_command_goes_on(begun, default_actions, kind, name):
    command, expected = begun(kind, 0.6)
    for each in name.split():
        command.process.send_signal(signal.Signals[each])
        time.sleep(0.3)
    command.end()
    assert command.outcome() in ({}, expected)
    assert command.complete()[0] == expected


@pytest.mark.parametrize("kind", COMMANDS)
def test_it_is_stopped_for_a_minute_and_continues(begun, kind):
    command, expected = begun(kind, 0.6)
    family = command.alive()
    for number in family:
        os.kill(number, signal.SIGSTOP)
    time.sleep(60)
    for number in family:
        os.kill(number, signal.SIGCONT)
    command.end()
    assert command.poll() == 0, command.said()
    assert command.outcome() == expected


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_clock_is_set_back(begun, tmp_path, kind):
    flag = tmp_path / "yesterday"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMP.format(flag=str(flag)))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    command, expected = begun(kind, 0.5, PYTHONPATH=path)
    flag.touch()
    command.end()
    assert command.poll() == 0, command.said()
    assert command.outcome() == expected


@pytest.mark.skipif(not ABLE, reason="mounts a file system, as root on Linux")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", COMMANDS)
def test_the_disk_is_full(begun, tmp_path, kind, share):
    home = tmp_path / "small"
    home.mkdir()
    mount("-t", "tmpfs", "-o", "size=256m", "none", str(home))
    try:
        command, expected = begun(kind, share, home=home)
        fill(home)
        command.end()
        found = command.outcome()
        assert found in ({}, expected) and (command.poll() == 0) <= bool(found)
        (home / "filler").unlink()
        assert command.complete()[0] == expected
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)
