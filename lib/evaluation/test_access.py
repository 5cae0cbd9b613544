"""The lock on the test split: every opening is a line in the data set's ledger, and is counted over
all studies.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lib import files

LEDGER = "test_openings.jsonl"


def open_test(dataset_folder: Path, split_id: str, run: str) -> int:
    """Notes that `run` reads the test images of a split; returns how often that split was read,
    this time included.
    """
    entry = {"split": split_id, "run": run, "opened": round(time.time(), 3)}
    files.append_line(Path(dataset_folder) / LEDGER, json.dumps(entry, ensure_ascii=False))
    return count(dataset_folder, split_id)


def count(dataset_folder: Path, split_id: str) -> int:
    """How often the test images of a split were read, over all studies; a torn line counts, for it
    was an opening.
    """
    path = Path(dataset_folder) / LEDGER
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(_split_of(line) in (split_id, None) for line in lines if line.strip())


def runs(dataset_folder: Path) -> list[str]:
    """The names (study/stage/run) of all runs that have read test images of a data set, sorted."""
    path = Path(dataset_folder) / LEDGER
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({name for line in lines if (name := _entry(line).get("run"))})


def times(number: int) -> str:
    """Returns how often in words: "once", "twice", "5 times"."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number:,} times")


def _split_of(line: str) -> str | None:
    split = _entry(line).get("split")
    return None if split is None else str(split)


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
