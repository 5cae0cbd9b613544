"""The commands as a person types them, on a study of fixture notebooks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import cli, runs
from lib.cli import commands

DARKROOM = [sys.executable, "-m", "lib.cli"]


def say(*words, **more):
    return subprocess.run(
        [*DARKROOM, *words], capture_output=True, text=True, timeout=600, check=False, **more
    )


def begin(*words):
    return subprocess.Popen(
        [*DARKROOM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(home):
    return {
        str(path.parent.relative_to(home / "logs" / "one"))
        for path in home.glob("logs/one/*/*/result.json")
    }


def alive(home):
    """Processes that write into `home`: the kernels and run processes of its runs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"DARKROOM_HOME={home}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return [process for process in found if process != str(os.getpid())]


def wait_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def at_work(home):
    return [path for path in home.glob("logs/one/work/*/progress.json") if runs.locked(path.parent)]


def test_help_is_there_at_once():
    assert "run a study" in say("--help").stdout
    asked = [sys.executable, "-c", "import sys, lib.cli; print(*sys.modules)"]
    loaded = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "distributed", "keras", "rich", "filelock"} & set(loaded)


@pytest.mark.parametrize("name", ["lab", "board"])
def test_further_options_reach_the_program_that_is_opened(name, monkeypatch):
    started = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **_: started.append(words) or SimpleNamespace(returncode=0)
    )
    monkeypatch.setattr(os, "execve", lambda program, words, environment: started.append(words))
    assert cli.main([name, "--port", "6007"]) == 0
    assert started[0][-2:] == ["--port", "6007"]


