"""Paths. Every path of the suite is built here, so that moving the suite moves them all."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from lib.errors import DarkroomError

PROJECT = "darkroom.toml"
"""The file that marks a project, written by `darkroom init`."""
TINY = "+tiny"
"""Ends the names of a study's small twin and of a data set's sample that it runs on."""
NAME = r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:[./]|$))[^\W_][\w.@+-]{0,99}(?<!\.)"
"""A name that can be a folder on every system: Windows reserves some, and ends none with a dot."""


def root() -> Path:
    """Returns the folder that holds `datasets/`, `checkpoints/`, `logs/`, `notebooks/`, `studies/`.

    That is `$DARKROOM_HOME` where it is set, else the project (a folder laid out by `darkroom
    init`) that the process was started in, else the checkout of this package.

    Raises:
        DarkroomError: for an installed package outside of any project.
    """
    home = os.environ.get("DARKROOM_HOME")
    if home:
        return Path(home).resolve()
    if project := _project():
        return project
    if not is_checkout():
        raise DarkroomError(
            f"There is no Darkroom project in {Path.cwd()} or above it. Lay one out with `darkroom "
            "init FOLDER` and go there, or set DARKROOM_HOME to one."
        )
    return checkout()


@functools.cache  # the folder that the process was started in, wherever it goes later
def _project() -> Path | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # deleted under the process
        return None
    return next((folder for folder in (here, *here.parents) if (folder / PROJECT).is_file()), None)


def checkout() -> Path:
    """Returns the folder that contains `lib`."""
    return Path(__file__).resolve().parent.parent


def is_checkout() -> bool:
    """Returns whether this package runs from a checkout of its repository, not from a wheel."""
    return not (Path(__file__).parent / "project").is_dir()


def shipped() -> Path:
    """Returns the folder of the suite's own `notebooks/`, `studies/` and requirements."""
    return checkout() if is_checkout() else Path(__file__).resolve().parent / "project"


def datasets() -> Path:
    """The folder of all data sets."""
    return root() / "datasets"


def checkpoints() -> Path:
    """The folder of all checkpoints, laid out as `logs()`."""
    return root() / "checkpoints"


def logs() -> Path:
    """The folder of all runs; TensorBoard reads it."""
    return root() / "logs"


def notebooks() -> Path:
    """Returns the folder of the notebooks: the project's own where it has one, else the suite's."""
    return _own("notebooks")


def _own(name: str) -> Path:
    own = root() / name
    return own if own.is_dir() else shipped() / name


def studies() -> Path:
    """The same for the study files."""
    return _own("studies")


def dataset(name: str) -> Path:
    """The folder of one data set. Raises DarkroomError for what cannot be a folder's name."""
    return datasets() / _plain(name, "data set")


def run(study: str, stage: str, unit: str) -> Path:
    """The folder of one run, `logs/<study>/<stage>/<unit>`."""
    return logs() / _unit(study, stage, unit)


def checkpoint(study: str, stage: str, unit: str) -> Path:
    """The folder of one trained unit's checkpoints, `checkpoints/<study>/<stage>/<unit>`."""
    return checkpoints() / _unit(study, stage, unit)


def typed(text: str | Path) -> Path:
    """Returns a typed path, with `~` for the home folder. Raises DarkroomError for
    what can be no path here.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise DarkroomError(
            f"This cannot be a path: {str(text)[:120]!r} ({why}). Give the path of what is there."
        ) from None
    return path


def _unit(study: str, stage: str, unit: str) -> Path:
    return Path(_plain(study, "study"), _plain(stage, "stage"), _plain(unit, "unit"))


def _plain(name: str, what: str) -> str:
    if not re.fullmatch(NAME, name):
        raise DarkroomError(
            f"The name of a {what} must start with a letter or digit, hold only letters, digits "
            "and . _ @ + - (at most 100, no dot at the end), and be none of Windows' devices, such "
            f"as CON. Received: {name!r}."
        )
    return name
