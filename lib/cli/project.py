"""Commands of a project: `init` lays one out; lab, board and web open its pages."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Any

from lib import paths
from lib.cli.arguments import add, argument, repeated
from lib.errors import DarkroomError

COPIED = ("notebooks", "studies", "requirements.txt")
WRITTEN = {
    "datasets": "One folder a data set. `raw/` in it is never written.",
    "checkpoints": "The trained models, laid out as `logs/`.",
    "logs": "One folder a run, with everything that it produced.",
}

_JUPYTER = Path(__file__).parent / "jupyter"
"""A Jupyter configuration folder: JupyterLab asks no question about news and updates."""
_TENSORBOARD = (  # without TensorFlow, which our files do not need and which warns of missing GPUs
    "import sys; sys.modules['tensorflow'] = None; "
    "from tensorboard.main import run_main; run_main()"
)


# fmt: off
def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    add(commands, "init", "lib.cli.project:init",
        "lay out a project: notebooks, studies and folders for results",
        argument("folder", "the project's folder; created if it does not exist"))
    add(commands, "lab", "lib.cli.project:lab",
        "open JupyterLab on the notebooks; takes its options").set_defaults(rest=[])
    add(commands, "board", "lib.cli.project:board",
        "open TensorBoard on all runs; takes its options").set_defaults(rest=[])
    add(commands, "web", "lib.web.site:serve",
        "serve the site: runs, data, maps, pictures to classify",
        argument("--port", "8050 by default; 0 takes a free one", type=int, default=8050,
                 metavar="N"),
        argument("--host", "address to serve on (default: this machine alone; no password)",
                 default="127.0.0.1"),
        repeated("--name", "a further host name to answer to (may be given again)", dest="names"))
# fmt: on


def lab(rest: list[str]) -> int:
    """Opens JupyterLab."""
    _refuse_other_lib(paths.notebooks(), "Rename it or move it.")
    root = ["--ServerApp.root_dir", str(paths.notebooks().parent)]
    start = ["--LabApp.default_url", "/lab/tree/notebooks"]
    return _open("jupyterlab", ["-m", "jupyterlab", *root, *start, *rest])


def board(rest: list[str]) -> int:
    """Opens TensorBoard."""
    return _open("tensorboard", ["-c", _TENSORBOARD, "--logdir", str(paths.logs()), *rest])


def _open(package: str, command: list[str]) -> int:
    import importlib.util
    import os
    import subprocess

    from lib.batch import machine

    if importlib.util.find_spec(package) is None:
        raise DarkroomError(
            f"{package} is not installed. Install it with: python -m pip install {package}"
        )
    config = os.pathsep.join(filter(None, [str(_JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH")]))
    # An installed environment's own kernel comes before whatever the user has registered.
    own = {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_PATH": config}
    environment = {**machine.FRUGAL, **os.environ, **own}
    words = [sys.executable, *command]
    if os.name == "posix":
        os.execve(sys.executable, words, environment)  # noqa: S606  signals reach it without us
    return subprocess.run(words, env=environment, check=False).returncode


def init(folder: str) -> int:
    """Lays out a project and says how to begin."""
    made = create(paths.typed(folder))
    print(f"{made} is a Darkroom project now. Begin with:\n")
    print(f"    cd {made}\n    darkroom run quickstart\n    darkroom lab")
    return 0


def create(folder: Path) -> Path:
    """Lays out a project in `folder` and returns its absolute path.

    Raises:
        DarkroomError: where a file would be overwritten, or where the folder has a `lib` of its
            own, which notebooks there would import in place of this package.
    """
    folder = folder.resolve()
    taken = [name for name in (*COPIED, *WRITTEN, paths.PROJECT) if (folder / name).exists()]
    if taken:
        raise DarkroomError(
            f"{folder} already has {', '.join(taken)}. Nothing was written. Give `darkroom init` a "
            "new or empty folder."
        )
    _refuse_other_lib(folder, "Give `darkroom init` another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        _copy(paths.shipped() / name, folder / name)
    for name, text in WRITTEN.items():
        (folder / name).mkdir()
        (folder / name / "README.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    version = importlib.metadata.version("darkroom")
    marker = f'# Marks this folder as a Darkroom project.\ncreated_with = "{version}"\n'
    (folder / paths.PROJECT).write_text(marker, encoding="utf-8")
    return folder


def _refuse_other_lib(folder: Path, instead: str) -> None:
    if any((folder / name).exists() for name in ("lib", "lib.py")):
        raise DarkroomError(
            f"{folder} has a `lib` of its own, which notebooks there would import in place of "
            f"Darkroom's. {instead}"
        )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    else:
        # Pinned, because another package is called darkroom on PyPI.
        pin = f"darkroom=={importlib.metadata.version('darkroom')}  # install its wheel first\n"
        lines = source.read_text(encoding="utf-8").replace("-e .\n", pin)
        target.write_text(lines, encoding="utf-8")
