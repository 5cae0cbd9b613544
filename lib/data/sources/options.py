"""Options that determine how a folder is read, checked before any file is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from lib.errors import DarkroomError, check_choice, suggest

KINDS = ("folders", "table")
SEVERAL = ("first", "last", "drop", "join", "all")
SPLITS = ("train", "val", "test", "none")


@dataclass(frozen=True)
class Options:
    """Options of reading a folder; None is inferred, or asked for if two readings are plausible.

    Args:
        kind: `folders` or `table`, where both would do.
        level: the folder level of the classes, from 1, or `last` for the folder of each file.
        table: the file name of the table.
        image: its column of file names.
        label: its column of labels, or `name` / `name:REGEX` for the start of the file names.
        separator: what stands between several labels in a cell.
        several: of several labels of one picture `first`, `last`, `drop` (the picture), `join` or
            `all`.
        split: the column or `level N` that holds the source's own split, or `none`.
        split_names: what unknown names of splits are, such as `holdout:test,extra:train`.
        group: columns, `level N` or `name:REGEX` whose equal values stay in one split, joined by
            `+`, or `none`.
        range: the stored values that become black and white, such as `0..4095`.
        bands: the bands that are red, green, blue, such as `4,3,2`, or the one that is grey.
        max_megapixels: million pixels above which a picture is not decoded, 100 by default.
        links: `follow`, or the folder below which links may lead.
        hidden: `use` to read files and folders whose name begins with a dot.
        ignore: folders to leave out, with `,` between them.
        names: `merge` or `keep` class names that a reader would take for the same; `keep` also
            keeps numbers that a list of class names explains.
        encoding: of a table's text, or of the names in a zip file.
    """

    kind: str | None = None
    level: str | None = None
    table: str | None = None
    image: str | None = None
    label: str | None = None
    separator: str | None = None
    several: str | None = None
    split: str | None = None
    split_names: str | None = None
    group: str | None = None
    range: str | None = None
    bands: str | None = None
    max_megapixels: str | None = None
    links: str | None = None
    hidden: str | None = None
    ignore: str | None = None
    names: str | None = None
    encoding: str | None = None

    @property
    def level_number(self) -> int | None:
        """Returns `level` as a number from 1, -1 for the last, or None."""
        return None if self.level is None else -1 if self.level == "last" else int(self.level)

    @property
    def ignored(self) -> frozenset[str]:
        """Returns the folders to leave out, without slashes at the ends."""
        return frozenset(part.strip().strip("/") for part in (self.ignore or "").split(",")) - {""}

    @property
    def named_splits(self) -> dict[str, str | None]:
        """Returns what unknown names of splits are, by their name in lower case; None
        is no split.
        """
        pairs = [pair.split(":", 1) for pair in re.split(r"[,|]", self.split_names or "") if pair]
        return {
            name.strip().casefold(): None if split == "none" else split.strip()
            for name, split in pairs
        }

    def given(self) -> dict[str, str]:
        """Returns the options that are not None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def parse(given: dict[str, Any] | None) -> Options:
    """Returns the options as texts. Raises DarkroomError for an unknown name or a value that cannot
    be one.
    """
    known = [field.name for field in fields(Options)]
    for name in given or {}:
        if name not in known:
            raise DarkroomError(
                f"There is no option {name!r}; there is "
                f"{', '.join(known)}.{suggest(str(name), known)}"
            )
    values = {name: _text(value) for name, value in (given or {}).items()}
    options = Options(**{name: value for name, value in values.items() if value is not None})
    _refuse_values(options)
    return options


def check_parameters(values: dict[str, Any]) -> None:
    """Raises DarkroomError for a way to read in `1_clean` that there is not."""
    parse(values["reading"])


def values_range(text: str) -> tuple[float, float]:
    """Returns the two ends of `low..high`. Raises DarkroomError for another form."""
    match = re.fullmatch(
        r"\s*(-?[\d.]+(?:e-?\d+)?)\s*(?:\.\.|,|:)\s*(-?[\d.]+(?:e-?\d+)?)\s*", text
    )
    try:
        low, high = (float(part) for part in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise DarkroomError(
            "`range` is two stored values, that of black below that of white, such as 0..4095. "
            f"Received: {text!r}."
        )
    return low, high


def band_numbers(text: str) -> tuple[int, ...]:
    """Returns band numbers from 1. Raises DarkroomError unless there are one or three."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"[1-9]\d{0,3}", part) for part in parts):
        raise DarkroomError(
            "`bands` is one band number or three, counted from 1, such as 4,3,2. Received: "
            f"{text!r}."
        )
    return tuple(map(int, parts))


def _text(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = "" if value is None else str(value)
    return text if text.strip() or text == "\t" or text == " " else None


def _refuse_values(options: Options) -> None:
    for name, choices in (
        ("kind", KINDS),
        ("several", SEVERAL),
        ("names", ("merge", "keep")),
        ("hidden", ("use",)),
    ):
        if (value := getattr(options, name)) is not None:
            check_choice(name, value, choices)
    for name, pattern, what in (
        ("level", r"[1-9]\d?|last", "the number of a folder level, from 1, or 'last'"),
        ("max_megapixels", r"[1-9]\d{0,2}|1000", "a whole number of million pixels, 1 to 1000"),
    ):
        value = getattr(options, name)
        if value is not None and not re.fullmatch(pattern, value):
            raise DarkroomError(f"`{name}` is {what}. Received: {value!r}.")
    if options.range is not None:
        values_range(options.range)
    if options.bands is not None:
        band_numbers(options.bands)
    for pair in re.split(r"[,|]", options.split_names or ""):
        name, _, split = pair.partition(":")
        if pair and (not name.strip() or split.strip() not in SPLITS):
            raise DarkroomError(
                "`split_names` says what unknown names of splits are, such as "
                f"holdout:test,extra:none; each is one of {', '.join(SPLITS)}. Received: "
                f"{options.split_names!r}."
            )
    for name in ("label", "group"):
        kind, _, pattern = (getattr(options, name) or "").partition(":")
        if kind == "name" and pattern:
            _refuse_pattern(name, pattern)


def _refuse_pattern(option: str, pattern: str) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DarkroomError(
            f"`{option}` has a pattern that is none ({error}). Received: {pattern!r}."
        ) from error
    if compiled.groups > 1:
        raise DarkroomError(
            f"`{option}` takes a pattern with at most one group in brackets. Received: {pattern!r}."
        )
