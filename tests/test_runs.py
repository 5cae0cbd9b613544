import json
import subprocess
import sys
import types

import pytest

from lib import notebooks, runs
from lib.batch import status
from lib.errors import DarkroomError
from lib.runs import run as opened


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    cells = [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": [
                'study: str = "interactive"\narm: str = ""\narchitecture: str = "custom"\nseed: int = 0\nepochs: int = 3\n'
            ],
        },
    ]
    about = {"darkroom": {"stage": "train", "reads": ["manifest"]}}
    (tmp_path / "notebooks" / "t.ipynb").write_text(json.dumps({"cells": cells, "metadata": about}))
    yield tmp_path
    for run in list(opened._open_runs.values()):
        run.lock.release()
    opened._open_runs.clear()


def values(**changed):
    return {"study": "s", "arm": "a", "architecture": "custom", "seed": 1, "epochs": 3, **changed}


def test_a_run_writes_its_folder_and_its_result_last(home):
    run = runs.start("t", {**values(), "other": object()}, data=None)
    assert run.folder == home / "logs" / "s" / "train" / "a-s1"
    assert runs.state(run.folder) == "running"
    assert json.loads((run.folder / "parameters.json").read_text()) == values()
    assert not runs.finished(run.folder)
    result = run.finish({"metrics": {"accuracy": 0.5}})
    assert runs.state(run.folder) == "finished"
    assert runs.read(run.folder) == result
    assert (result["arm"], result["seed"], result["study"], result["unit"]) == ("a", 1, "s", "a-s1")


def test_a_count_is_reported_to_who_asks_how_far_a_run_is_and_writes_no_file_for_every_picture(
    home, monkeypatch
):
    clock = [100.0]
    monkeypatch.setattr(opened.time, "monotonic", lambda: clock[0])
    run = runs.start("t", values(), data=None)
    told = []
    monkeypatch.setattr(run, "progress", lambda **fields: told.append(fields["note"]))
    tell = run.counting("files read")
    for done in range(1, 2001):
        clock[0] += 0.002  # 4 seconds in all
        tell(done, 2000)
    assert told[0] == "1 of 2,000 files read" and told[-1] == "2,000 of 2,000 files read"
    assert len(told) == 5
    known = {"cell": 4, "cells": 11, "note": told[2]}
    assert status.RunStatus("train", "a", "running", known).line() == f"cell 4/11, {told[2]}"


def test_an_unfinished_run_with_the_same_key_continues_and_another_key_moves_it_aside(home):
    run = runs.start("t", values(), data=None)
    (run.folder / "history.csv").write_text("kept")
    assert not run.resumed
    again = runs.start("t", values(), data=None)
    assert again.resumed
    assert (again.folder / "history.csv").exists()
    changed = runs.start("t", values(epochs=4), data=None)
    assert not changed.resumed
    assert not (changed.folder / "history.csv").exists()
    assert len(list((home / "logs" / ".earlier" / "s" / "train").glob("a-s1-*/history.csv"))) == 1


def test_a_finished_run_is_never_overwritten(home):
    runs.start("t", values(), data=None).finish({"metrics": {}})
    again = runs.start("t", values(), data=None)
    assert not again.resumed
    assert len(list((home / "logs" / ".earlier").rglob("result.json"))) == 1


def test_a_loop_over_values_with_one_arm_keeps_every_run(home, capsys):
    namespaces = [values(epochs=epochs, seed=seed) for epochs in (3, 5, 4) for seed in (1, 2)]
    results = [runs.start("t", own, data=None).finish({"metrics": {}}) for own in namespaces]
    names = ["a-s1", "a-s2", "a-2-s1", "a-2-s2", "a-3-s1", "a-3-s2"]
    assert [result["unit"] for result in results] == names
    assert [own["arm"] for own in namespaces] == [result["arm"] for result in results]
    assert all(runs.finished(home / "logs" / "s" / "train" / name) for name in names)
    assert "so this is the arm 'a-3'" in capsys.readouterr().out
    assert runs.start("t", values(epochs=5), data=None).folder.name == "a-2-s1"  # the same again
    assert not (home / "logs" / ".earlier" / "s" / "train" / "a-s1").exists()


def test_a_run_that_its_study_names_keeps_its_arm(home):
    runs.start("t", values(), data=None).finish({"metrics": {}})
    stage = {"name": "train", "units": ["a-s1"], "after": [], "upstream": []}
    (home / "logs" / "s" / "study.json").write_text(json.dumps({"stages": [stage]}))
    assert runs.start("t", values(epochs=4), data=None).folder.name == "a-s1"


