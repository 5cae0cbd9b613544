"""The command `darkroom clean`: clean, list, decide by hand, undo, export."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from lib import files, paths
from lib.cleaning import clean as cleaning
from lib.cleaning import findings_page, ledger
from lib.cleaning.clean import Cleaned
from lib.cleaning.findings import ENDINGS, Thresholds
from lib.cleaning.label_issues import EmbeddingConfig
from lib.data import dataset as datasets
from lib.data import intake, manifest, splits
from lib.data.dataset import Dataset
from lib.data.intake import name_of
from lib.data.sources import checks
from lib.errors import DarkroomError, suggest
from lib.reporting.text import SITE, print_progress


def clean(
    data: str,
    *,
    name: str | None = None,
    options: dict[str, str] | None = None,
    thresholds: dict[str, str] | None = None,
    verdicts: dict[str, str] | None = None,
    embedding_network: str = "none",
    workers: int | None = None,
    as_json: bool = False,
) -> None:
    """Cleans a data set and prints what was read and found; see `darkroom clean --help`."""
    limits = _thresholds(thresholds or {})
    dataset = intake.bring(data, name=name, options=options or None)
    network = embedding_network
    try:
        cleaned = cleaning.clean(
            dataset,
            thresholds=limits,
            verdicts=verdicts,
            embedding=None if network == "none" else EmbeddingConfig(network),
            workers=workers,
            progress=print_progress,
        )
    except ValueError as error:  # an unknown reason or verdict
        raise DarkroomError(str(error)) from error
    address = findings_page.write(cleaned)
    if as_json:
        print(json.dumps(summary(cleaned), ensure_ascii=False))
        return
    print(dataset.understood)
    for note in cleaned.notes:
        print(f"  {note}")
    for row in cleaned.counts.itertuples():
        print(f"{row.files:9,}  {row.verdict:<7}{row.Index:<24} such as {row.example}")
    print(cleaned.sentence())
    print(f"Look at them: {address}")
    print(f"Keep, reject or relabel them: `darkroom web`, {SITE}/data/{quote(dataset.name)}")
    if network == "none":
        print("Wrong labels were not looked for: add --embedding-network efficientnet_lite0.")


def summary(cleaned: Cleaned) -> dict[str, Any]:
    """Returns what was read and what cleaning decided, as plain values."""
    table, source = cleaned.manifest, cleaned.dataset.source
    kept = table[table["verdict"] == "keep"]
    shared = kept["copy_group"][kept["copy_group"].duplicated()]
    groups = kept["source_group"].dropna() if "source_group" in kept else kept["label"][:0]
    reasons = table["reasons"].explode().dropna().value_counts().sort_index()
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
        "groups": int(groups.nunique() or shared.nunique()) or None,
        "verdicts": {
            verdict: int((table["verdict"] == verdict).sum()) for verdict in manifest.VERDICTS
        },
        "reasons": {reason: int(number) for reason, number in reasons.items()},
        "not_used": source.get("not_used", {"rows": 0, "files": 0, "why": {}}),
        "notes": [*source.get("notes", []), *cleaned.notes],
    }


def list_files(data: str, finding: str = "") -> None:
    """Prints the files with any finding, or with this finding or verdict."""
    dataset = _known(data)
    table = dataset.manifest()
    rows = table[[bool(reasons) for reasons in table["reasons"]]]
    if finding:
        known = sorted({*table["reasons"].explode().dropna(), *table["verdict"]})
        if finding not in known:
            raise DarkroomError(
                f"No file of {dataset.name!r} has the finding or verdict {finding!r}; there is "
                f"{', '.join(known)}.{suggest(finding, known)}"
            )
        has_finding = np.array([finding in reasons for reasons in table["reasons"]])
        rows = table[has_finding | (table["verdict"] == finding).to_numpy()]
    for row in rows.itertuples():
        print(f"{row.verdict:<7}{row.path}\t{', '.join(row.reasons)}")


def history(data: str) -> None:
    """Prints all decisions, the oldest first."""
    entries = ledger.read(_known(data).folder)
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


def undo(data: str, entry: int | None = None) -> None:
    """Takes back a decision, by default the last."""
    dataset = _known(data)
    act = cleaning.undo(dataset, entry=entry)
    print(
        f"Undone: entry {act['entry']}, {act['action']} by {act['by']} of {len(act['changes']):,} "
        "files."
    )
    print(_standing(dataset))


def decide(data: str, decisions: dict[str, list[str]]) -> None:
    """Gives files another verdict; `decisions` maps verdicts to files."""
    dataset = _known(data)
    for verdict, chosen in decisions.items():
        cleaning.decide(dataset, chosen, verdict=verdict)
        print(f"{len(set(chosen)):,} files: {verdict}.")
    _print_undo(dataset)


def relabel(data: str, label: str, *files: str) -> None:
    """Gives files another label."""
    dataset = _known(data)
    if not files:
        raise DarkroomError(
            "--relabel takes the label and then the files: --relabel cat photos/1.jpg photos/2.jpg."
        )
    cleaning.relabel(dataset, files, label=label)
    print(
        f"{len(set(files)):,} files are labelled {label!r} now; clean again to judge them under it."
    )
    _print_undo(dataset)


def _print_undo(dataset: Dataset) -> None:
    print(f"{_standing(dataset)}. Take it back with: darkroom clean {dataset.name} --undo")


def export_copy(data: str, folder: str, *, by_split: bool = False) -> None:
    """Writes a clean copy of a data set, a folder a class, as Hugging Face `datasets` reads it."""
    dataset = _known(data)
    number = export(dataset, Path(folder), by_split=by_split)
    print(f"{number:,} files copied to {Path(folder).expanduser().resolve()}, a folder a class.")


def _known(data: str) -> Dataset:
    return datasets.load(name_of(data))


def _standing(dataset: Dataset) -> str:
    counts = dataset.manifest()["verdict"].value_counts()
    return ", ".join(f"{counts.get(verdict, 0):,} {verdict}" for verdict in manifest.VERDICTS)


def _thresholds(given: dict[str, str]) -> Thresholds:
    kinds = {field.name: type(field.default) for field in fields(Thresholds)}
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


# -- A clean copy


_FORBIDDEN = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]'
)  # what Windows refuses, so that the copy can travel


def export(dataset: Dataset, target: Path, *, by_split: bool = False) -> int:
    """Copies the accepted files to `target/<label>/` and returns how many there were; raw files are
    only read.

    `metadata.csv` holds labels, groups and attributes by `file_name`, and `README.md` the card of
    the data set, so that Hugging Face's `load_dataset` reads the folder. With `by_split` the
    source's own split, or the grouped split of seed 0 where it has none, becomes the outer folder,
    `target/train/<label>/`, with a `metadata.csv` in each. A wrong extension is corrected, and
    files of one name are numbered. The copy is written aside and renamed, so `target` is complete
    or absent.

    Raises DarkroomError when `target` exists or is inside the data set, when a file
    changed since it was cleaned, and when the disk has no room.
    """
    target = paths.typed(target).resolve()
    if target.exists():
        raise DarkroomError(
            f"{target} exists and is not overwritten; give a folder that does not exist yet."
        )
    if target.is_relative_to(dataset.raw.resolve()):
        raise DarkroomError(
            f"{target} is inside the raw files, which are never written; give a folder elsewhere."
        )
    table = dataset.accepted()
    if not by_split:
        outer = [""] * len(table)
    elif table["source_split"].isna().all():
        frame = splits.ensure(dataset).frame.set_index("path")
        outer = frame["split"].reindex(table["path"]).fillna("unsplit").tolist()
    else:
        outer = table["source_split"].fillna("unsplit").tolist()
    checks.room(target, needed=int(table["bytes"].sum()), what=f"the clean copy of {dataset.name}")
    taken: set[str] = set()
    with files.directory(target) as aside:
        names = []
        for row, split in zip(table.itertuples(), outer, strict=True):
            data = (dataset.raw / row.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != row.sha256:
                raise DarkroomError(
                    f"{row.path} has changed since it was cleaned; run `darkroom clean "
                    f"{dataset.name}` again."
                )
            place = Path(split, _safe(row.label))
            name = _free(place, _named(row.path, row.format), taken)
            file = aside / place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            names.append(f"{place.name}/{name}")
        _describe(aside, dataset, table.assign(file_name=names, outer=outer))
    return len(table)


def _describe(folder: Path, dataset: Dataset, table: pd.DataFrame) -> None:
    """Writes `metadata.csv` into every split's folder, and the card."""
    attributes = [name for name in table if name.startswith("attr_")]
    columns = ["file_name", "label", "group", *attributes]
    for split, rows in table.groupby("outer"):
        named = rows[columns].rename(columns=lambda name: name.removeprefix("attr_"))
        named.to_csv(folder / split / "metadata.csv", index=False, lineterminator="\n")
    source = dataset.source
    facts = {
        "Licence": source.get("licence") or "not stated by the source",
        "Source": source.get("citation") or source.get("kind"),
        "Labels": source.get("label_rule"),
        "Images": ", ".join(
            f"{name} {number:,}" for name, number in table["label"].value_counts().items()
        ),
    }
    lines = ["---", 'task_categories: ["image-classification"]', "---", f"# {dataset.name}", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    files.write_text(folder / "README.md", "\n".join(lines) + "\n")


def _safe(label: str) -> str:
    plain = _FORBIDDEN.sub("_", str(label)).strip().rstrip(".")
    return (
        f"_{plain}" if not plain or plain.startswith(".") else plain
    )  # a folder with a dot in front is passed over


def _named(path: str, format: str) -> str:
    name = _FORBIDDEN.sub("_", path.rsplit("/", 1)[-1])
    stem, _, ending = name.rpartition(".")
    right = ENDINGS[format]
    return name if ending.lower() in right else f"{stem or ending}.{right[0]}"


def _free(place: Path, name: str, taken: set[str]) -> str:
    """The name, numbered where the folder has it already; case does not count, since some disks do
    not tell it apart.
    """
    stem, _, ending = name.rpartition(".")
    number, chosen = 1, name
    while str(place / chosen).casefold() in taken:
        number += 1
        chosen = f"{stem} ({number}).{ending}"
    taken.add(str(place / chosen).casefold())
    return chosen
