"""What `darkroom clean` does: clean, list, decide by hand, undo, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from lib.cleaning import clean, export, findings_page, ledger
from lib.cleaning.findings import Thresholds
from lib.cleaning.label_issues import Look
from lib.data import dataset as datasets
from lib.data import intake, manifest
from lib.data.dataset import Dataset
from lib.data.intake import name_of
from lib.data.sources import reading
from lib.errors import DarkroomError, suggest


@dataclass(frozen=True)
class Wish:
    """What was asked for; see `darkroom clean --help`."""

    data: str
    name: str | None = None
    json: bool = False
    options: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    look: str = "none"
    workers: int | None = None
    list: str | None = None
    history: bool = False
    undo: int | None = None
    decided: dict[str, list[str]] = field(default_factory=dict)
    relabel: list[str] | None = None
    export: str | None = None
    by_split: bool = False


def run(wish: Wish) -> int:
    """Does the one act that was asked for, by default cleaning, and returns the exit code."""
    acts: dict[Callable[[Wish], None], bool] = {
        _list: wish.list is not None,
        _history: wish.history,
        _undo: wish.undo is not None,
        _decide: bool(wish.decided),
        _relabel: bool(wish.relabel),
        _export: wish.export is not None,
    }
    asked = [act for act, wanted in acts.items() if wanted]
    if len(asked) > 1:
        raise DarkroomError(
            "One act at a time: --list, --history, --undo, --keep, --review, --reject, --relabel "
            "or --export."
        )
    (asked[0] if asked else _clean)(wish)
    return 0


def _clean(wish: Wish) -> None:
    limits = _thresholds(wish.thresholds)
    dataset = intake.bring(wish.data, name=wish.name, options=dict(wish.options) or None)
    look = None if wish.look == "none" else Look(wish.look)
    try:
        cleaned = clean.clean(
            dataset,
            thresholds=limits,
            verdicts=wish.verdicts,
            look=look,
            workers=wish.workers,
            progress=_progress(),
        )
    except ValueError as error:  # an unknown reason or verdict, told by `judge`
        raise DarkroomError(str(error)) from error
    address = findings_page.write(cleaned)
    if wish.json:
        print(json.dumps(summary(cleaned), ensure_ascii=False))
        return
    print(understood(dataset))
    for note in cleaned.notes:
        print(f"  {note}")
    for row in cleaned.counts.itertuples():
        print(f"{row.files:9,}  {row.verdict:<7}{row.Index:<24} such as {row.example}")
    print(cleaned.sentence())
    print(f"Look at them: {address}")


def understood(dataset: Dataset) -> str:
    """Returns how the data set was read and what was noticed, one line each."""
    if "read_as" not in dataset.source:
        return f"{dataset.name}: label from {dataset.source.get('label_rule', 'the source')}"
    facts = dataset.source
    return "\n".join(
        [
            f"{dataset.name}: {reading.sentence(facts, dataset.rows())}",
            *(f"  {note}" for note in facts["notes"]),
        ]
    )


def summary(cleaned: clean.Cleaned) -> dict[str, Any]:
    """Returns what was read and what cleaning decided, as plain values."""
    table, source = cleaned.manifest, cleaned.dataset.source
    kept = table[table["verdict"] == "keep"]
    groups = kept["source_group"].dropna() if "source_group" in kept else kept["label"][:0]
    reasons = [reason for reasons in table["reasons"] for reason in reasons]
    splits = kept["source_split"].where(kept["source_split"].notna(), "").value_counts()
    return {
        "name": cleaned.dataset.name,
        "read_as": source.get(
            "read_as", {"label": source.get("label_rule"), "split": None, "group": None}
        ),
        "classes": {
            str(name): int(number)
            for name, number in kept["label"].value_counts().sort_index().items()
        },
        "splits": {name: int(splits.get(name, 0)) for name in ("train", "val", "test", "")},
        "groups": int(groups.nunique()) or None,
        "verdicts": {
            verdict: int((table["verdict"] == verdict).sum()) for verdict in manifest.VERDICTS
        },
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "not_used": source.get("not_used", {"rows": 0, "files": 0, "why": {}}),
        "notes": [*source.get("notes", []), *cleaned.notes],
    }


def _list(wish: Wish) -> None:
    dataset = _known(wish.data)
    table = dataset.manifest()
    rows = table[[bool(reasons) for reasons in table["reasons"]]]
    if wish.list:
        there = sorted(
            {reason for reasons in table["reasons"] for reason in reasons} | set(table["verdict"])
        )
        if wish.list not in there:
            raise DarkroomError(
                f"No file of {dataset.name!r} has the finding or verdict {wish.list!r}; there is "
                f"{', '.join(there)}."
                f"{suggest(wish.list, there)}"
            )
        named = np.array([wish.list in reasons for reasons in table["reasons"]])
        rows = table[named | (table["verdict"] == wish.list).to_numpy()]
    for row in rows.itertuples():
        print(f"{row.verdict:<7}{row.path}\t{', '.join(row.reasons)}")


def _history(wish: Wish) -> None:
    entries = ledger.read(_known(wish.data).folder)
    standing = {act["entry"] for act in ledger.standing(entries)}
    for act in entries:
        about = f"of {act['of']}" if act["action"] == "undo" else f"{len(act['changes']):,} files"
        after = (
            ", ".join(sorted({str(change["after"][act["action"]]) for change in act["changes"]}))
            if act["action"] in ("label", "verdict")
            else ""
        )
        undone = "" if act["entry"] in standing or act["action"] == "undo" else "  (undone)"
        print(
            f"{act['entry']:4}  {act['at']}  "
            f"{act['by']:<8}{act['action']:<8}{after:<8}{about}{undone}"
        )


def _undo(wish: Wish) -> None:
    dataset = _known(wish.data)
    act = clean.undo(dataset, entry=wish.undo or None)
    print(
        f"Undone: entry {act['entry']}, {act['action']} by {act['by']} of {len(act['changes']):,} "
        "files."
    )
    print(_standing(dataset))


def _decide(wish: Wish) -> None:
    dataset = _known(wish.data)
    for verdict, files in wish.decided.items():
        clean.decide(dataset, files, verdict=verdict)
        print(f"{len(set(files)):,} files: {verdict}.")
    _tell_undo(dataset)


def _relabel(wish: Wish) -> None:
    dataset = _known(wish.data)
    label, *files = wish.relabel or []
    if not files:
        raise DarkroomError(
            "--relabel takes the label and then the files: --relabel cat photos/1.jpg photos/2.jpg."
        )
    clean.relabel(dataset, files, label=label)
    print(
        f"{len(set(files)):,} files are labelled {label!r} now; clean again to judge them under it."
    )
    _tell_undo(dataset)


def _tell_undo(dataset: Dataset) -> None:
    print(f"{_standing(dataset)}. Take it back with: darkroom clean {dataset.name} --undo")


def _export(wish: Wish) -> None:
    dataset = _known(wish.data)
    number = export.export(dataset, Path(wish.export), by_split=wish.by_split)
    print(
        f"{number:,} files copied to {Path(wish.export).expanduser().resolve()}, a folder a class."
    )


def _known(data: str) -> Dataset:
    return datasets.load(name_of(data))


def _standing(dataset: Dataset) -> str:
    counts = dataset.manifest()["verdict"].value_counts()
    return ", ".join(f"{counts.get(verdict, 0):,} {verdict}" for verdict in manifest.VERDICTS)


def _thresholds(given: dict[str, str]) -> Thresholds:
    kinds = {each.name: type(each.default) for each in fields(Thresholds)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in kinds:
            raise DarkroomError(
                f"There is no threshold {name!r}; there is "
                f"{', '.join(kinds)}.{suggest(name, list(kinds))}"
            )
        try:
            values[name] = kinds[name](text)
        except ValueError as error:
            raise DarkroomError(
                f"The threshold {name} must be a number. Received: {text!r}."
            ) from error
    try:
        return Thresholds(**values)
    except ValueError as error:
        raise DarkroomError(str(error)) from error


def _progress() -> Callable[[int, int], None] | None:
    import sys

    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            print(
                f"\r{done:,} of {total:,} files read",
                end="\n" if done == total else "",
                file=sys.stderr,
                flush=True,
            )

    return show
