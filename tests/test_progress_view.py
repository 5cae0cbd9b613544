import io

import pytest

from lib import files
from lib.batch import plan, progress_view, status
from lib.batch import study as studies
from lib.batch.parameter_grid import RunSpec
from lib.batch.plan import Durations, Report
from lib.batch.status import RunStatus


@pytest.fixture
def report(batch_home):
    study = studies.read("one")
    return Report(study, {unit.id: "queued" for unit in study.runs()}, slots=2, started=1000.0)


def test_time_left_follows_from_arms_that_ended_and_epochs_of_those_at_work(report):
    assert progress_view.estimate(report, []).unknown == tuple(report.states)
    assert "about 60 s by the study's own figure" in progress_view.summary(report, [])
    report.states |= {"begin/all": "skipped", "work/plain-s0": "finished", "gather/all": "skipped"}
    report.seconds["work/plain-s0"] = 10.0
    progress = {"epoch": 2, "epochs": 10, "started": 1000.0}
    at_work = RunStatus("work", "double-s0", "running", progress)
    left = progress_view.estimate(report, [at_work], now=1006.0)
    # double-s0: 6 s for 2 of 10 epochs, so 30 s and 15 % more in all, 28.5 s left; plain-s1: 10 s;
    # double-s1: unknown until double-s0 has ended
    assert left == progress_view.Estimate(28.5, ("work/double-s1",))
    assert "more than 28 s left (work/double-s1 never run here" in left.text(report)
    at_work.progress.update(phase=1, phases=2)  # the head; nothing is known of the second phase
    unknown = progress_view.estimate(report, [at_work], now=1006.0).unknown
    assert unknown == ("work/double-s0", "work/double-s1")


def test_earlier_runs_on_this_machine_say_how_long_others_take(report):
    runs = {unit.id: unit for unit in report.study.runs()}
    noted = Durations()
    assert noted.expected(runs["work/double-s1"]) is None
    for seconds in (8.0, 12.0, 40.0):
        noted.note(runs["work/double-s0"], seconds)
    known = Durations()  # read from the file
    assert known.expected(runs["work/double-s1"]) == 12.0  # another seed; the median
    assert known.expected(runs["work/plain-s0"]) is None  # another factor
    report.states = dict.fromkeys(report.states, "skipped") | {"work/double-s1": "submitted"}
    assert progress_view.estimate(report, [], known=known).seconds == 12.0


def test_a_kind_that_never_ran_here_is_estimated_by_images_and_epochs(report):
    def train(**values):
        return RunSpec("train", "a-s0", "a", 0, {"data": "absent", "image_side": 128, **values})

    # 8 s to start, then 2,000 images assumed: 12 epochs of 3.5 ms, or one pass of 8 ms
    cnn = plan.rough(train(architecture="custom", strategy="scratch", epochs=12))
    assert cnn == pytest.approx(8 + 2000 * 12 * 0.0035)
    probe = plan.rough(train(architecture="efficientnet_lite0", strategy="linear_probe"))
    assert probe == pytest.approx(8 + 2000 * 0.008)
    tuned = train(architecture="efficientnet_lite0", strategy="fine_tune", epochs=3)
    assert plan.rough(tuned) == pytest.approx(8 + 2000 * 0.008 * 10)
    assert plan.rough(RunSpec("work", "a-s0", "a", 0, {})) is None


def test_rough_figures_are_corrected_by_what_finished_runs_took(report, monkeypatch):
    monkeypatch.setattr(plan, "rough", lambda spec: 10.0)
    report.states |= {"begin/all": "finished", "gather/all": "skipped"}
    report.seconds["begin/all"] = 30.0  # three times its rough figure
    left = progress_view.estimate(report, [])
    assert left == progress_view.Estimate(60.0, (), is_rough=True)  # four runs of 30 s, two at once
    assert left.text(report) == "roughly 60 s left"


def test_more_epochs_take_longer_in_proportion(report):
    short = RunSpec("train", "a-s0", "a", 0, {"epochs": 10, "architecture": "custom"})
    long = RunSpec("train", "b-s0", "b", 0, {"epochs": 30, "architecture": "custom"})
    noted = Durations()
    noted.note(short, 20.0)
    assert noted.expected(long) == 60.0


def test_output_of_cells_is_passed_on_line_by_line(report):
    stream = io.StringIO()
    lines = progress_view.Lines(stream, log_output=True)
    report.states["work/plain-s0"] = "submitted"
    log = status.paths.run("one", "work", "plain-s0") / "output.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\nepo")
    lines.tick(report)
    log.write_text("epoch 1\nepoch 2\n")
    lines.tick(report)
    lines.tick(report)
    assert stream.getvalue() == "work/plain-s0 | epoch 1\nwork/plain-s0 | epoch 2\n"


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
    lines._reported = -1000.0
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
        == "  0:00  running  work/plain-s0  epoch 3/4, val_accuracy 0.8123"
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


def test_a_progress_from_before_is_not_running(report):
    report.states["work/plain-s0"] = "submitted"
    folder = status.paths.run("one", "work", "plain-s0")
    files.write_json(folder / "progress.json", {"state": "running", "epoch": 3})
    status.mark_interrupted(folder)  # as the conductor does when it submits the run anew
    assert progress_view.at_work(report) == []
