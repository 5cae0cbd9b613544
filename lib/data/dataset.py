"""A data set: its raw files, its manifest, and the hashes that are part of a run's key."""

# ruff: noqa: SIM905  word lists read best as text
from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files, hashing, paths
from lib.data import decode, file_listing, manifest
from lib.data.value_range import Rendering
from lib.errors import DarkroomError, unknown

if TYPE_CHECKING:
    from pandas import DataFrame

SOURCE = "source.json"
UNFINISHED = ".unfinished"
"""Marks a folder whose raw files are still being brought in by us; its content may be
replaced.
"""

OWN = frozenset(
    "source.json manifest.parquet findings.parquet findings.html ledger.jsonl labelled.jsonl "
    "splits pixels scan display.toml README.md features selections.json test_openings.jsonl".split()
)
"""Files of the suite in `datasets/<name>/`, which are no data even if the class folders are in the
same folder.
"""


@dataclass(frozen=True)
class Dataset:
    """A named data set. `raw` is wherever its files are and is never written; `source` says where
    it came from.
    """

    name: str
    folder: Path
    raw: Path
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def sample(self) -> frozenset[str] | None:
        """The paths that belong to a sample of another data set; None where all files do."""
        chosen = self.source.get("sample")
        return None if chosen is None else frozenset(chosen["paths"])

    def files(self) -> list[file_listing.ListedFile]:
        """Returns every file below `raw`, sorted by path, without the suite's own."""
        sample = self.sample
        listed = self.all_files()
        return listed if sample is None else [file for file in listed if file.path in sample]

    def all_files(self) -> list[file_listing.ListedFile]:
        """Returns the same, with the files that do not belong to the sample."""
        options = self.source.get("options", {})
        return file_listing.files(
            self.raw,
            leave_out=OWN if self.raw == self.folder else (),
            links=options.get("links"),
            hidden="use" if options.get("hidden") == "use" else "report",
        )

    @property
    def rendering(self) -> Rendering:
        """Returns how stored values of more than 8 bits and bands become RGB: the options, then
        what the scan has found.
        """
        from lib.data.sources import options as reading_options

        options = self.source.get("options", {})
        scanned = Rendering.from_json(self.source.get("rendering"))
        bands = reading_options.band_numbers(options["bands"]) if options.get("bands") else ()
        ranges, max_pixels = scanned.ranges, scanned.max_pixels
        if options.get("range"):
            ends = reading_options.values_range(options["range"])
            ranges = dict.fromkeys(("uint16", "int16", "int32", "float"), ends)
        if options.get("max_megapixels"):
            max_pixels = 1_000_000 * int(options["max_megapixels"])
        return Rendering(ranges, bands, max_pixels)

    def image(self, path: str) -> decode.Decoded:
        """Returns the picture at `path`, decoded as training sees it. Raises OSError or
        decode.ImageError.
        """
        return decode.decode((self.raw / path).read_bytes(), rendering=self.rendering)

    @property
    def read_as(self) -> str:
        """Returns how the files were read, in one line."""
        rule = self.source.get("label_rule", "the source")
        return self.source.get("understood") or f"label from {rule}"

    @property
    def understood(self) -> str:
        """Returns how the files were read and what was noticed, one line each."""
        source = self.source
        about = [source[name] for name in ("about", "licence", "citation") if source.get(name)]
        lines = [f"{self.name}: {self.read_as}", *(f"  {line}" for line in source.get("notes", []))]
        return "\n".join([*lines, *about])

    def note(self, **facts: Any) -> None:
        """Writes further facts into `source.json`, where the data set is registered."""
        self.source.update(facts)
        if (self.folder / SOURCE).is_file():
            files.write_json(self.folder / SOURCE, self.source)

    def cleaned(self) -> bool:
        """Whether the data set has a manifest, which cleaning writes."""

        return (self.folder / manifest.FILE).is_file()

    def manifest(self) -> DataFrame:
        """Returns the manifest, one row a file. Raises DarkroomError when the data set has not been
        cleaned yet.
        """

        return manifest.read(self.folder, name=self.name)

    def accepted(self) -> DataFrame:
        """Returns the rows of the manifest whose verdict is keep, with a fresh index."""
        table = self.manifest()
        return table[table["verdict"] == "keep"].reset_index(drop=True)

    def raw_digest(self) -> str:
        """Returns a hash over the names and the content of every raw file.

        Files that have not changed since the last call are not read again.
        """
        memory = paths.logs() / ".hashes" / f"{hashing.digest(str(self.raw.resolve()))}.json"
        listed = self.files()
        sound = [(file.path, self.raw / file.path) for file in listed if not file.problem]
        total = hashlib.sha256(json.dumps(self.source.get("options", {}), sort_keys=True).encode())
        entries = [
            *hashing.contents(sound, cache=memory),
            *((file.path, file.problem) for file in listed if file.problem),
        ]
        for path, content in entries:
            total.update(f"{path}\0{content}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def digest(self) -> str:
        """Returns a hash over path, pixels, label, group and source split of every
        accepted file.
        """
        table = self.accepted()[["path", "pixels", "label", "group", "source_split"]]
        total = hashlib.sha256()
        for row in table.itertuples(index=False):
            cells = ["" if value is None or value != value else str(value) for value in row]
            total.update(("\0".join(cells) + "\n").encode())
        return total.hexdigest()


def names() -> list[str]:
    """Returns the sorted names of the data sets that lie in `datasets/`."""
    folder = paths.datasets()
    if not folder.is_dir():
        return []
    here = [
        entry for entry in folder.iterdir() if entry.is_dir() and not (entry / UNFINISHED).exists()
    ]
    return sorted(entry.name for entry in here if not entry.name.startswith("."))


def load(name: str) -> Dataset:
    """Returns a data set that has been brought in before. Raises DarkroomError, naming those there
    are, when it has not.
    """
    folder = paths.dataset(name)
    if not (folder / SOURCE).is_file():
        there = [other for other in names() if other != name]  # a folder may be without a source
        hint = f"Run 1_clean with data={name!r} first (darkroom clean {name})."
        raise unknown("data set", name, there, where=" here yet", hint=hint)
    source = files.read_json(folder / SOURCE)
    if not isinstance(source, dict) or not isinstance(source.get("path") or "raw", str):
        raise DarkroomError(
            f"{folder / SOURCE} is damaged; delete that file and run 1_clean with data={name!r} "
            "again."
        )
    raw = folder / (source.get("path") or "raw")
    if not _is_dir(raw):
        raise DarkroomError(
            f"The folder {raw} that the data set {name!r} refers to is gone; put it back, or say "
            f"where it is now: darkroom data relink {name} FOLDER"
        )
    return Dataset(name=name, folder=folder, raw=raw, source=source)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # what cannot be a path is none
        return False


def register(name: str, source: dict[str, Any]) -> Dataset:
    """Writes `datasets/<name>/source.json` and returns the data set."""
    folder = paths.dataset(name)
    files.write_json(folder / SOURCE, source)
    (folder / UNFINISHED).unlink(missing_ok=True)
    return load(name)


# -- The list of data sets


FORGOTTEN = ".forgotten"
"""Folder of forgotten data sets; nothing is deleted."""

ENOUGH_FILES = 0.9
"""Share of the manifest's files that a folder must hold, of the same size, to be the
same data set.
"""


def overview() -> list[dict[str, Any]]:
    """Returns one row a data set: `name`, `from`, `raw` (None where it is gone), `files`, `kept`,
    `classes`.
    """
    rows = []
    for name in names():
        folder = paths.dataset(name)
        source = files.read_json(folder / SOURCE)
        source = source if isinstance(source, dict) else {}
        raw = folder / str(source.get("path") or "raw")
        row: dict[str, Any] = {"name": name, "from": source.get("from", source.get("kind"))}
        row |= {"raw": str(raw) if raw.is_dir() else None}
        row |= dict.fromkeys(("files", "kept", "classes"))
        try:
            table = manifest.read(folder, name=name)
            kept = table[table["verdict"] == "keep"]
            row |= {"files": len(table), "kept": len(kept), "classes": int(kept["label"].nunique())}
        except DarkroomError:
            pass  # not cleaned yet
        rows.append(row)
    return rows


def rename(name: str, new: str) -> None:
    """Gives a data set another name; runs that were made under the old one keep it.

    Raises DarkroomError when it is not there, or the new name is taken or none.
    """
    folder = _known(name)
    target = paths.dataset(new)
    if target.exists():
        raise DarkroomError(f"The name {new!r} is taken; choose another.")
    source = files.read_json(folder / SOURCE) or {}
    folder.rename(target)
    if source.get("from") == str(folder / "raw"):
        files.write_json(target / SOURCE, {**source, "from": str(target / "raw")})


def forget(name: str) -> Path:
    """Takes a data set out of the list and returns where its folder went; the pictures stay where
    they are.

    Raises DarkroomError when it is not there.
    """
    folder = _known(name)
    target = paths.datasets() / FORGOTTEN / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return target


def relink(name: str, place: Path) -> Dataset:
    """Points a data set to the folder that its pictures have moved to, and returns it.

    Raises DarkroomError unless the folder holds nine in ten of the manifest's files, of the same
    size.
    """
    folder, place = _known(name), place.expanduser().resolve()
    source = files.read_json(folder / SOURCE) or {}
    if not place.is_dir():
        raise DarkroomError(
            f"There is no folder {str(place)!r}; give the one that the pictures moved to."
        )
    if source.get("mode") == "copy":
        raise DarkroomError(
            f"The data set {name!r} has its own copy in {folder / 'raw'}; there is nothing to "
            "relink."
        )
    table = manifest.read(folder, name=name)
    sizes = {
        file.path: file.size for file in file_listing.files(place, links="follow", hidden="use")
    }
    table = table[table["bytes"] > 0]
    same = int((table["path"].map(sizes) == table["bytes"]).sum())
    if same < ENOUGH_FILES * len(table):
        raise DarkroomError(
            f"The folder {place} holds {same:,} of the {len(table):,} files of {name!r}; it is "
            f"another data set, which darkroom clean {place} brings in."
        )
    files.write_json(folder / SOURCE, {**source, "path": place.as_posix(), "from": str(place)})
    return load(name)


def _known(name: str) -> Path:
    if name not in (there := names()):
        raise unknown("data set", name, there)
    return paths.dataset(name)
