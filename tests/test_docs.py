"""The commands, studies, parameters and links that README and docs name exist."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib import cli, data, parameter_table, training
from lib.cli.commands import create

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = ("dropout", "STUDY", "…")  # studies that a page asks its reader to write or to put in
PARAMETERS = {
    name for notebook in parameter_table.NOTEBOOKS.values() for name in notebook.parameters
}


def commands(page: Path) -> list[list[str]]:
    """The words of each `darkroom` command with arguments, in code blocks and within sentences."""
    text = page.read_text("utf-8")
    lines = [line for block in re.findall(r"```.*?```", text, re.S) for line in block.splitlines()]
    lines += re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    lines = [re.sub(r"\s+#.*", "", part) for line in lines for part in line.split("&&")]
    words = [
        shlex.split(line.replace("[", "").replace("]", "")) for line in lines if "darkroom " in line
    ]
    return [
        line[1:] for line in words if line[0] in ("darkroom", ".venv/bin/darkroom") and line[2:]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_are_accepted(page):
    for words in commands(page):
        if "|" in words:
            continue
        parser, _ = cli._parser()
        arguments, unknown = parser.parse_known_args(words)
        assert not unknown or "rest" in arguments, words  # `board` hands them to TensorBoard
        if words[0] in ("run", "check") and words[1] not in EXAMPLES:
            assert (ROOT / "studies" / f"{words[1]}.toml").is_file(), words
        for value in getattr(arguments, "settings", None) or ():
            assert value.split(".")[-1] in PARAMETERS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text("utf-8")):
        target = "".join(target)
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_commands_are_found():
    assert ["run", "quickstart"] in commands(ROOT / "README.md")
    assert ["export", "quickstart/train/lite0_frozen-s0", "onnx"] in commands(
        ROOT / "docs/apply.md"
    )


ELSEWHERE = {
    "best": "test_best.py",
    "board": "test_tensorboard.py",
    "collect": "test_tmdb.py",
    "spread": "test_spread.py",
    "store": "test_gridfs.py",
    "web": "test_web.py",
}
"""Commands that need a server, a network or minutes, and the tests that run them."""
STANDS_FOR = {
    **dict.fromkeys(("PATH", "FOLDER", "path/to/folder", "path/to/pile"), "./pile"),
    **dict.fromkeys(("path/to/posters", "path/to/wikiart", "leaves"), "./pile"),
    "path/to/photos": "photos",
    "path/to/copy": "copy",
    "NAME": "pile",
    "NOTEBOOK": "3_train",
    "STUDY": "quickstart",
    "dropout": "quickstart",
    "…": "quickstart",
    "wrong_label": "keep",
    "Photo": "a",
}
"""Words that a page leaves to its reader, and what they are here."""


def tiny(words):
    """A page's command with what stands for its reader's own things, and small."""
    words = ["=".join(STANDS_FOR.get(part, part) for part in word.split("=")) for word in words]
    if "|" in words:  # the first of several
        words = words[: words.index("|")]
    if words[0] == "apply":
        words[1] = "quickstart/train/lite0_frozen-s0"
    if words[0] == "prune":
        words.append("--yes")
    if words[0] == "run":
        if "--cluster" in words:
            place = words.index("--cluster")
            del words[place : place + 2]
        words += ["--tiny", *([] if "--dry-run" in words else ["--dry-run"])]
        if not any(word.startswith("data=") for word in words):
            words += ["--set", "data=./pile"]
    return words


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    """In tiny form: studies as a dry run, everything else on sixty noisy pictures."""
    home = create(tmp_path / "home")
    monkeypatch.setenv("DARKROOM_HOME", str(home))
    monkeypatch.chdir(home)
    generator = np.random.default_rng(0)
    for number in range(60):
        file = home / "pile" / "ab"[number % 2] / f"{number // 2}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 100 + 155 * (number % 2), (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(file), cv2.resize(noise, (40, 40), interpolation=cv2.INTER_CUBIC))
    small = {"preset": "triage", "filters": [4], "dense_units": [4], "image_side": 32, "epochs": 1}
    run = {"study": "quickstart", "arm": "lite0_frozen", **small}
    training.train(data.load(str(home / "pile")), architecture="custom", **run)
    ran, failed = set(), {}
    for words in map(tiny, (words for page in PAGES for words in commands(page))):
        if words[0] in ELSEWHERE or {"--mlflow", "--embedding-network", "onnx"} & {*words}:
            continue
        for place in ("photos", "copy", "mine", "lite0"):  # written by several pages
            shutil.rmtree(home / place, ignore_errors=True)
        if cli.main(words):
            failed[" ".join(words)] = capsys.readouterr().err
        ran.add(words[0])
    assert not failed, "\n".join(f"{words}: {message}" for words, message in failed.items())
    assert ran == set(cli._parser()[1]) - {*ELSEWHERE, "lab"}
    assert all((ROOT / "tests" / file).is_file() for file in ELSEWHERE.values())


def test_the_slurm_example_makes_a_job_script_that_starts_a_worker(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed (extra `test`)")
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(from dask_jobqueue.*?)cluster.scale", text, re.DOTALL)[1]
    script = (
        f"{example.replace('/shared/darkroom/slurm', str(tmp_path))}print(cluster.job_script())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=600, stdout=subprocess.PIPE, text=True
    )
    job = done.stdout.strip().splitlines()
    wanted = ("-p gpu", "-A ours", "-t 24:00:00", "--gres=gpu:2")
    assert {f"#SBATCH {words}" for words in wanted} <= set(job)
    assert "export DARKROOM_HOME=/shared/darkroom" in job
    assert job[-1].startswith("/shared/darkroom/suite/.venv/bin/python -m ")
    assert "--resources cores=16,gpus=2,memory_gb=60" in job[-1]