def test_tensorboard_starts_without_tensorflow_and_its_words_on_gpus():
    asked = [sys.executable, "-c", commands._TENSORBOARD, "--version_tb"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=600)
    assert (
        said.stdout.strip().startswith("2.")
        and "cuda" not in said.stderr.lower()
        and "oneDNN" not in said.stderr
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list --port", "`darkroom list` does not take '--port'. See: darkroom list --help"),
        ("run one --tinny", "`darkroom run` does not take '--tinny'. Did you mean '--tiny'?"),
        ("run", "Missing: NAME (name of a study in studies/, or the path of a .toml file)."),
        ("run one --workers two", "--workers must be a whole number. Received: 'two'."),
        ("best one --minutes ten", "--minutes must be a number. Received: 'ten'."),
        ("results --mlflow", "--mlflow needs a value."),
        ("spread", "Missing: PASS (scan, features, apply)."),
        ("spread scann", "PASS must be one of scan, features, apply. Received: 'scann'. Did you"),
        ("rnu", "There is no command 'rnu'. Did you mean 'run'?"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(line, message, capsys):
    assert cli.main(line.split()) == 2
    written = capsys.readouterr()
    assert written.err.startswith(f"darkroom: {message}") and written.err.count("\n") == 1
    assert cli.main([*line.split(), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith(message)


def test_without_words_it_says_on_one_screen_what_to_do_first(capsys):
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Three things to do first:" in lines[:8] and len(lines) <= 40


def test_a_study_runs_to_its_table_and_is_not_repeated(batch_home):
    first = say("run", "one", "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert "6 runs in logs/one: 0 finished, 1 to do, 5 to be judged" in first.stdout
    assert (
        "double  2.0" in first.stdout
        and f"Report: {batch_home}/logs/one/gather/all/report.html" in first.stdout
    )
    again = json.loads(say("run", "one", "--json").stdout)
    assert again["complete"] and {run["state"] for run in again["runs"]} == {"skipped"}
    changed = say("run", "one", "--set", "factor=3", "--dry-run")
    assert changed.returncode == 2 and "same as the arm" in changed.stderr
    dry = say("run", "one", "--set", "seconds=0.01", "--dry-run").stdout
    assert "run  work/double-s1  (changed: seconds 0.0 → 0.01)" in dry
    dry = say("run", "one", "--set", "seconds=0.01", "--stage", "gather", "--dry-run").stdout
    assert "1 run in logs/one" in dry and "wait  gather/all" in dry and "work/" not in dry
    status = json.loads(say("status", "one", "--json").stdout)
    assert status["counts"] == {"finished": 6} and status["runner"] is None
    assert say("status").stdout == "one: 6 runs, 6 finished\n"


def test_a_failed_run_is_reported_with_its_cell_and_the_others_continue(batch_home):
    study = batch_home / "studies" / "one.toml"
    text = (
        study.read_text()
        .replace('notebook = "ok"', 'notebook = "raises"')
        .replace('seed_sets = ["split_seed"]\n', "")
    )
    study.write_text(
        text.replace("[stage.arms.plain]", "[stage.arms.plain]\nbad = false").replace(
            "factor = 2", ""
        )
    )
    told = say("run", "one")
    assert told.returncode == 1
    assert "Failed: work/double-s0, cell 4 (if bad:)\n  KeyError: 'no such thing'" in told.stdout
    assert finished(batch_home) == {"begin/all", "work/plain-s0", "work/plain-s1", "gather/all"}
    assert (
        "plain  1.0" in told.stdout
        and "2 runs have no result. Go on with the same command" in told.stdout
    )
    assert "failed  work/double-s1  cell 4: KeyError" in say("status", "one").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "won"], "There is no study 'won'. Did you mean 'one'?"),
        (
            ["run", "one", "--set", "second=1"],
            "has the parameter `second`. Did you mean 'seconds'?",
        ),
        (["run", "one", "--set", "seconds=long"], "`seconds` must be a number"),
        (["run", "one", "--set", "seconds"], "--set takes NAME=VALUE"),
        (["run", "one", "--stage", "wrk"], "Received: 'wrk'. Did you mean 'work'?"),
        (["run", "one", "--workers", "0"], "--workers must be at least 1"),
        (["status", "one"], "The study 'one' never ran."),
    ],
)
def test_a_invalid_request_ends_with_one_sentence(batch_home, capsys, words, told):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("darkroom: ") and told in captured.err
    assert captured.err.count("\n") == 1 and not (batch_home / "logs").exists()


def test_too_little_disk_is_refused(batch_home, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    assert cli.main(["run", "one"]) == 2
    assert "6 runs need about 0.2 GB" in capsys.readouterr().err


def test_check_names_what_is_wrong(batch_home, capsys):
    (batch_home / "studies" / "two.toml").write_text(
        'question = "?"\n[[stage]]\nname = "begin"\nnotebook = "begun"\n'
    )
    assert cli.main(["check"]) == 2
    captured = capsys.readouterr()
    assert (
        "one: begin × 1, work × 4, gather × 1" in captured.out
        and "ok.ipynb: 8 parameters" in captured.out
    )
    assert (
        captured.err.startswith("two: There is no notebook 'begun'")
        and captured.err.count("\n") == 1
    )


def test_check_and_prune_answer_scripts(batch_home, capsys, monkeypatch):
    assert cli.main(["check", "one", "won", "--json"]) == 2
    one, won = json.loads(capsys.readouterr().out)
    assert one == {"name": "one", "good": True, "about": "begin × 1, work × 4, gather × 1"}
    assert not won["good"] and "There is no study 'won'" in won["about"]
    orphan = batch_home / "checkpoints" / "one" / "work" / "gone"
    orphan.mkdir(parents=True)
    assert cli.main(["prune", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        not told["deleted"]
        and [row["path"] for row in told["leftovers"]] == [str(orphan)]
        and orphan.exists()
    )
    monkeypatch.setattr("builtins.input", lambda question: (_ for _ in ()).throw(EOFError))
    assert cli.main(["prune"]) == 2
    assert "Give it --yes" in capsys.readouterr().err and orphan.exists()
    assert cli.main(["prune", "--json", "--yes"]) == 0 and not orphan.exists()


def test_list_shows_parameters_with_what_is_allowed(batch_home, capsys):
    assert cli.main(["list", "notebooks", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["notebooks"]}
    assert listed["ok"]["parameters"][-1] == {
        "name": "method",
        "type": "str",
        "default": "plain",
        "allowed": "one of plain, fancy, none",
        "help": "how",
    }
    assert cli.main(["list", "studies"]) == 0
    assert capsys.readouterr().out == "STUDIES\n  one  Does it work?\n"
    assert cli.main(["list", "ok", "method"]) == 0
    assert capsys.readouterr().out == 'method = "plain"\n  how\n  Allowed: plain, fancy, none\n'
    assert cli.main(["list", "ok", "methud"]) == 2
    assert "ok has no parameter 'methud'. Did you mean 'method'?" in capsys.readouterr().err


def test_the_parameters_of_a_notebook_fit_a_screen(capsys):
    assert cli.main(["list", "3_train"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100


def test_prune_deletes_what_no_run_needs(batch_home, capsys, monkeypatch):
    earlier = batch_home / "logs" / ".earlier" / "one" / "work" / "plain-s0-20260101-000000-1"
    orphan = batch_home / "checkpoints" / "one" / "work" / "gone"
    kept = batch_home / "checkpoints" / "one" / "work" / "kept"
    for folder in (earlier, orphan, kept, batch_home / "logs" / "one" / "work" / "kept"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(500_000))
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert cli.main(["prune"]) == 0 and earlier.exists()
    assert "Delete" not in capsys.readouterr().out.replace("Deleted", "")
    assert cli.main(["prune", "--yes"]) == 0
    assert "Deleted 2 (1.0 MB)" in capsys.readouterr().out
    assert not earlier.exists() and not orphan.exists() and kept.exists()


def test_a_second_run_of_a_study_is_refused_at_once_and_a_killed_one_leaves_nothing_alive(
    batch_home,
):
    first = begin("run", "one", "--set", "seconds=30", "--workers", "2")
    wait_for(lambda: len(at_work(batch_home)) == 2)
    second = say("run", "one")
    assert second.returncode == 2 and f"is being run by process {first.pid} on" in second.stderr
    assert (
        first.poll() is None and len(at_work(batch_home)) == 2
    )  # it did not wait for the first one
    assert '"work/double-s0",\n   "state": "running"' in say("status", "one", "--json").stdout
    first.kill()
    first.communicate(timeout=600)
    wait_for(lambda: not alive(batch_home))
    assert finished(batch_home) == {"begin/all"}
    wait_for(lambda: runs.state(batch_home / "logs/one/work/double-s0") == "killed")
    assert say("run", "one").returncode == 0  # stale locks are nobody's
    assert len(finished(batch_home)) == 6


def test_what_a_request_for_one_stage_leaves_out_is_counted_and_how_to_get_it_is_reported(
    batch_home,
):
    told = say("run", "one", "--stage", "begin").stdout
    assert (
        "Left out: 4 runs (its stage was left out)\n" in told
        and "Left out: gather/all (work has no result)\n" in told
    )
    assert "1 run done in " in told and " 0 runs had finished before." in told
    assert (
        "5 runs have no result. Without --stage they are run too: what has finished is not "
        "repeated." in told
    )


def test_ctrl_c_once_lets_the_runs_at_work_end_and_twice_stops_them(batch_home):
    gentle = begin("run", "one", "--set", "seconds=2", "--workers", "1")
    wait_for(lambda: at_work(batch_home))
    gentle.send_signal(signal.SIGINT)
    told, _ = gentle.communicate(timeout=600)
    assert gentle.returncode == 1 and finished(batch_home) == {"begin/all", "work/plain-s0"}
    assert "4 runs have no result" in told
    harsh = begin("run", "one", "--set", "seconds=60", "--workers", "2")
    wait_for(lambda: len(at_work(batch_home)) == 2)
    for _ in range(2):
        harsh.send_signal(signal.SIGINT)
        time.sleep(0.3)
    harsh.communicate(timeout=600)
    assert harsh.returncode == 1 and not alive(batch_home)
    assert finished(batch_home) == {"begin/all"}


def test_a_command_that_loads_a_backend_prints_only_its_own_sentence(tmp_path):
    ended = say("best", str(tmp_path / "absent"))
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"darkroom: There is no folder, table or archive at '{tmp_path / 'absent'}'; check the path."
    ]
