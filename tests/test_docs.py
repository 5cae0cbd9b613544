"""The commands, studies, parameters and links that README and docs name exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lib import cli, schema

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = ("dropout", "STUDY", "…")  # studies that a page asks its reader to write or to put in
PARAMETERS = {name for notebook in schema.NOTEBOOKS.values() for name in notebook.parameters}


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
        for value in getattr(arguments, "set", None) or ():
            assert value.split("=")[0].split(".")[-1] in PARAMETERS, words


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
