"""Can the pinned packages be installed from wheels on every Python and system that the suite
supports? uv's resolver says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lib import paths
from lib.errors import DarkroomError

PYTHONS = ("3.11", "3.12", "3.13")
JAX_PYTHONS = (*PYTHONS, "3.14")  # TensorFlow has no wheels for 3.14 yet
PLATFORMS = {
    "requirements.txt": ("linux", "windows", "macos"),
    "requirements-gpu.txt": ("linux",),  # TensorFlow has CUDA wheels for Linux alone
    "requirements-jax.txt": ("linux",),
}
OLDEST = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
"""The oldest macOS, on Apple silicon: onnxruntime, of the extra `export`, has no wheels for an
older one.
"""


def check() -> int:
    """Resolves each `requirements*.txt` for each Python and system, prints a line each, and returns
    0, or 2 when one fails.
    """
    wrong = 0
    for name, platforms in PLATFORMS.items():
        for platform in platforms:
            for python in JAX_PYTHONS if "jax" in name else PYTHONS:
                problem = resolve(paths.checkout() / name, python=python, platform=platform)
                print(
                    f"{name} for Python {python} on {platform}: {problem or 'from wheels'}",
                    flush=True,
                )
                wrong += problem is not None
    return 2 if wrong else 0


def resolve(file: Path, *, python: str, platform: str) -> str | None:
    """Returns None when all of `file` has wheels for that Python on that system, else what the
    resolver says.

    Nothing is installed. With `requirements.txt` go the extras of the `pyproject.toml` beside it,
    since they must fit together.
    Raises DarkroomError where uv is not installed.
    """
    words = ["pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:"]
    words += ["--python-version", python, "--python-platform", platform, str(file)]
    if file.name == "requirements.txt":
        words += ["pyproject.toml", "--all-extras"]
    asked = subprocess.run(
        [_uv(), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=file.parent,
        env=OLDEST | os.environ,
    )
    if asked.returncode == 0:
        return None
    return " ".join(asked.stderr.split()) or f"uv ended with {asked.returncode}"


def _uv() -> str:
    try:
        import uv
    except ImportError:
        raise DarkroomError(
            f"The check of the packages needs uv, which the extra `test` brings: {sys.executable} "
            "-m pip install -e '.[test]'."
        ) from None
    return uv.find_uv_bin()


if __name__ == "__main__":
    sys.exit(check())