def test_a_second_process_is_refused_and_a_dead_one_frees_the_lock(home):
    script = (
        "import sys; from lib import runs\n"
        f"run = runs.start('t', {values()!r}, data=None)\nprint('held', "
        "flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DarkroomError, match="Another process works on the run a-s1"):
        runs.start("t", values(), data=None)
    holder.kill()
    holder.communicate()
    folder = home / "logs" / "s" / "train" / "a-s1"
    assert runs.state(folder) == "killed"
    assert runs.start("t", values(), data=None).resumed


def test_changes_are_named():
    old = {"parameters": {"epochs": 3, "seed": 1}, "data": "x", "code": "c"}
    new = {"parameters": {"epochs": 5, "seed": 1}, "data": "y", "code": "c"}
    assert runs.changes(old, new) == ["epochs 3 → 5", "the data"]


def test_a_notebook_opened_by_hand_takes_the_architecture_as_its_arm():
    assert runs.unit({"study": "interactive"}) == "all"
    assert runs.unit({"arm": "", "architecture": "custom", "seed": 3}) == "custom-s3"
    assert runs.unit({"arm": "base", "architecture": "custom", "seed": 3}) == "base-s3"


def test_a_result_that_does_not_fit_its_files_is_not_finished(home):
    run = runs.start("t", values(), data=None)
    (run.folder / "predictions.parquet").write_bytes(b"as it was scored")
    result = run.finish({"metrics": {}})
    assert list(result["files"]) == ["predictions.parquet"] and runs.finished(run.folder)
    (run.folder / "predictions.parquet").write_bytes(b"edited afterwards")
    assert runs.state(run.folder) == "killed"
    with pytest.raises(
        DarkroomError, match="predictions.parquet is not the one that the run wrote"
    ):
        runs.read(run.folder)
    (run.folder / "predictions.parquet").unlink()
    with pytest.raises(DarkroomError, match="predictions.parquet is gone"):
        runs.read(run.folder)


def test_a_run_of_before_which_notes_no_files_is_finished(home):
    folder = home / "logs" / "s" / "train" / "a-s1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"metrics": {}, "key": {}}')
    assert runs.finished(folder) and runs.state(folder) == "finished"


def test_a_truncated_result_is_moved_aside_and_the_run_repeated(home):
    run = runs.start("t", values(), data=None)
    run.finish({"metrics": {"accuracy": 0.5}})
    text = (run.folder / "result.json").read_text()
    (run.folder / "result.json").write_text(text[: len(text) // 2])
    assert not runs.finished(run.folder) and runs.state(run.folder) == "killed"
    assert not runs.start("t", values(), data=None).resumed
    assert len(list((home / "logs" / ".earlier").rglob("result.json"))) == 1


def test_a_new_parameter_at_its_default_changes_no_key():
    old = {"parameters": {"epochs": 3}, "data": "x", "code": "c", "lib": "1"}
    new = {
        "stage": "train",
        "parameters": {"epochs": 3, "min_delta": 0.0},
        "data": "x",
        "code": "c",
    }
    assert runs.changes(old, new) == [] and runs.is_older(old, {**new, "lib": "2"})
    new["parameters"]["min_delta"] = 0.1
    assert runs.changes(old, new) == ["min_delta None → 0.1"]


def test_other_content_under_a_name_is_another_key(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"one")
    apply = notebooks.of_schema("9_apply")
    given = apply.complete({"pictures": str(folder)})
    first = runs.key(apply, given, data=None)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a.png").write_bytes(b"one")
    copied = runs.key(apply, {**given, "pictures": str(tmp_path / "copy")}, data=None)
    assert copied["files"] == first["files"]
    (folder / "b.png").write_bytes(b"two")
    assert runs.changes(first, runs.key(apply, given, data=None)) == [
        "files that its parameters name"
    ]


def trained_for(epochs, **others):
    """A finished run of 3_train that left a checkpoint, or the run that asks for it again."""
    notebook = notebooks.of_schema("3_train")
    values = notebook.complete({"study": "s", "epochs": epochs, **others})
    return runs.open_run(notebook, values, data=None)


@pytest.mark.parametrize(
    ("others", "is_kept"),
    [({}, False), ({"continue_run": True}, True), ({"continue_run": True, "batch_size": 8}, False)],
)
def test_more_epochs_continue_from_the_last_checkpoint_when_asked(home, others, is_kept):
    first = trained_for(2)
    (first.checkpoint_folder / "train").mkdir(parents=True)
    (first.checkpoint_folder / "train" / "state").write_text("epoch 2")
    first.finish({"metrics": {}})
    again = trained_for(4, **others)
    assert (again.checkpoint_folder / "train" / "state").exists() == is_kept
    assert len(list((home / "checkpoints" / ".earlier").rglob("state"))) == 1
    assert runs.state(again.folder) == "running" and "continue_run" not in again.key["parameters"]


def test_a_schedule_of_fixed_length_does_not_continue(home):
    trained_for(2, schedule="cosine").finish({"metrics": {}})
    with pytest.raises(DarkroomError, match="the cosine schedule laid out its learning rates"):
        trained_for(4, schedule="cosine", continue_run=True)


def test_cells_that_were_edited_by_hand_make_another_notebook(home):
    content = json.loads((home / "notebooks" / "t.ipynb").read_text())
    cells = ["run = runs.start('t', globals(), data=None)", "x = 1  # one"]
    content["cells"] += [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]
    (home / "notebooks" / "t.ipynb").write_text(json.dumps(content))
    keys = []
    for last in ("x = 1", "x = 2"):
        ran = ["", content["cells"][0]["source"][0], cells[0]]
        run = runs.start("t", {**values(), "In": ran}, data=None)
        ran.append(last)
        keys.append(run.finish({"metrics": {}})["key"]["notebook"])
    assert keys[0] == run.key["notebook"] != keys[1]


def test_a_cell_that_raises_is_noted(home, monkeypatch):
    shell = types.SimpleNamespace(events=Events())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    for _ in range(2):  # the cell that starts the run is run again
        run = runs.start("t", values(), data=None)
    [note] = shell.events.callbacks["post_run_cell"]
    cell = types.SimpleNamespace(raw_cell="1 / 0")
    note(types.SimpleNamespace(error_in_exec=None, execution_count=3, info=cell))
    assert runs.state(run.folder) == "running"
    error = ZeroDivisionError("division by zero")
    note(types.SimpleNamespace(error_in_exec=error, execution_count=4, info=cell))
    failure = json.loads((run.folder / "failure.json").read_text())
    assert (failure["exception"], failure["cell"], failure["source"]) == (
        "ZeroDivisionError",
        4,
        "1 / 0",
    )


class Events:
    """IPython's register of callbacks."""

    def __init__(self):
        self.callbacks = {"post_run_cell": []}

    def register(self, event, function):
        self.callbacks[event].append(function)

    def unregister(self, event, function):
        self.callbacks[event].remove(function)


def test_an_unreadable_result_is_not_finished(home):
    folder = home / "logs" / "s" / "train" / "a-s1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"metrics":')
    assert not runs.finished(folder)
    with pytest.raises(DarkroomError, match="has not finished"):
        runs.read(folder)


def test_a_folder_that_can_only_be_read_is_not_locked(home, monkeypatch):
    import filelock

    run = runs.start("t", values(), data=None)
    run.finish({"metrics": {}})

    def refuse(lock, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert runs.state(run.folder) == "finished"


def test_more_epochs_continue_in_batch_too_which_prepares_the_folder_first(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    notebook = notebooks.of_schema("3_train")
    filled = {**notebook.defaults(), "study": "s", "arm": "a", "epochs": 3}
    run = opened.open_run(notebook, filled, data=None, cells=())
    generation = run.checkpoint_folder / "train" / "generation-00003"
    generation.mkdir(parents=True)
    (generation / "weights.npz").write_bytes(b"weights")
    run.finish({"metrics": {}})
    more = {**filled, "epochs": 5, "continue_run": True}
    wanted = runs.key(notebook, more, data=None, cells=())
    runs.prepare(run.folder, wanted, continue_run=True)
    again = opened.open_run(notebook, more, data=None, cells=())
    assert (again.checkpoint_folder / "train" / generation.name / "weights.npz").exists()
    again.close()


def test_a_run_that_takes_the_place_of_a_finished_one_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    notebook = notebooks.of_schema("3_train")
    values = notebook.complete({"study": "loop", "arm": "a"})
    for rate, said in ((0.001, False), (0.002, True), (0.002, False)):
        run = runs.open_run(notebook, {**values, "learning_rate": rate}, data=None, cells=())
        run.finish({"metrics": {}})
        assert ("Give each run an `arm` of its own" in capsys.readouterr().out) == said
