"""Notebooks by papermill's own command line and by ours: the same checks, the same run folder."""

import json
import subprocess
import sys

import nbformat
import pytest

from lib import cli, files, notebooks, parameter_types, processes, runs
from lib.batch.papermill_engine import ExecutionManager

# Imported here too, so that a checkout whose entry points are older can be tested.
PAPERMILL = """
from papermill.cli import papermill
import lib.batch.papermill_engine
papermill()
"""


def papermill(home, notebook, *words, engine=True, parameters=None):
    given = [word for pair in (parameters or {}).items() for word in ("-p", *pair)]
    return subprocess.run(
        [
            *(sys.executable, "-c", PAPERMILL, str(home / "notebooks" / f"{notebook}.ipynb")),
            *("out.ipynb", "--no-progress-bar", *(["--engine", "darkroom"] if engine else [])),
            *(*given, *words),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
    )


def statuses(path):
    return [
        cell["metadata"]["papermill"]["status"]
        for cell in json.loads(path.read_text())["cells"]
        if cell["metadata"].get("papermill")
    ]


def test_three_ways_give_the_same_result(batch_home):
    results = {}
    for door, engine in (("engine", True), ("plain", False)):
        parameters = {"study": door, "arm": "double", "seed": "1", "split_seed": "1"}
        told = papermill(batch_home, "ok", engine=engine, parameters=parameters | {"factor": "2"})
        assert told.returncode == 0, told.stderr
        results[door] = runs.read(batch_home / "logs" / door / "work" / "double-s1")
    assert cli.main(["run", "one", "--stage", "begin", "--stage", "work", "--json"]) == 1
    results["batch"] = runs.read(batch_home / "logs" / "one" / "work" / "double-s1")
    assert [result["metrics"] for result in results.values()] == [{"score": 2.0}] * 3
    keys = [result["key"] for result in results.values()]
    for key in keys:
        key["parameters"].pop("study")
    assert keys[0] == keys[1] == keys[2]
    for study in ("engine", "one"):
        folder = batch_home / "logs" / study / "work" / "double-s1"
        notebook = json.loads((folder / "notebook.ipynb").read_text())
        about = notebook["metadata"]["papermill"]
        assert about["parameters"]["factor"] == 2.0 and about["duration"] > 0
        assert about["end_time"] and about["exception"] is None and about["version"]
        assert set(statuses(folder / "notebook.ipynb")) == {"completed"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tiny", "maybe", "`tiny` must be true or false"),
        ("seed", "-1", "`seed` must be at least 0"),
        ("seed", "None", "`seed` must be a whole number"),
        ("factor", "101", "`factor` must be above 0, at most 100"),
        ("factor", "[1", "`factor` must be a number"),
        ("method", "fancey", "Did you mean 'fancy'?"),
        ("split_sed", "1", "no parameter `split_sed`. Did you mean 'split_seed'?"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_sentence_before_a_kernel(
    batch_home, name, value, message
):
    told = papermill(batch_home, "ok", parameters={name: value})
    said = [line for line in told.stderr.splitlines() if "Notebook:" not in line]
    assert told.returncode == 2 and said[-1].startswith("Error: ") and message in said[-1]
    assert "Traceback" not in told.stderr
    assert not (batch_home / "out.ipynb").exists() and not (batch_home / "logs").exists()


def test_text_is_read_by_the_declared_type(batch_home):
    parameters = {"tiny": "true", "study": "2024", "seconds": "0", "arm": "a"}
    told = papermill(batch_home, "ok", parameters=parameters)
    assert told.returncode == 0, told.stderr
    result = runs.read(batch_home / "logs" / "2024" / "work" / "a-s0")
    found = result["key"]["parameters"]
    assert found["tiny"] is True and found["study"] == "2024" and found["seconds"] == 0.0
    notebook = json.loads((batch_home / "out.ipynb").read_text())
    assert notebook["metadata"]["papermill"]["parameters"]["tiny"] is True
    assert "tiny = True" in "".join(notebook["cells"][2]["source"])


@pytest.mark.parametrize(
    ("notebook", "exception", "last"),
    [("raises", "KeyError", "failed"), ("dies", "DeadKernel", "failed")],
)
def test_a_failure_by_hand_leaves_failure_json_and_later_cells_pending(
    batch_home, notebook, exception, last
):
    told = papermill(batch_home, notebook, parameters={"arm": "a"})
    assert told.returncode == 1 and "PapermillExecutionError" in told.stderr
    folder = batch_home / "logs" / "interactive" / "work" / "a-s0"
    failure = files.read_json(folder / "failure.json")
    assert failure["exception"] == exception and runs.state(folder) == "failed"
    for path in (folder / "notebook.ipynb", batch_home / "out.ipynb"):
        found = statuses(path)
        assert "failed" in found and found[-1] == "pending"
        assert json.loads(path.read_text())["metadata"]["papermill"]["exception"] is True


def test_an_earlier_result_is_not_touched_by_a_run_that_never_began(batch_home):
    assert papermill(batch_home, "ok", parameters={"arm": "a"}).returncode == 0
    folder = batch_home / "logs" / "interactive" / "work" / "a-s0"
    with runs.acquire(folder):
        assert papermill(batch_home, "ok", parameters={"arm": "a"}).returncode == 1
    assert runs.finished(folder) and not (folder / "failure.json").exists()


def test_a_foreign_notebook_runs_too(batch_home):
    foreign = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    foreign.metadata["kernelspec"] = {"name": "python3", "display_name": "p", "language": "python"}
    foreign.metadata["language_info"] = {"name": "python"}
    nbformat.write(foreign, batch_home / "notebooks" / "foreign.ipynb")
    told = papermill(batch_home, "foreign")
    assert told.returncode == 0, told.stderr
    assert "42" in (batch_home / "out.ipynb").read_text()


def test_a_notebook_is_saved_within_a_long_cell(tmp_path):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nb.metadata["papermill"] = {}
    path = tmp_path / "n.ipynb"
    manager = ExecutionManager(nb, str(path), progress_bar=False, autosave_cell_every=1)
    manager.notebook_start()
    nb.cells[0].outputs.append(nbformat.v4.new_output("stream", text="epoch 1"))
    manager.autosave_cell()  # a moment after the last save
    assert "epoch 1" not in path.read_text()
    manager.autosave_cell_every = 1e-9
    manager.autosave_cell()
    assert "epoch 1" in path.read_text()


def test_notebooks_are_prepared_and_written_elsewhere(batch_home, capsys):
    assert cli.main(["run", "one", "--prepare-only", "--stage", "work"]) == 0
    listed = capsys.readouterr().out.split()
    assert len(listed) == 4 and listed[0].endswith("logs/one/work/plain-s0/prepared.ipynb")
    prepared = json.loads((batch_home / "logs/one/work/double-s1/prepared.ipynb").read_text())
    assert prepared["metadata"]["papermill"]["parameters"]["factor"] == 2.0
    assert not list(batch_home.glob("logs/one/*/*/result.json"))
    target = batch_home / "elsewhere" / "begin"
    target.mkdir(parents=True)
    words = ["run", "one", "--stage", "begin", "--output", str(target.parent), "--json"]
    assert cli.main(words) == 1  # the other stages were left out
    assert json.loads((target / "all.ipynb").read_text())["metadata"]["papermill"]["end_time"]
    assert json.loads(capsys.readouterr().out)["not_written"] == []
    assert cli.main([*words[:-2], "nosuch://bucket", "--force", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert "begin/all: the notebook could not be written to nosuch://" in told["not_written"][0]
    assert {run["run"]: run["state"] for run in told["runs"]}["begin/all"] == "finished"
    processes.shutdown()


def test_what_cells_print_is_shown_on_request(batch_home, capsys):
    assert cli.main(["run", "one", "--stage", "begin", "--log-output"]) == 1
    log = batch_home / "logs" / "one" / "begin" / "all" / "output.log"
    shown = [line for line in capsys.readouterr().out.splitlines() if " | " in line]
    assert shown == [f"begin/all | {line}" for line in log.read_text().splitlines()]


def test_a_dry_run_writes_nothing(batch_home, capsys):
    (batch_home / "studies" / "count.toml").write_text(
        '[shared]\ndata = "digits"\n[[stage]]\nname = "clean"\nnotebook = "read"\n'
    )
    before = sorted(batch_home.rglob("*"))
    assert cli.main(["run", "one", "--dry-run"]) == 0
    assert cli.main(["run", "count", "--dry-run"]) == 0
    assert "the data set 'digits' would be brought here first" in capsys.readouterr().out
    assert cli.main(["run", "count", "--dry-run", "--set", "data=nosuch"]) == 2
    assert "There is no data set 'nosuch'" in capsys.readouterr().err
    assert sorted(batch_home.rglob("*")) == before


def test_plain_papermill_refuses_in_one_sentence_too(batch_home):
    told = papermill(batch_home, "ok", engine=False, parameters={"split_sed": "1"})
    assert told.returncode == 1
    said = told.stderr.strip().splitlines()[-1]
    assert said.startswith("DarkroomError: ok has no parameter `split_sed`. Did you mean 'split_s")
    assert not (batch_home / "logs").exists()


def test_a_notebook_reads_text_as_the_declared_type():
    from lib import parameter_table

    training = parameter_table.find("3_train")
    namespace = {name: row.default for name, row in training.parameters.items() if row.in_cell}
    namespace |= {"tiny": "false", "data": 2024, "epochs": "3", "options": {}}
    runs.check("3_train", namespace)
    assert namespace["tiny"] is False and namespace["data"] == "2024" and namespace["epochs"] == 3


def test_a_dry_run_tells_scripts_the_same_facts(batch_home, capsys):
    assert cli.main(["run", "one", "--dry-run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["study"] == "one" and len(facts["runs"]) == 6
    assert facts["runs"][0] == {"run": "begin/all", "action": "run", "reason": "new"}
    assert facts["smallest_differences"] == []  # its fixture notebooks train nothing
    assert facts["time"] == "about 60 s by the study's own figure"
    assert cli.main(["run", "quickstart", "--dry-run", "--json"]) == 2  # no such study here


def test_a_storage_service_is_written_by_papermills_own_handler(batch_home):
    from papermill.iorw import papermill_io

    from lib.batch import notebook_job as jobs

    written = {}

    class Bucket:
        def write(self, text, path):
            assert runs.finished(batch_home / "logs" / "one" / "begin" / "all")
            written[path] = json.loads(text)

    papermill_io.register("s3://", Bucket())
    notebook = notebooks.find("begin")
    folder = batch_home / "logs" / "one" / "begin" / "all"
    folder.parent.parent.mkdir(parents=True)
    values = {**notebook.defaults(), "study": "one"}
    cells = parameter_types.cell_values(values, notebook.parameters)
    key = runs.key(notebook, values, data=None)
    job = jobs.Job(str(notebook.path), str(folder), cells, key, output="s3://bucket/one.ipynb")
    assert jobs.run_notebook(job) == ""
    assert written["s3://bucket/one.ipynb"]["metadata"]["papermill"]["end_time"]
