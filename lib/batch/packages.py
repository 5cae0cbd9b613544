"""Can the pinned packages be installed from wheels on every Python that the suite supports? A dry run of pip says."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from lib import paths

PYTHONS = ("3.11", "3.12", "3.13")


def check() -> int:
    """Resolves each `requirements*.txt` for each Python, prints a line for each, and returns 0, or 2 when one fails."""
    wrong = 0
    for file in sorted(paths.checkout().glob("requirements*.txt")):
        for python in PYTHONS:
            problem = resolve(file, python=python)
            print(f"{file.name} for Python {python}: {'from wheels' if problem is None else problem}")
            wrong += problem is not None
    return 2 if wrong else 0


def resolve(file: Path, *, python: str) -> str | None:
    """Returns None when pip finds wheels for all of `file` for the Python version, else pip's last words."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, file.name)
        pinned.write_text("\n".join(_lines(file)) + "\n", encoding="utf-8")
        asked = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--disable-pip-version-check",
                "--quiet", "--no-input", "--only-binary=:all:", "--python-version", python, "--target", folder,
                "--requirement", str(pinned),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if asked.returncode == 0:
        return None
    said = [line for line in asked.stderr.splitlines() if line.startswith("ERROR")] or asked.stderr.splitlines()[-1:]
    return said[-1] if said else f"pip ended with {asked.returncode}"


def _lines(file: Path) -> list[str]:
    """A requirements file with those it includes, without the suite itself, which is no wheel."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if words[:1] in (["-e"], ["--editable"]):
            continue
        if words[:1] in (["-r"], ["--requirement"]):
            found += _lines(file.parent / words[1])
        elif words:
            found.append(" ".join(words))
    return found
