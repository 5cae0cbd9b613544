import io

import pytest

from lib import files
from lib.batch import progress_view, status
from lib.batch import study as studies
from lib.batch.scheduler import Report
from lib.batch.status import Standing


@pytest.fixture
def report(batch_home):
    study = studies.read("one")
    return Report(study, {unit.id: "queued" for unit in study.units()}, slots=2, started=1000.0)


def test_time_left_follows_from_arms_that_ended_and_epochs_of_those_at_work(report):
    assert progress_view.seconds_left(report, []) is None
    report.states |= {"begin/all": "skipped", "work/plain-s0": "finished", "gather/all": "skipped"}
    report.seconds["work/plain-s0"] = 10.0
    at_work = Standing(
        "work", "double-s0", "running", {"epoch": 2, "epochs": 10, "started": 1000.0}
    )
    # double: 6 s for 2 of 10 epochs, so 24 s left and 30 s for a whole one; plain-s1: 10 s
    assert progress_view.seconds_left(report, [at_work], now=1006.0) == (24 + 10 + 30) / 2
    report.states |= {"work/plain-s1": "finished", "work/double-s1": "failed"}
    assert (
        progress_view.seconds_left(report, [at_work], now=1006.0) == 24
    )  # the last one has no one to share with


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (3000, "50 min"), (7500, "2 h 5 min")],
)
def test_durations_are_spoken(seconds, told):
    assert progress_view.spoken(seconds) == told


def test_lines_tell_what_happens_but_not_what_is_skipped(report):
    stream = io.StringIO()
    lines = progress_view.Lines(stream)
    lines.event("work/plain-s0", "skipped", "finished")
    lines.event("work/plain-s1", "failed", "too bad")
    lines._told = -1000.0
    report.states |= {
        "begin/all": "finished",
        "work/plain-s0": "submitted",
        "work/plain-s1": "failed",
        "gather/all": "blocked",
    }
    folder = status.paths.run("one", "work", "plain-s0")
    told = {"state": "running", "epoch": 3, "epochs": 4, "metric": "val_accuracy", "value": 0.81234}
    files.write_json(folder / "progress.json", told)
    lines.tick(report)
    assert stream.getvalue().splitlines()[0] == "  0:00   FAILED  work/plain-s1  (too bad)"
    assert (
        stream.getvalue().splitlines()[1]
        == "  0:00  at work  work/plain-s0  epoch 3/4, val_accuracy 0.8123"
    )
    assert "1 of 6 runs done, 1 failed, 1 left out" in stream.getvalue().splitlines()[2]


def test_the_table_counts_every_run_once(report):
    from rich.console import Console

    report.states |= {
        "begin/all": "finished",
        "work/plain-s0": "submitted",
        "work/plain-s1": "failed",
    }
    console = Console(file=io.StringIO(), width=100)
    console.print(progress_view._table(report))
    shown = console.file.getvalue()
    assert "Does it work?" in shown and ["work", "·", "·", "3", "1"] in [
        line.split() for line in shown.splitlines()
    ]


def test_a_progress_from_before_is_nobody_at_work(report):
    report.states["work/plain-s0"] = "submitted"
    folder = status.paths.run("one", "work", "plain-s0")
    files.write_json(folder / "progress.json", {"state": "running", "epoch": 3})
    status.forget(folder)  # as the conductor does when it submits the run anew
    assert progress_view.at_work(report) == []
