"""Accepted pictures copied into a folder a class. Nothing is moved, and nothing that is there is
written over.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from lib import files, paths
from lib.apply.pictures import ACCEPTED, Answer
from lib.errors import DarkroomError, suggest


class Copies:
    """Copies accepted pictures to `<target>/<class>/<path below the source>`; the target appears
    when the block ends well.

    Without a target nothing is copied. Below its class a picture keeps its whole path, so that
    equal names never meet.
    """

    def __init__(
        self, target: Path | None, source: Path, classes: Sequence[str], class_names: Sequence[str]
    ) -> None:
        unknown = [name for name in classes if name not in class_names]
        if unknown:
            raise DarkroomError(
                f"The model has no class {unknown[0]!r}; it has {', '.join(class_names)}."
                f"{suggest(unknown[0], tuple(class_names))}"
            )
        if classes and target is None:
            raise DarkroomError(
                "`classes` says which accepted pictures are copied; say where to as well "
                "(`copy_to`, --copy)."
            )
        self.target = None if target is None else _checked(paths.typed(target), Path(source))
        self.source, self.wanted = Path(source), frozenset(classes or class_names)
        self.folders = {name: folder_name(name, class_names) for name in class_names}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Copies:
        if self.target is not None:
            self._aside = self._open.enter_context(files.directory(self.target))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)

    def add(self, path: str, answer: Answer) -> None:
        """Copies one picture where its answer was accepted and its class is wanted."""
        if self.target is None or answer.verdict != ACCEPTED or answer.label not in self.wanted:
            return
        place = self._aside / self.folders[answer.label] / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source / path, place)
        except OSError as error:
            told = f"{path} could not be copied to {self.target} ({error.strerror or error})"
            raise DarkroomError(f"{told}; no copies were kept.") from error


def folder_name(class_name: str, class_names: Sequence[str]) -> str:
    """Returns the class's name as every system takes it for a folder; two classes never share one."""
    plain = _plain(class_name)
    twins = [name for name in class_names if _plain(name).casefold() == plain.casefold()]
    return plain if len(twins) < 2 else f"{plain} {twins.index(class_name) + 1}"


def _plain(name: str) -> str:
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip(". ") or "_"


def _checked(target: Path, source: Path) -> Path:
    inner, outer = target.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise DarkroomError(
            "Copies may not go into the folder of the pictures, nor around it. Received: "
            f"{str(target)!r}."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DarkroomError(
            "Copies go to a new or empty folder, so that nothing is written over. Received: "
            f"{str(target)!r}."
        )
    return inner
