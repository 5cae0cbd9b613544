"""The notebooks: how they are written, and that they run from top to bottom, by plain papermill and
in batch.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from tools import parameter_cells, synthetic

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 24  # prose comes in between, so that one thing is shown at a time
KINDS = ["peinture à l'huile", "写真", "sketch 🎨"]


def cells(path: Path, kind: str) -> list[str]:
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == kind
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_prose_and_short_cells_without_outputs(path):
    content = json.loads(path.read_text())
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"]
        assert cell["execution_count"] is None
        assert max(map(len, source.splitlines())) <= parameter_cells.CELL_WIDTH
        assert (
            "parameters" in cell["metadata"].get("tags", [])
            or len(source.splitlines()) <= MOST_LINES
        )
        tree = ast.parse(source)  # magics and shell lines do not parse
        assert not [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try)
        ]
        assert not re.search(
            r"[\"']([A-Za-z]:\\|/(home|tmp|root|Users|content|mnt)\b)", source
        )  # a path of one machine
    assert content["cells"][0]["cell_type"] == "markdown"
    assert content["cells"][1]["metadata"]["tags"] == ["parameters"]
    assert len(cells(path, "markdown")) >= len(cells(path, "code")) / 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_shows_every_parameter_with_type_and_meaning(path):
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    from lib import parameter_table

    shown = _infer_parameters(load_notebook_node(str(path)))
    rows = parameter_table.find(path.stem).parameters.values()
    names = [row.name for row in rows if row.in_cell]
    assert [parameter.name for parameter in shown if parameter.name != "options"] == names
    for parameter in shown:
        assert parameter.inferred_type_name not in ("", "None"), parameter.name
        assert len(parameter.help) > 7, parameter.name


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three classes with hostile names, twenty drawn pictures each, one of them cut off."""
    folder = tmp_path_factory.mktemp("pictures") / "mes images"
    import cv2

    for name, kind in zip(KINDS, ("painting", "photo", "sketch"), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            drawn = cv2.cvtColor(synthetic.picture(kind, seed=number), cv2.COLOR_RGB2BGR)
            (folder / name / f"{number:02}.png").write_bytes(
                cv2.imencode(".png", drawn)[1].tobytes()
            )
    broken = folder / KINDS[0] / "00.png"
    broken.write_bytes(broken.read_bytes()[:500])
    return folder


def darkroom(*words: str, home: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "DARKROOM_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "lib.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,  # a whole study
    )


APPLY = """
[[stage]]
name = "apply"
notebook = "9_apply"
after = ["train"]
parameters = {{pictures = {pictures}, target_accuracy = 0.5}}
"""


def test_a_study_runs_from_a_folder_to_a_report_and_new_pictures_and_repeats_nothing(
    pictures, tmp_path
):
    (tmp_path / "studies").mkdir()
    quickstart = (ROOT / "studies" / "quickstart.toml").read_text(encoding="utf-8")
    text = quickstart + APPLY.format(pictures=json.dumps(str(pictures)))
    (tmp_path / "studies" / "quickstart.toml").write_text(text, encoding="utf-8")
    words = ("run", "quickstart", "--tiny", "--set", f"data={pictures}")
    first = darkroom(*words, home=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    [study] = [
        path
        for path in (tmp_path / "logs").iterdir()
        if path.is_dir() and not path.name.startswith(".")
    ]
    report = (study / "compare" / "all" / "report.html").read_text(encoding="utf-8")
    assert all(name.split(" ")[0] in report for name in KINDS)
    assert "http://" not in re.sub("http://(www.w3.org|localhost:)", "", report)
    assert (
        "darkroom run quickstart --" in report
    )  # the study's name, and not its folder's, which is none
    for folder in (study / "train").glob("[!.]*"):
        result = json.loads((folder / "result.json").read_text())
        assert result["class_names"] == sorted(KINDS)
        executed = json.loads((folder / "notebook.ipynb").read_text())["cells"]
        assert not [
            line
            for cell in executed
            for line in cell.get("outputs", [])
            if line.get("name") == "stderr"
        ]
        table = pandas.read_parquet(folder / "predictions.parquet")
        assert len(table) == 59
        right = table[table["split"] == "test"]
        named = right[[f"p_{name}" for name in sorted(KINDS)]].idxmax(axis=1).str.removeprefix("p_")
        assert (named == right["label"]).mean() == pytest.approx(
            result["metrics"]["accuracy"], abs=1e-9
        )

    applied = json.loads((study / "apply" / "all" / "result.json").read_text())
    assert (applied["metrics"]["pictures"], applied["metrics"]["not_read"]) == (48, 1)
    assert applied["model"].rpartition("/")[0] == f"{study.name}/train"

    results = {path: path.stat().st_mtime_ns for path in study.rglob("result.json")}
    second = darkroom(*words, home=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert {
        path: path.stat().st_mtime_ns for path in study.rglob("result.json")
    } == results  # nothing was run again
    assert len(list((study / "train").glob("*/result.json"))) == len(
        list((study / "train").glob("[!.]*"))
    )
    assert not (tmp_path / "logs" / ".earlier").exists()


def test_plain_papermill_runs_a_training_and_writes_the_same_folder(pictures, tmp_path):
    environment = {**os.environ, "DARKROOM_HOME": str(tmp_path)}
    for name, reads, *parameters in (
        # The data set has not been cleaned; the training sees to that.
        ["3_train", "data", "-p", "architecture", "custom", "-p", "seed", "3"],
        ["7_explain", "data"],
        ["9_apply", "pictures"],
        ["5_thumbnails", "data", "-p", "classifier", "logistic"],
    ):
        words = [
            "-m",
            "papermill",
            str(ROOT / "notebooks" / f"{name}.ipynb"),
            str(tmp_path / f"{name}.ipynb"),
            "-p",
            reads,
            str(pictures),
            "-p",
            "tiny",
            "True",
            "--no-progress-bar",
            *parameters,
        ]
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "logs" / "interactive" / "train" / "custom-s3"
    assert json.loads((folder / "parameters.json").read_text())["seed"] == 3
    assert json.loads((folder / "result.json").read_text())["metrics"]["num_images"] == 15
    thumbnails = tmp_path / "logs" / "interactive" / "thumbnails" / "logistic-s0"
    ours, theirs = (
        pandas.read_parquet(place / "predictions.parquet") for place in (folder, thumbnails)
    )
    pandas.testing.assert_frame_equal(
        ours[["path", "split", "label"]], theirs[["path", "split", "label"]]
    )
    explained = tmp_path / "logs" / "interactive" / "explain" / "all"
    result = json.loads((explained / "result.json").read_text())
    assert result["explained"] == "custom-s3" and {
        "confident_correct.png",
        "class_averages.png",
    } <= set(result["figures"])
    assert list(pandas.read_csv(explained / "faithfulness.csv")["method"])[-2:] == [
        "random",
        "edges",
    ]
    applied = json.loads(
        (tmp_path / "logs" / "interactive" / "apply" / "all" / "result.json").read_text()
    )
    assert applied["model"] == "interactive/train/custom-s3"
    assert (applied["metrics"]["pictures"], applied["metrics"]["not_read"]) == (48, 1)


def test_what_the_notebook_of_features_brings_in_says_nothing_of_its_own():
    code = "\n".join(cells(ROOT / "notebooks" / "8_features.ipynb", "code"))
    lines = [line for line in code.splitlines() if line.startswith(("from lib", "import "))]
    used = "embeddings.feature_spaces.compute"  # packages import their modules at first use
    script = "\n".join(["import sys", *lines, used, "assert 'keras' in sys.modules"])
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (told.stdout, told.stderr) == ("", "")


@pytest.mark.slow
def test_the_tutorial_tells_its_story_from_the_beginning(tmp_path):
    environment = {**os.environ, "DARKROOM_HOME": str(tmp_path)}
    words = [
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "0_tutorial.ipynb"),
        str(tmp_path / "0.ipynb"),
        "-p",
        "tiny",
        "True",
    ]
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "truncated" in (tmp_path / "0.ipynb").read_text(encoding="utf-8")
