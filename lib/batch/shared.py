"""Do the machines of a cluster see the same folder, with locks that hold between them, and the same
code?
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from lib import hashing, paths
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from distributed import Client


def check(client: Client, folder: Path) -> None:
    """Raises DarkroomError, naming the worker, when one does not share `folder`, or would compute
    with other code.
    """
    marker = folder / f".shared-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(marker, is_singleton=False)
    try:
        with lock:
            told = client.run(_look, str(marker))
    finally:
        marker.unlink(missing_ok=True)
    own = code()
    for worker, (problem, its_code) in sorted(told.items()):
        if problem:
            raise DarkroomError(f"The worker {worker} {problem}")
        if its_code != own:
            raise DarkroomError(
                f"The worker {worker} has another version of the suite ({its_code}) than this "
                f"machine ({own}). Let all "
                "machines use one checkout, such as a shared folder, or update it; here it is "
                f"{paths.checkout()}."
            )


def code() -> str:
    """Returns a digest of all of `lib`, which is the same on machines with the same code."""
    top = paths.checkout()
    files = sorted((top / "lib").rglob("*.py"))
    return hashing.digest(
        *(
            part
            for file in files
            for part in (file.relative_to(top).as_posix(), file.read_text("utf-8"))
        )
    )


def _look(marker: str) -> tuple[str, str]:
    """Runs on a worker: what is wrong with the folder of `marker`, which the runner holds locked,
    and the code here.
    """
    path = Path(marker)
    where = "Put DARKROOM_HOME on a folder that all machines share under the same path."
    if not path.exists():
        return f"does not see {path.parent}. {where}", ""
    try:
        path.with_name(f"{path.name}-{uuid.uuid4().hex}").touch()
        for written in path.parent.glob(f"{path.name}-*"):
            written.unlink(missing_ok=True)
    except OSError as error:
        return f"cannot write to {path.parent} ({error.strerror}). {where}", ""
    try:
        with filelock.FileLock(path, timeout=0, is_singleton=False):
            return (
                f"can lock a file in {path.parent} that this machine holds locked, so two runs "
                "could write to one folder. "
                "Mount it with locks (for NFS: version 4, or without `nolock`).",
                "",
            )
    except filelock.Timeout:
        return "", code()
