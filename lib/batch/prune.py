"""Deletes what no run needs: earlier runs, interrupted writers' files, orphaned checkpoints."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib import files, paths, runs
from lib.batch.progress_view import spoken
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

_EARLIER = ".earlier"
_YOUNG_S = 3600.0


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may be deleted, and why."""

    path: Path
    reason: str
    num_bytes: int
    age_s: float


def run(*, yes: bool, caches: bool, as_json: bool) -> int:
    """Lists what may be deleted, asks unless told `yes`, deletes it, and returns 0; as JSON it
    deletes only with `yes`.
    """
    leftovers = find(caches=caches)
    total = sum(leftover.num_bytes for leftover in leftovers)
    if as_json:
        if yes:
            delete(leftovers)
        rows = [
            {
                "path": str(item.path),
                "reason": item.reason,
                "bytes": item.num_bytes,
                "age_s": item.age_s,
            }
            for item in leftovers
        ]
        outcome = {"deleted": yes, "bytes": total, "leftovers": rows}
        print(json.dumps(outcome, indent=1, ensure_ascii=False))
        return 0
    for leftover in leftovers:
        print(
            f"{leftover.num_bytes / 1e6:10,.1f} MB  {spoken(leftover.age_s):>10} old  "
            f"{leftover.path}  ({leftover.reason})"
        )
    if not leftovers:
        print("There is nothing to delete.")
        return 0
    if not yes and not _agreed(f"Delete these {len(leftovers)} ({total / 1e6:,.1f} MB)? [y/N] "):
        print("Nothing was deleted.")
        return 0
    delete(leftovers)
    print(f"Deleted {len(leftovers)} ({total / 1e6:,.1f} MB).")
    return 0


def find(*, caches: bool = False) -> list[Leftover]:
    """Returns all that may be deleted; nothing that a living process may be writing (leftovers must
    be an hour old).

    With `caches` also the pixel caches of all data sets, and the stored features that no finished
    run's map shows; both are made again when they are needed.
    """
    leftovers = [*_earlier(), *_orphans()]
    leftovers += [leftover for leftover in _unfinished() if leftover.age_s > _YOUNG_S]
    if caches:
        pixels = sorted(paths.datasets().glob("*/pixels"))
        leftovers += [_leftover(path, "pixel cache") for path in pixels]
        unshown = [path for dataset in _datasets("features") for path in _unshown_features(dataset)]
        leftovers += [_leftover(path, "stored features") for path in unshown]
    return list({leftover.path: leftover for leftover in leftovers}.values())


def delete(leftovers: list[Leftover]) -> None:
    """Deletes them."""
    for leftover in leftovers:
        if leftover.path.is_dir() and not leftover.path.is_symlink():
            shutil.rmtree(leftover.path)
        else:
            leftover.path.unlink(missing_ok=True)


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise DarkroomError(
            "prune asks before it deletes, but there is no terminal to answer. Give it --yes."
        ) from None


def _earlier() -> Iterator[Leftover]:
    for top, what in (
        (paths.logs(), "an earlier run"),
        (paths.checkpoints(), "checkpoints of an earlier run"),
    ):
        for path in sorted((top / _EARLIER).glob("*/*/*")):
            yield _leftover(path, what)


def _orphans() -> Iterator[Leftover]:
    top = paths.checkpoints()
    for path in sorted(top.glob("[!.]*/*/*")):
        run = paths.logs() / path.relative_to(top)
        if path.is_dir() and not run.exists() and not runs.locked(run):
            yield _leftover(path, "checkpoints without a run")


def _unfinished() -> Iterator[Leftover]:
    """What a writer, a pass or older data left behind, whose writer may be alive."""
    for top in (paths.logs(), paths.checkpoints(), paths.datasets()):
        for path in sorted(top.rglob(f"{files.ASIDE}*")):
            yield _leftover(path, "left by an interrupted writer")
    for path in sorted([*paths.logs().glob(".parts/*"), *paths.datasets().glob("*/*/*-parts")]):
        yield _leftover(path, "parts of a pass that was stopped")
    for dataset in _datasets("pixels"):
        for path in pixel_cache.stale(dataset):
            yield _leftover(path, "pixel cache of data that has changed")
    for dataset in _datasets("features"):
        for path, reason in _stale_features(dataset):
            yield _leftover(path, reason)


def _datasets(holding: str) -> Iterator[Dataset]:
    """Those that have a folder of that name and are cleaned."""
    from lib.data import dataset as datasets

    for folder in sorted(paths.datasets().glob(f"*/{holding}")):
        with contextlib.suppress(DarkroomError):  # no data set of ours, or not cleaned yet
            dataset = datasets.load(folder.parent.name)
            dataset.accepted()
            yield dataset


def _leftover(path: Path, reason: str) -> Leftover:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    num_bytes = sum(file.stat().st_size for file in files)
    return Leftover(path, reason, num_bytes, max(0.0, time.time() - path.stat().st_mtime))


# Of models.feature_cache, embeddings.feature_spaces and embeddings.map_record.
_NOTES, _INDEX, _MAPS = "engine.json", "index.json", "maps.json"
# Spaces that no other run will ask for; a pretrained network's are there for all.
_BY_A_RUN = ("trained", "untrained")


def _unshown_features(dataset: Dataset) -> list[Path]:
    """Returns the folders of all stored features of a data set that no finished run's map shows."""
    shown = set(_shown())
    folders = sorted(path.parent for path in (dataset.folder / "features").glob("*/features.npy"))
    return [path for path in folders if (dataset.name, path.name) not in shown]


def _stale_features(dataset: Dataset) -> list[tuple[Path, str]]:
    """Returns those of them that nothing will ask for again, each with the reason why.

    That is so where their images are no longer the data set's, or where the network was that of a
    run whose map no longer exists.
    """
    accepted = dataset.accepted().sort_values("path", ignore_index=True)
    now, old = pixel_cache.digest_of(accepted), {path.name for path in pixel_cache.stale(dataset)}
    there = {path.name for path in (dataset.folder / "pixels").glob("*")} - old
    stale = []
    for path in _unshown_features(dataset):
        images, space = _note(path / _NOTES, "images"), _note(path / _INDEX, "space")
        # A part of the images has a longer name.
        of_pixels = re.match(r"[^-]+-[^-]+-([0-9a-f]{16})", images)
        if of_pixels and of_pixels[1] != now and of_pixels[0] not in there:
            stale.append((path, "features of data that has changed"))
        elif space in _BY_A_RUN:
            stale.append((path, "features of a network that no run shows any more"))
    return stale


def _shown() -> Iterator[tuple[str, str]]:
    for file in paths.logs().glob(f"[!.]*/*/*/{_MAPS}"):
        account = files.read_json(file)
        if isinstance(account, dict):
            yield from (
                (account.get("data", ""), space["features"]) for space in account.get("spaces", ())
            )


def _note(file: Path, name: str) -> str:
    content = files.read_json(file) if file.is_file() else None
    return str(content.get(name, "")) if isinstance(content, dict) else ""
