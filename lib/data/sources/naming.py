"""Attributes in class names: "Audi S5 Coupe 2012" has a make, a type and a year."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

_YEAR = re.compile(r"^(?P<words>\S+(?: \S+)+) (?P<year>(?:19|20)\d\d)$")
_MAKES_OF_TWO_WORDS = ("AM General", "Alfa Romeo", "Aston Martin", "Great Wall", "Land Rover")
_BODIES = ("Sedan", "SUV", "Coupe", "Convertible", "Hatchback", "Wagon", "Van", "Minivan", "Pickup")
_TYPES = {
    **{name.lower(): name for name in _BODIES},
    "cab": "Pickup",
    "supercab": "Pickup",
    "sut": "Pickup",
    "roadster": "Convertible",
    "cabriolet": "Convertible",
    "estate": "Wagon",
}
"""The words that name a body; a cab (Crew Cab, Extended Cab) is a pickup's."""


def parts(name: str) -> dict[str, object] | None:
    """Returns `make`, `type` (None where no word names it) and `year` of a class name "Make Model
    Type Year", else None.
    """
    year = _YEAR.match(name)
    if not year:
        return None
    words = year["words"]
    make = next(
        (each for each in _MAKES_OF_TWO_WORDS if words.startswith(each + " ")), words.split(" ")[0]
    )
    bodies = [_TYPES[word.lower()] for word in words[len(make) :].split() if word.lower() in _TYPES]
    return {"make": make, "type": bodies[-1] if bodies else None, "year": int(year["year"])}


def columns(labels: Iterable[str | None]) -> pd.DataFrame:
    """Returns `attr_make`, `attr_type` and `attr_year`, one row a label; no columns unless every
    class name has the parts.

    Rows without a label have none.
    """
    labels = pd.Series(list(labels), dtype=object)
    known = {name: parts(name) for name in labels.dropna().unique()}
    if len(known) < 2 or not all(known.values()):
        return pd.DataFrame(index=range(len(labels)))
    attributes = [known.get(name, {}) if name is not None else {} for name in labels]
    return pd.DataFrame(
        {
            "attr_make": pd.Series([row.get("make") for row in attributes], dtype=object),
            "attr_type": pd.Series([row.get("type") for row in attributes], dtype=object),
            "attr_year": pd.array([row.get("year") for row in attributes], dtype="Int64"),
        }
    )
