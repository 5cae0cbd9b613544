"""The command `init`, which lays out a project folder with notebooks and studies."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from lib import paths
from lib.cli.arguments import add, argument
from lib.errors import DarkroomError

COPIED = ("notebooks", "studies", "requirements.txt")
WRITTEN = {
    "datasets": "One folder a data set. `raw/` in it is never written.",
    "checkpoints": "The trained models, laid out as `logs/`.",
    "logs": "One folder a run, with everything that it produced.",
}


def add_to(commands: Any) -> None:
    """Adds the command to the command line."""
    add(
        commands,
        "init",
        _init,
        "lay out a project: notebooks, studies and folders for results",
        argument("folder", "the project's folder; created if it does not exist"),
    )


def _init(arguments: argparse.Namespace) -> int:
    folder = create(paths.typed(arguments.folder))
    print(f"{folder} is a Darkroom project now. Begin with:\n")
    print(f"    cd {folder}\n    darkroom run quickstart\n    darkroom lab")
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
    if any((folder / name).exists() for name in ("lib", "lib.py")):
        raise DarkroomError(
            f"{folder} has a `lib` of its own, which notebooks there would import in place of "
            "Darkroom's. Give `darkroom init` another folder."
        )
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


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    else:
        # A project installs the package by its name, not from this folder.
        lines = source.read_text(encoding="utf-8").replace("-e .\n", "darkroom\n")
        target.write_text(lines, encoding="utf-8")
