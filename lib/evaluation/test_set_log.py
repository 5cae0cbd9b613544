"""The log of every read of test images, counted by image over all splits, seeds, studies and data
sets: equal pixels are one image, under whatever name.

`test_openings.jsonl` holds one line a read: `split`, `run` (study/stage/run), `role` (`test`: test
images were scored; `tuning`: settings were chosen on the split's train and validation images) and
`opened` (seconds since 1970). Which images a split holds stands in `splits/<split>.parquet`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib import files
from lib.data import manifest
from lib.errors import DarkroomError, check_choice
from lib.evaluation import outcomes

LOG = "test_openings.jsonl"
ROLES = ("test", "tuning")


@dataclass(frozen=True)
class Reuse:
    """Earlier reads of a split's test images.

    Args:
        num_test: test images of the split.
        num_reads: reads of just this split's test images, this one included.
        num_other_splits: other splits that tested some of the images.
        seen_as_test: images that other splits tested.
        seen_in_tuning: images on which settings were chosen, by tuning runs of any study.
        tuned_in_study: the same, by tuning runs of the run's own study.
    """

    num_test: int
    num_reads: int
    num_other_splits: int = 0
    seen_as_test: int = 0
    seen_in_tuning: int = 0
    tuned_in_study: int = 0

    def checks(self) -> list[dict[str, str]]:
        """Returns the checks `test_images_tuned_on` and `test_images_reused` of a run."""
        return [
            outcomes.finding("test_images_tuned_on", self._tuned()),
            outcomes.finding("test_images_reused", self._reused()),
        ]

    def _tuned(self) -> tuple[str, str]:
        if self.tuned_in_study:
            return "flagged", (
                f"Settings of this study were chosen on {self.tuned_in_study:,} of the "
                f"{self.num_test:,} test images: the score is too good. Judge on the split that "
                "tuning left untouched (the same split_seed and split_method)."
            )
        if self.seen_in_tuning:
            return "note", (
                f"Another study chose settings on {self.seen_in_tuning:,} of the "
                f"{self.num_test:,} test images; do not use those settings here."
            )
        return "held", "no settings were chosen on the test images"

    def _reused(self) -> tuple[str, str]:
        if not self.num_test:
            return "not_judged", "The split has no table."
        if not self.seen_as_test:
            reads = times(self.num_reads)
            return "held", f"no other split has tested these images; this one was read {reads}"
        share = 100 * self.seen_as_test / self.num_test
        splits = f"{self.num_other_splits:,} other split{'s' * (self.num_other_splits > 1)}"
        return "note", (
            f"{self.seen_as_test:,} of the {self.num_test:,} test images ({share:.0f} %) were test "
            f"images of {splits} before. Report all splits, not the best."
        )


def record(dataset_folder: Path, split_id: str, run: str, *, role: str = "test") -> Reuse:
    """Logs that `run` (study/stage/run) reads a split; returns what was seen of its images.

    Args:
        dataset_folder: the data set's folder.
        split_id: the split's name.
        run: who reads.
        role: `test` where test images are scored, `tuning` where settings are chosen on the
            split's train and validation images.
    """
    check_choice("role", role, ROLES)
    entry = {"split": split_id, "run": run, "role": role, "opened": round(time.time(), 3)}
    path = Path(dataset_folder) / LOG
    files.append_line(path, json.dumps(entry, ensure_ascii=False))
    return reuse(dataset_folder, split_id, study=run.split("/")[0])


def reuse(dataset_folder: Path, split_id: str, *, study: str) -> Reuse:
    """Returns what has been seen so far of a split's test images.

    Data sets beside this one count too, since one folder can be read under two names.
    """
    folder = Path(dataset_folder)
    test = [image for _, image in _images(folder, split_id, ("test",))]
    tested: dict[tuple[Path, str], set[str]] = {}
    tuned: dict[bool, set[str]] = {True: set(), False: set()}
    for place in sorted({folder, *(log.parent for log in folder.parent.glob(f"*/{LOG}"))}):
        reads = {(row["split"], row["role"], row["run"].split("/")[0]) for row in read(place)}
        for other, role, reader in reads:
            if role == "tuning":
                images = _images(place, other, ("train", "val"))
                tuned[reader == study] |= {image for _, image in images}
            elif (place, other) != (folder, split_id):
                seen = {image for _, image in _images(place, other, ("test",))}
                tested[place, other] = seen.intersection(test)
    others = [images for images in tested.values() if images]

    def number(images: set[str]) -> int:
        return sum(image in images for image in test)

    return Reuse(
        num_test=len(test),
        num_reads=count(dataset_folder, split_id),
        num_other_splits=len(others),
        seen_as_test=number(set().union(*others)),
        seen_in_tuning=number(tuned[True] | tuned[False]),
        tuned_in_study=number(tuned[True]),
    )


def refuse_tuned(dataset_folder: Path, split_id: str, *, tuned_on: str) -> None:
    """Raises DarkroomError if settings that were chosen on the split `tuned_on` would be judged by
    images that its training or validation held, or if there is no such split.
    """
    if not (Path(dataset_folder) / "splits" / f"{tuned_on}.parquet").is_file():
        raise DarkroomError(
            f"The split {tuned_on!r} that `tuned_on` names is not in {dataset_folder}, so nothing "
            "shows on which images the settings were chosen. Take its name from winner.toml."
        )
    test = {path for path, _ in _images(Path(dataset_folder), split_id, ("test",))}
    seen = test & {path for path, _ in _images(Path(dataset_folder), tuned_on, ("train", "val"))}
    if seen:
        raise DarkroomError(
            f"These settings were chosen on {len(seen):,} of the {len(test):,} test images of this "
            f"split (tuned_on = {tuned_on!r}), so the score would be too good. Keep the "
            "split_method, split_seed and fractions of the search and vary `seed` alone, or search "
            "on this split."
        )


def count(dataset_folder: Path, split_id: str) -> int:
    """Returns how often the test images of a split were read, over all studies.

    A torn line counts, since it was a read of something.
    """
    entries = read(dataset_folder)
    return sum(entry["split"] in (split_id, "") and entry["role"] == "test" for entry in entries)


def runs(dataset_folder: Path) -> list[str]:
    """Returns the names (study/stage/run) of all runs that have read test images, sorted."""
    entries = read(dataset_folder)
    return sorted({entry["run"] for entry in entries if entry["run"] and entry["role"] == "test"})


def read(dataset_folder: Path) -> list[dict[str, str]]:
    """Returns the entries, each with `split`, `run` and `role`; those of a torn line are empty."""
    path = Path(dataset_folder) / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_entry(line) for line in lines if line.strip()]


def times(number: int) -> str:
    """Returns how often in words: "once", "twice", "5 times"."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _entry(line: str) -> dict[str, str]:
    try:
        entry = json.loads(line)
        return {
            "split": str(entry["split"]),
            "run": str(entry.get("run", "")),
            "role": str(entry.get("role", "test")),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"split": "", "run": "", "role": "test"}


def _images(folder: Path, split_id: str, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The path and the identity of each image of parts of a split: the hash of its pixels."""
    cached = files.read_cache(folder / "splits" / f"{split_id}.parquet") if split_id else None
    if cached is None or not {"path", "split"} <= set(cached[0].columns):
        return []
    paths = cached[0].loc[cached[0]["split"].isin(names), "path"].tolist()
    pixels = _pixels(folder)
    return [(path, pixels.get(path) or f"{folder}/{path}") for path in paths]


def _pixels(folder: Path) -> dict[str, str]:
    """The hash of the pixels of each image, by path; empty where there is no sound manifest."""
    path = folder / manifest.FILE
    return _pixels_at(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=8)
def _pixels_at(path: Path, changed: int) -> dict[str, str]:
    """Read once for each time at which the manifest `changed`."""
    cached = files.read_cache(path)
    if cached is None or "pixels" not in cached[0]:
        return {}
    sound = cached[0].dropna(subset=["pixels"])
    return dict(zip(sound["path"], sound["pixels"], strict=True))
