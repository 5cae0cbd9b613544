"""How a source was read, and its rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from lib.errors import few


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read a folder.

    Args:
        kind: `folders`, `table` or `names`.
        rows: one row a file: `path`, `label`, `source_split`, `source_group` (None where there is
            none), `attr_*`, `box_*`, and until the end `unused`, the reason if it has no label.
        label: where the label comes from, such as `folder level 2` or `column dx of metadata.csv`.
        split: where the source's own split comes from, or None.
        group: what keeps files in one split, or None.
        rows_not_used: reason -> rows of a table that gave no picture its label.
        files_not_used: reason -> files of the folder that have no label or are no pictures.
        notes: sentences for the user.
        options: the options by which this reading is found again.
        tables: the paths of the tables that were used.
    """

    kind: str
    rows: pd.DataFrame
    label: str
    split: str | None = None
    group: str | None = None
    rows_not_used: Counter[str] = field(default_factory=Counter)
    files_not_used: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    @property
    def counts(self) -> pd.Series:
        """Returns the number of files of each class, the most first."""
        return self.rows["label"].dropna().value_counts()

    def noting(self, *notes: str, **changes: Any) -> Reading:
        """Returns this reading with further notes and changed fields."""
        return replace(self, notes=(*self.notes, *(note for note in notes if note)), **changes)

    def facts(self) -> dict[str, Any]:
        """Returns what `source.json` keeps: how it was read, what was not used and why."""
        why = dict(self.rows_not_used)
        for key, number in self.files_not_used.items():
            why[f"{key} (files)" if key in why else key] = number
        return {
            "read_as": {"label": self.label, "split": self.split, "group": self.group},
            "not_used": {
                "rows": sum(self.rows_not_used.values()),
                "files": sum(self.files_not_used.values()),
                "why": {key: int(number) for key, number in why.items() if number},
            },
            "notes": list(self.notes),
        }


def class_counts(counts: pd.Series, most: int = 6) -> str:
    """Returns `3 classes: cat 18, dog 18, owl 18`."""
    listed = few([f"{name} {number:,}" for name, number in counts.items()], most)
    return f"{len(counts):,} {'class' if len(counts) == 1 else 'classes'}: {listed}"


def sentence(facts: dict[str, Any], rows: pd.DataFrame) -> str:
    """Returns what was understood in one line: classes, split, label, group, what is not used."""
    rows = rows[rows["problem"].ne("missing")]
    splits = rows.loc[rows["label"].notna(), "source_split"].dropna().value_counts()
    read_as, unused = facts["read_as"], facts["not_used"]
    ordered = [f"{name} {splits[name]:,}" for name in ("train", "val", "test") if name in splits]
    parts = [
        class_counts(rows["label"].dropna().value_counts().sort_index()),
        f"split {', '.join(ordered)} from {read_as['split']}" if ordered else "",
        f"label from {read_as['label']}",
        f"groups from {read_as['group']}" if read_as["group"] else "",
    ]
    if unused["why"]:
        why = few([f"{key} {number:,}" for key, number in unused["why"].items()], 6)
        counted = [f"{unused[name]:,} {name}" for name in ("rows", "files") if unused[name]]
        parts.append(f"{' and '.join(counted)} not used: {why}")
    return " · ".join(part for part in parts if part)


# -- Attributes in class names: "Audi S5 Coupe 2012" has a make, a type and a year


_YEAR = re.compile(r"^(?P<words>\S+(?: \S+)+) (?P<year>(?:19|20)\d\d)$")
_MAKES_OF_TWO_WORDS = ("AM General", "Alfa Romeo", "Aston Martin", "Great Wall", "Land Rover")
_BODIES = ("Sedan", "SUV", "Coupe", "Convertible", "Hatchback", "Wagon", "Van", "Minivan", "Pickup")
_TYPES = {name.lower(): name for name in _BODIES} | {
    "cab": "Pickup",
    "supercab": "Pickup",
    "sut": "Pickup",
    "roadster": "Convertible",
    "cabriolet": "Convertible",
    "estate": "Wagon",
}
"""The words that name a body; a cab (Crew Cab, Extended Cab) is a pickup's."""


def name_parts(name: str) -> dict[str, object] | None:
    """Returns `make`, `type` (None where no word names it) and `year` of a class name "Make Model
    Type Year", else None.
    """
    year = _YEAR.match(name)
    if not year:
        return None
    words = year["words"]
    two = [make for make in _MAKES_OF_TWO_WORDS if words.startswith(make + " ")]
    make = two[0] if two else words.split(" ")[0]
    bodies = [_TYPES[word] for word in words[len(make) :].lower().split() if word in _TYPES]
    return {"make": make, "type": bodies[-1] if bodies else None, "year": int(year["year"])}


def name_attributes(labels: pd.Series) -> pd.DataFrame:
    """Returns `attr_make`, `attr_type` and `attr_year`, one row a label; no columns unless every
    class name has the parts.

    Rows without a label have none.
    """
    known = {name: name_parts(name) for name in labels.dropna().unique()}
    if len(known) < 2 or not all(known.values()):
        return pd.DataFrame(index=labels.index)
    parts = pd.DataFrame(known.values(), index=known.keys(), dtype=object).add_prefix("attr_")
    attributes = parts.reindex(labels).set_axis(labels.index)
    attributes = attributes.where(attributes.notna(), None)
    return attributes.assign(attr_year=attributes["attr_year"].astype("Int64"))
