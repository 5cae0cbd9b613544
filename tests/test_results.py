"""The table of a study's runs, the page of all studies, and runs that are no longer what they would
be today.
"""

import json
import re

import pandas
import pytest

from lib import cli, paths, runs
from lib import files as files_module
from lib.batch import plan, results
from lib.batch import study as studies


@pytest.fixture
def study(batch_home):
    """The study `one`, whose begin and work have finished but for one failed run, and whose gather
    was never run.
    """
    study = studies.read("one", settings={"method": "fancy"})
    studies.write(study, command="darkroom run one --set method=fancy")
    for step in [*plan.decide(study.stages[0]), *plan.decide(study.stages[1])]:
        files_module.write_json(step.folder() / "key.json", step.key)
        if step.run.name == "double-s1":
            told = {
                "kind": "NaN",
                "exception": "FloatingPointError",
                "message": "<b>loss</b> is NaN",
            }
            files_module.write_json(
                step.folder() / "failure.json", {**told, "cell": 4, "source": "fit()"}
            )
            continue
        metrics = {"score": 0.5, "names": ["a", "ü"]} if step.run.stage == "work" else {}
        files_module.write_json(
            step.folder() / "result.json", {"key": step.key, "seconds": 12.5, "metrics": metrics}
        )
    return study


def test_every_run_is_a_row_whether_finished_or_not(study):
    path = results.write("one")
    table = pandas.read_parquet(path.with_suffix(".parquet"))
    assert list(table["unit"]) == ["all", "plain-s0", "double-s0", "plain-s1", "double-s1", "all"]
    assert list(table["state"]) == ["finished"] * 4 + ["failed", "queued"]
    row = table.iloc[2]
    assert (row["arm"], row["seed"], row["seconds"], row["metrics.score"]) == (
        "double",
        0,
        12.5,
        0.5,
    )
    assert (row["parameters.factor"], row["parameters.method"], row["metrics.names"]) == (
        2.0,
        "fancy",
        '["a", "ü"]',
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row["finished"])
    assert table["failure"][4] == "NaN: FloatingPointError: <b>loss</b> is NaN"
    assert table.iloc[5][["arm", "seed", "metrics.score", "failure"]].isna().all()
    assert (
        path.read_text()
        .splitlines()[0]
        .startswith("study,stage,unit,arm,seed,state,seconds,finished,changed,failure,")
    )
    assert len(pandas.read_csv(path)) == 6


def test_what_would_come_out_otherwise_today_is_stale_and_says_why(study, batch_home, capsys):
    notebook = batch_home / "notebooks" / "ok.ipynb"
    notebook.write_text(notebook.read_text().replace("seed * factor", "seed + factor"))
    told = {
        f"{one.stage}/{one.name}": (one.state, one.changed) for one in plan.with_staleness("one")
    }
    assert told["begin/all"] == ("finished", "")
    assert told["work/plain-s0"] == ("stale", "the notebook")
    assert told["work/double-s1"] == ("failed", "")  # it has no result that could be stale
    assert cli.main(["status", "one", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"queued": 1, "finished": 1, "stale": 3, "failed": 1}
    assert cli.main(["status", "one"]) == 0
    assert "    stale  work/plain-s0  the notebook" in capsys.readouterr().out
    (batch_home / "studies" / "one.toml").unlink()
    assert {one.state for one in plan.with_staleness("one")} == {
        "finished",
        "failed",
        "queued",
    }  # nothing to judge by


def test_the_page_shows_every_study_and_what_went_wrong(study, batch_home):
    by_hand = batch_home / "logs" / "interactive" / "work" / "custom-s0"
    files_module.write_json(by_hand / "key.json", {"parameters": {}})
    files_module.write_json(by_hand / "result.json", {"metrics": {}, "seconds": 1})
    gathered = paths.run("one", "gather", "all")
    gathered.mkdir(parents=True)
    (gathered / "report.html").write_text("<p>")
    (gathered / "comparison.csv").write_text("arm,score\ndouble,2.0\n")
    page = results.write_page().read_text()
    assert page.count("<section") == 2
    assert "Does it work?" in page and "Notebooks run by hand" in page
    assert 'href="one/gather/all/report.html"' in page and "<td>2.0</td>" in page
    assert "&lt;b&gt;loss&lt;/b&gt; is NaN" in page and "<b>loss" not in page
    assert "darkroom run one --set method=fancy" in page
    assert "7 runs: 1 queued, 5 finished, 1 failed." in page
    for target in re.findall(r'href="([^"]+)"', page):
        assert (batch_home / "logs" / target).is_file(), target
    assert (batch_home / "logs" / "interactive" / "results.csv").is_file()


def test_comparisons_are_named_where_there_are_several(tmp_path):
    files = [tmp_path / name / "comparison.csv" for name in ("networks", "everything")]
    for file in files:
        file.parent.mkdir()
        file.write_text("arm,score\n")
    assert [name for name, _ in results._tables(files)] == ["networks", "everything"]
    assert results._tables(files[:1]) == [("", [["arm", "score"]])]


def test_results_as_a_script_reads_them(study, capsys):
    assert cli.main(["results", "one", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 6 and rows[1]["metrics.score"] == 0.5 and "metrics.score" not in rows[0]
    assert cli.main(["results", "won"]) == 2
    assert "Did you mean 'one'?" in capsys.readouterr().err
    assert cli.main(["results"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(paths.logs() / "one" / "results.csv"),
        str(paths.logs() / "index.html"),
    ]


def test_states_are_those_that_the_page_has_a_colour_for():
    style = (paths.checkout() / "lib" / "batch" / "templates" / "index.html").read_text()
    assert all(f".{state}" in style for state in runs.STATES)
