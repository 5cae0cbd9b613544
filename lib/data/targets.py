"""Targets: which column a model learns, and which of its classes.

label                            the class of each image
attr_style                       another column of the manifest
label:Photo                      one class against the rest
label=Horror|Animation           these classes alone; other images take no part
attr_genres/first                a cell holds several classes, "Horror|Comedy": the first one counts
attr_genres/rarest=Horror|Drama  the one with the fewest images counts; then these alone
attr_genres/all                  all of them, each present or not
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas

from lib.errors import DarkroomError, check_choice, few, suggest

REST = "rest"
"""The class of everything that is not the one class asked for."""

SEPARATOR = "|"
"""Parts the classes of one cell, and those that a target names."""

RULES = ("first", "rarest", "all")
_TARGET = re.compile(
    r"(?P<column>[^/:=]+)(?:/(?P<rule>[^:=]*))?(?:(?P<sign>[:=])(?P<classes>.*))?", re.DOTALL
)


@dataclass(frozen=True)
class Target:
    """A target taken apart: `rule` is one of RULES or None, `positive` the class of `column:class`,
    `only` those of `=`.
    """

    column: str
    rule: str | None = None
    positive: str | None = None
    only: tuple[str, ...] = ()


def parse(target: str) -> Target:
    """Returns the parts of a target. Raises DarkroomError for one that has another form or an
    unknown rule.
    """
    match = _TARGET.fullmatch(target)
    if not match:
        raise DarkroomError(
            "A target is such as 'label', 'label:Photo' or 'label=Photo|Text'. Received: "
            f"{target!r}."
        )
    rule = match["rule"]
    if rule is not None:
        check_choice("rule", rule, RULES, where=f"target = {target!r}")
    if match["sign"] == ":":
        return Target(match["column"], rule, positive=match["classes"])
    named = [name.strip() for name in (match["classes"] or "").split(SEPARATOR)]
    if match["sign"] == "=" and (len(set(named)) < 2 or "" in named):
        raise DarkroomError(
            f"After '=' stand at least two classes with '{SEPARATOR}' between them, such as "
            f"'label=Horror|Drama'. Received: {target!r}."
        )
    return Target(
        match["column"], rule, only=tuple(sorted(set(named))) if match["sign"] == "=" else ()
    )


def truth(manifest: pandas.DataFrame, target: str = "label") -> pandas.Series:
    """Returns the true class name of each row as strings; rows without one are missing values.

    Args:
        manifest: rows of a manifest.
        target: a column (`label`, `attr_…`), or `column:class` for two classes, that one and
            `rest`; see the module for rules and choices of classes.

    Raises:
        DarkroomError: for a column or class that the data set has not, or a target with fewer than
            two classes.
    """
    wanted = parse(target)
    values = _column(manifest, wanted.column).astype("string")
    if wanted.rule == "all":
        raise DarkroomError(
            f"{target!r} gives an image several classes; here it takes one. Use "
            f"'{wanted.column}/first' or '{wanted.column}/rarest'."
        )
    if wanted.rule is not None:
        values = _one(_lists(values), wanted.rule)
    classes = sorted(values.dropna().unique())
    if wanted.positive:
        _known((wanted.positive,), classes, wanted.column)
        values = values.where(values.isna() | (values == wanted.positive), REST)
        classes = [wanted.positive, REST]
    if wanted.only:
        _known(wanted.only, classes, wanted.column)
        values = values.where(values.isin(wanted.only))
        classes = list(wanted.only)
    if len(classes) < 2:
        raise DarkroomError(
            f"To learn {target!r} takes at least two classes. Received {len(classes)}: "
            f"{', '.join(classes) or 'none'}. "
            "Put each class into a folder of its own, or choose another target."
        )
    return values


def several(manifest: pandas.DataFrame, target: str) -> pandas.Series:
    """Returns the list of sorted class names of each row for a target `column/all`; an empty list
    where it has none.

    Raises DarkroomError as `truth` does.
    """
    wanted = parse(target)
    lists = _lists(_column(manifest, wanted.column).astype("string"))
    classes = sorted({name for names in lists for name in names})
    _known(wanted.only, classes, wanted.column)
    keep = set(wanted.only or classes)
    if len(keep) < 2:
        raise DarkroomError(
            f"To learn {target!r} takes at least two classes. Received: "
            f"{', '.join(classes) or 'none'}."
        )
    return lists.map(lambda names: sorted({name for name in names if name in keep}))


def for_split(target: str) -> str:
    """Returns the target to divide by: where images bear several classes, their rarest one, so that
    each split has it.
    """
    wanted = parse(target)
    if wanted.rule != "all":
        return target
    return f"{wanted.column}/rarest" + ("=" + SEPARATOR.join(wanted.only) if wanted.only else "")


def stratum(target: str) -> str:
    """Returns the target whose classes keep their shares in every split: the whole column for one
    class against the rest.
    """
    wanted = parse(target)
    if wanted.positive is None:
        return target
    return wanted.column + (f"/{wanted.rule}" if wanted.rule else "")


def _column(manifest: pandas.DataFrame, column: str) -> pandas.Series:
    choices = ["label", *(name for name in manifest.columns if name.startswith("attr_"))]
    check_choice("target", column, choices)
    return manifest[column]


def _known(named: tuple[str, ...], classes: list[str], column: str) -> None:
    for name in named:
        if name not in classes:
            raise DarkroomError(
                f"{name!r} is no class of {column}; its classes: "
                f"{few(classes, 12)}.{suggest(name, classes)}"
            )


def _lists(values: pandas.Series) -> pandas.Series:
    cells = values.fillna("").astype(object).str.split(SEPARATOR, regex=False)
    return cells.map(lambda cell: [*filter(None, map(str.strip, cell))])


def _one(lists: pandas.Series, rule: str) -> pandas.Series:
    counts = lists.explode().value_counts()
    if rule == "rarest":
        lists = lists.map(lambda names: sorted(names, key=lambda name: (counts[name], name)))
    return lists.str[0].astype("string")
