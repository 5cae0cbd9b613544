"""Named selections of images, stored in the data set's folder by path."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from lib import files
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

FILE = "selections.json"
MOST, LONGEST = 500, 100


def read(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Returns name to `{"paths": [...], "saved": when}`, the latest first."""
    content = files.read_json(dataset.folder / FILE)
    return content if isinstance(content, dict) else {}


def save(dataset: Dataset, name: str, paths: list[str]) -> None:
    """Keeps a selection under a name; one of the same name is replaced.

    Raises DarkroomError for a name that is empty, long or holds line ends, and for an empty
    selection.
    """
    name = " ".join(str(name).split())
    if not name or len(name) > LONGEST or not name.isprintable():
        raise DarkroomError(
            f"A selection's name is one line of 1 to {LONGEST} characters. Received: "
            f"{name[:120]!r}."
        )
    if not paths:
        raise DarkroomError("There is nothing in this selection; mark some points first.")
    with FileLock(dataset.folder / f".{FILE}.lock"):
        known = {other: selection for other, selection in read(dataset).items() if other != name}
        if len(known) >= MOST:
            raise DarkroomError(f"There are {MOST} selections already; delete one first.")
        kept = {"paths": sorted(paths), "saved": datetime.now(UTC).isoformat(timespec="seconds")}
        files.write_json(dataset.folder / FILE, {name: kept, **known})


def delete(dataset: Dataset, name: str) -> None:
    """Forgets a selection. Raises DarkroomError when there is none of that name."""
    with FileLock(dataset.folder / f".{FILE}.lock"):
        known = read(dataset)
        if name not in known:
            raise DarkroomError(f"There is no selection {name!r}.")
        files.write_json(
            dataset.folder / FILE,
            {other: selection for other, selection in known.items() if other != name},
        )
