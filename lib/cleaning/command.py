"""The command `darkroom clean`: clean, list, decide by hand, undo, export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from lib import files, paths
from lib.cleaning import clean as cleaning
from lib.cleaning import findings_page, ledger
from lib.cleaning.clean import Cleaned
from lib.cleaning.findings import ENDINGS, Thresholds, complete_verdicts
from lib.cleaning.label_issues import EmbeddingConfig
from lib.data import dataset as datasets
from lib.data import intake, manifest, splits
from lib.data.dataset import Dataset
from lib.data.intake import name_of
from lib.data.sources import source_checks
from lib.errors import DarkroomError, unknown
from lib.parameter_table import find
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
    complete_verdicts(verdicts)
    find("1_clean").check({"embedding_network": embedding_network})
    dataset = intake.bring(data, name=name, options=options or None)
    network = embedding_network
    cleaned = cleaning.clean(
        dataset,
        thresholds=limits,
        verdicts=verdicts,
        embedding=None if network == "none" else EmbeddingConfig(network),
        workers=workers,
        counting=lambda what: print_progress if what == "files read" else lambda done, total: None,
    )
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
    splits = kept["source_split"].where(kept["source_split"].notna(), "")
    return {
        "name": cleaned.dataset.name,
        "read_as": source["read_as"],
        "classes": _numbers(kept["label"]),
        "splits": _numbers(splits, ("train", "val", "test", "")),
        "groups": int(groups.nunique() or shared.nunique()) or None,
        "verdicts": _numbers(table["verdict"], manifest.VERDICTS),
        "reasons": _numbers(table["reasons"].explode()),
        "not_used": source["not_used"],
        "notes": [*source.get("notes", []), *cleaned.notes],
    }


def _numbers(values: pd.Series, names: Iterable[str] | None = None) -> dict[str, int]:
    """How often each value occurs: all values in order, or those named."""
    counts = values.dropna().value_counts().sort_index()
    return {name: int(counts.get(name, 0)) for name in (counts.index if names is None else names)}


def list_files(data: str, finding: str = "") -> None:
    """Prints the files with any finding, or with this finding or verdict."""
    dataset = _known(data)
    table = dataset.manifest()
    rows = table[[bool(reasons) for reasons in table["reasons"]]]
    if finding:
        known = sorted({*table["reasons"].explode().dropna(), *table["verdict"]})
        if finding not in known:
            where = f" among the files of {dataset.name!r}"
            raise unknown("finding or verdict", finding, known, where=where)
        rows = table[[finding in (row.verdict, *row.reasons) for row in table.itertuples()]]
    for row in rows.itertuples():
        print(f"{row.verdict:<7}{row.path}\t{', '.join(row.reasons)}")
    if rows.empty:
        print(f"No file of {dataset.name!r} has a finding.")


def history(data: str) -> None:
    """Prints all decisions, the oldest first."""
    entries = ledger.read(_known(data).folder)
    standing = {act["entry"] for act in ledger.standing(entries)}
    for act in entries:
        about, action, after = f"{len(act['changes']):,} files", act["action"], ""
        if action == "undo":
            about = f"of {act['of']}"
        elif act["entry"] not in standing:
            about += "  (undone)"
        if action in ("label", "verdict"):
            after = ", ".join(sorted({str(change["after"][action]) for change in act["changes"]}))
        print(f"{act['entry']:4}  {act['at']}  {act['by']:<8}{action:<8}{after:<8}{about}")
    if not entries:
        print(f"Nothing has been decided about {data!r}.")


def undo(data: str, entry: int | None = None) -> None:
    """Takes back a decision, by default the last."""
    dataset = _known(data)
    act = cleaning.undo(dataset, entry=entry)
    about = f"{act['action']} by {act['by']} of {len(act['changes']):,} files"
    print(f"Undone: entry {act['entry']}, {about}.\n{_standing(dataset)}")


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
    number = len(set(files))
    print(f"{number:,} files are labelled {label!r} now; clean again to judge them under it.")
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
            raise unknown("threshold", name, kinds)
        try:
            values[name] = kinds[name](text)
        except ValueError:
            message = f"The threshold {name} must be a number. Received: {text!r}."
            raise DarkroomError(message) from None
    return Thresholds(**values)


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
    source_checks.room(
        target, needed=int(table["bytes"].sum()), what=f"the clean copy of {dataset.name}"
    )
    folders = files.folder_names(table["label"].unique())
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
            name = Path(files.plain_name(row.path.rpartition("/")[2]))
            if name.suffix[1:].lower() not in ENDINGS[row.format]:
                name = name.with_suffix(f".{ENDINGS[row.format][0]}")
            place, number = Path(split, folders[row.label], name), 1
            while str(place).casefold() in taken:  # some disks do not tell upper from lower case
                number += 1
                place = place.with_stem(f"{name.stem} ({number})")
            taken.add(str(place).casefold())
            file = aside / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            names.append(f"{place.parent.name}/{place.name}")
        _describe(aside, dataset, table.assign(file_name=names, outer=outer))
    return len(table)


def _describe(folder: Path, dataset: Dataset, table: pd.DataFrame) -> None:
    """Writes `metadata.csv` into every split's folder, and the card."""
    columns = {name: name for name in ("file_name", "label", "group")}
    for name in table.columns[table.columns.str.startswith("attr_")]:
        plain = name.removeprefix("attr_")
        columns[name] = name if plain in columns else plain
    for split, rows in table.groupby("outer"):
        named = rows[list(columns)].rename(columns=columns)
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
