"""Registers a data set by name, folder, table or archive, and refuses what cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib import files as files_module
from lib import hashing, paths
from lib.data import dataset as datasets
from lib.data import file_listing, sources, splits
from lib.data.dataset import Dataset
from lib.data.sources import source_checks
from lib.data.sources.vocabulary import READ_ARCHIVES
from lib.errors import DarkroomError, unknown

TABLES = (".csv", ".tsv", ".parquet")
_TINY_CLASS, _TINY_FILES = 40, 1200  # most files of a sample: of a class, of all


def bring(
    data: str,
    *,
    name: str | None = None,
    options: dict[str, Any] | None = None,
) -> Dataset:
    """Returns the data set `data`, brought in if it is not here yet; calling it again is free.

    `data` is the name of a data set in `datasets/` (also of a folder just dropped there), of a
    packaged one (`elpv`, `digits`, `planted`, `marked`), or the path of a folder, table or archive.
    A folder stays where it is and is referred to; an archive is unpacked. `name` is what to call
    it, else the last part of the path. `options` go to the source, such as `{"label": "artist"}`
    for a table. `elpv+tiny` is a sample of `elpv`, for tiny runs.

    Raises:
        DarkroomError: nothing is there; another data set has the name; fewer than two classes; a
            class with one file; no file that looks like an image; too little room on the disk.
    """
    if data.endswith(paths.TINY):
        return _sampled(bring(data.removesuffix(paths.TINY), options=options))
    place = paths.typed(data)
    if not _is_path(data):
        return _by_name(data, options)
    if not place.exists():
        raise DarkroomError(
            f"There is no folder, table or archive at {str(place)!r}; check the path."
        )
    place = place.resolve()
    name = name or _name_for(place)
    known = _known(name, place)
    if known is not None and (options is None or options == _asked(known)):
        return known
    return _from_path(place, name, options)


def _sampled(whole: Dataset) -> Dataset:
    """Returns the data set of a few files of each class of another one, which they stay with."""
    name, source = f"{whole.name}{paths.TINY}", whole.source
    drawn_from = {key: source.get(key) for key in ("kind", "path", "options", "brought")}
    known = files_module.read_json(paths.dataset(name) / datasets.SOURCE) or {}
    is_current = (known.get("sample") or {}).get("drawn_from") == drawn_from
    if is_current and known["path"] == whole.raw.as_posix():
        return datasets.load(name)
    rows = sources.rows(whole)
    usable = rows[rows["label"].notna() & rows["problem"].isna()]
    most = min(_TINY_CLASS, max(_TINY_CLASS // 4, _TINY_FILES // usable["label"].nunique()))
    order = usable.assign(order=[hashing.digest(path) for path in usable["path"]])
    order = splits.in_proportion(order.sort_values("order"), ["label", "source_split"])
    chosen = order.groupby("label").head(most)["path"]
    sample = {"of": whole.name, "num_files": len(rows), "paths": sorted(chosen)}
    place = {"path": whole.raw.as_posix(), "mode": "reference", "from": whole.name}
    return _register(name, {**source, **place, "sample": {**sample, "drawn_from": drawn_from}})


def name_of(data: str, *, name: str | None = None) -> str:
    """Returns the name that `bring` gives to `data`, without looking at its files."""
    if data.endswith(paths.TINY):
        return name_of(data.removesuffix(paths.TINY)) + paths.TINY
    return name or (_name_for(paths.typed(data).resolve()) if _is_path(data) else data)


def _is_path(data: str) -> bool:
    is_file = data.lower().endswith((*READ_ARCHIVES, *TABLES))
    return is_file or data in (".", "..") or any(sign in data for sign in "/\\~")


def _name_for(place: Path) -> str:
    """The name of the set that came from `place`, or the first free one: the last part of the path,
    with more of it if taken.
    """
    names = [_plain_name(parts) for number in range(1, 4) if (parts := place.parts[-number:])]
    names += [f"{names[0]}_{number}" for number in range(2, 100)]
    known = [name for name in datasets.names() if not name.endswith(paths.TINY)]
    for name in (*(name for name in names[:3] if name in known), *known):
        source = files_module.read_json(paths.dataset(name) / datasets.SOURCE)
        if isinstance(source, dict) and _is_from(source, paths.dataset(name), place):
            return name
    is_free = lambda name: not (paths.dataset(name) / datasets.SOURCE).is_file()  # noqa: E731
    return next(filter(is_free, names), names[0])


def _plain_name(parts: Sequence[str]) -> str:
    stem = parts[-1]
    for ending in (*READ_ARCHIVES, *TABLES):
        stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
    joined = "_".join([*parts[:-1], stem])
    return re.sub(r"[^\w.@+-]+", "_", joined).lstrip("._@+-")[:100] or "data"


def _is_from(source: dict[str, Any], folder: Path, place: Path) -> bool:
    return (
        source.get("from") == str(place)
        or (folder / str(source.get("path") or "raw")) == place
        or folder == place
    )


def _known(name: str, place: Path) -> Dataset | None:
    """The data set of that name where it came from `place`; a clash with one from elsewhere is
    refused.
    """
    if not (paths.dataset(name) / datasets.SOURCE).is_file():
        return None
    source = files_module.read_json(paths.dataset(name) / datasets.SOURCE) or {}
    if _is_from(source, paths.dataset(name), place):
        return datasets.load(name)
    raise DarkroomError(
        f"The name {name!r} is taken by the data set from "
        f"{source.get('from', paths.dataset(name))}; give this one another "
        "by --name NAME (in 1_clean: options = {'name': 'NAME'}), or forget that one: "
        f"darkroom data forget {name}"
    )


def _asked(dataset: Dataset) -> dict[str, Any]:
    return dataset.source.get("asked", dataset.source.get("options", {}))


def _by_name(name: str, options: dict[str, Any] | None) -> Dataset:
    folder = paths.dataset(name)
    if (folder / datasets.SOURCE).is_file():
        there = datasets.load(name)
        if options is None or options == _asked(there):
            return there
        if there.source["kind"] in sources.PACKAGED:
            raise DarkroomError(
                f"The data set {name!r} comes with its labels; it takes no options. Received: "
                f"{', '.join(options)}."
            )
        origin = Path(there.source.get("from", there.raw))
        place = Path(there.source["path"])
        source = _describe(there.raw, place, options=options, origin=origin, folder=folder)
        return _register(name, source)
    if folder.is_dir() and not (folder / datasets.UNFINISHED).exists():
        raw = folder / "raw" if (folder / "raw").is_dir() else folder
        place = raw.relative_to(folder)
        source = _describe(raw, place, options=options, origin=raw, folder=folder)
        return _register(name, source)
    if name in sources.PACKAGED:
        packaged = sources.module(name)
        source_checks.room(paths.root(), needed=200_000_000, what=f"the data set {name!r}")
        source = {"kind": name, "mode": "copy", "path": "raw", "about": packaged.ABOUT}
        return _register(name, source | _fill(folder, packaged.intake))
    choices = sorted({*datasets.names(), *sources.PACKAGED})
    place = paths.datasets() / name / "raw"
    hint = f"Put class folders into {place}, or give the path of a folder."
    raise unknown("data set", name, choices, hint=hint)


def _from_path(place: Path, name: str, options: dict[str, Any] | None) -> Dataset:
    folder = paths.dataset(name)
    if place.is_file() and place.name.lower().endswith(READ_ARCHIVES):
        from lib.data.sources import archives

        needed = archives.unpacked_bytes(place, encoding=(options or {}).get("encoding"))
        source_checks.room(paths.root(), needed=needed, what=str(place))
        noted = _fill(folder, lambda raw: _unpack(place, raw, name, options))
        return _register(name, noted)
    if place.is_file() and not place.name.lower().endswith(TABLES):
        raise DarkroomError(
            f"{str(place)!r} is a file, neither a table ({', '.join(TABLES)}) nor an archive "
            f"({', '.join(READ_ARCHIVES)}); give the folder that holds the class folders."
        )
    root = place.parent if place.is_file() else place
    if _holds_parquet_pictures(root):
        return _register(
            name, _fill(folder, lambda raw: _unpack_parquet(root, raw, place, options))
        )
    if place.is_file():
        options = {"table": place.name, **(options or {})}
    return _register(name, _describe(root, root, options=options, origin=place, folder=folder))


def _describe(
    raw: Path, path: Path, *, options: dict[str, Any] | None, origin: Path, folder: Path
) -> dict[str, Any]:
    """Reads the folder and returns what `source.json` notes. Raises DarkroomError for a question or
    a useless folder.
    """
    source = {
        "kind": "folders",
        "path": path.as_posix(),
        "from": str(origin),
        "mode": "copy" if path == Path("raw") else "reference",
        "options": options or {},
    }
    files = Dataset(folder.name, folder, raw, source).files()
    if not files:
        raise DarkroomError(
            f"The folder {origin} is empty; expected one folder for each class with images in it."
        )
    source_checks.some_image(files, where=origin, raw=raw)
    reading = sources.read_folder(raw, files, options or {})
    return source | {
        "kind": reading.kind,
        "asked": options or {},
        "options": {**reading.options, **(options or {})},
        "label_rule": reading.label,
    }


def _preview(source: dict[str, Any], raw: Path, name: str, folder: Path) -> Any:
    return sources.rows(Dataset(name, folder, raw, source))


def _register(name: str, source: dict[str, Any]) -> Dataset:
    folder = paths.dataset(name)
    raw = folder / source["path"]
    rows = _preview(source, raw, name, folder)
    source_checks.usable(rows, where=raw)
    facts = {
        **rows.attrs.get("facts", {}),
        "brought": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return datasets.register(name, {**source, **facts})


def _fill(folder: Path, intake: Callable[[Path], dict[str, Any] | None]) -> dict[str, Any]:
    if (folder / "raw").exists() and not (folder / datasets.UNFINISHED).exists():
        raise DarkroomError(
            f"{folder / 'raw'} is there already and is not overwritten; give this data set another "
            "name."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / datasets.UNFINISHED).touch()
    with files_module.directory(folder / "raw") as aside:
        return intake(aside) or {}


def _unpack(
    archive: Path, aside: Path, name: str, options: dict[str, Any] | None
) -> dict[str, Any]:
    """Unpacks and looks at the result while it still lies aside, so that a useless archive leaves
    nothing behind.
    """
    from lib.data.sources import archives

    archives.extract(archive, aside, encoding=(options or {}).get("encoding"))
    try:
        source = _describe(aside, Path("raw"), options=options, origin=archive, folder=aside.parent)
    except DarkroomError as error:
        raise DarkroomError(str(error).replace(f"folder {aside}", f"archive {archive}")) from error
    source_checks.usable(_preview(source, aside, name, aside.parent), where=archive)
    return source


def _holds_parquet_pictures(root: Path) -> bool:
    from lib.data.sources import archives

    files = file_listing.files(root)
    return bool(archives.find_pictures(root, files)) and not any(
        file.path.lower().endswith((".jpg", ".jpeg", ".png")) for file in files
    )


def _unpack_parquet(
    root: Path, aside: Path, origin: Path, options: dict[str, Any] | None
) -> dict[str, Any]:
    """Writes the pictures of Parquet files as files, and reads them by the table beside them."""
    from lib.data.sources import archives

    files = file_listing.files(root)
    tables = archives.find_pictures(root, files)
    sizes = {file.path: file.size for file in files}
    source_checks.room(aside.parent, needed=sum(sizes[path] for path in tables), what=str(root))
    archives.unpack_pictures(root, tables, aside)
    wanted = {"table": archives.TABLE, **(options or {})}
    source = _describe(aside, Path("raw"), options=wanted, origin=origin, folder=aside.parent)
    source["asked"] = options or {}
    return source
