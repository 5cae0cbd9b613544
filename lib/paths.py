"""Where things lie. Every path of the suite is made here, so that moving the suite moves them all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lib.errors import DarkroomError

_NAME = re.compile(r"[^\W_][\w.@+-]{0,99}", re.UNICODE)


def root() -> Path:
    """The folder that holds `datasets/`, `checkpoints/`, `logs/`, `notebooks/` and `studies/`.

    `$DARKROOM_HOME` where it is set, else the checkout that this package lies in.
    """
    home = os.environ.get("DARKROOM_HOME")
    return Path(home).resolve() if home else checkout()


def checkout() -> Path:
    """The folder that `lib` lies in; notebooks and studies of the suite itself are there."""
    return Path(__file__).resolve().parent.parent


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
    """The folder of the suite's notebooks: the user's own where he has one, else the checkout's."""
    own = root() / "notebooks"
    return own if own.is_dir() else checkout() / "notebooks"


def studies() -> Path:
    """The folder of the study files: the user's own where he has one, else the checkout's."""
    own = root() / "studies"
    return own if own.is_dir() else checkout() / "studies"


def dataset(name: str) -> Path:
    """The folder of one data set. Raises DarkroomError for a name that is not one plain folder
    name.
    """
    return datasets() / _plain(name, "data set")


def run(study: str, stage: str, unit: str) -> Path:
    """The folder of one run, `logs/<study>/<stage>/<unit>`."""
    return logs() / _unit(study, stage, unit)


def checkpoint(study: str, stage: str, unit: str) -> Path:
    """The folder of one trained unit's checkpoints, `checkpoints/<study>/<stage>/<unit>`."""
    return checkpoints() / _unit(study, stage, unit)


def typed(text: str | Path) -> Path:
    """Returns the path that somebody has typed, with `~` for his home. Raises DarkroomError for
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
    if not _NAME.fullmatch(name):
        raise DarkroomError(
            f"The name of a {what} must start with a letter or digit and hold only letters, digits "
            "and . _ @ + - "
            f"(at most 100). Received: {name!r}."
        )
    return name
