"""The findings as a self-contained page, `findings.html`, with pictures free of metadata."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from lib import files as files_module
from lib.cleaning import ledger
from lib.cleaning.findings import DESCRIPTIONS
from lib.reporting import images, text

if TYPE_CHECKING:
    from lib.cleaning.clean import Cleaned
    from lib.data.dataset import Dataset

FILE = "findings.html"
TEMPLATES = Path(__file__).parent / "templates"
MOST_OF_A_KIND = 24
MOST_GROUPS = 40
MOST_OF_A_GROUP = 8
TWINS = (
    "two_labels",
    "near_two_labels",
    "duplicate_across_splits",
    "exact_duplicate",
    "near_duplicate",
)
"""Findings that are about several files at once, the worst first; their pictures stand side by
side.
"""


def write(cleaned: Cleaned) -> Path:
    """Writes `datasets/<name>/findings.html` and returns its path."""
    path = cleaned.dataset.folder / FILE
    files_module.write_text(path, render(cleaned))
    return path


def render(cleaned: Cleaned) -> str:
    """Returns the page as text: counts, classes before and after, duplicates side by side, the
    worst files of each kind.
    """
    kinds, groups = _kinds(cleaned), _groups(cleaned)
    shown = [card["path"] for kind in kinds for card in kind["cards"]]
    shown += [card["path"] for group in groups for card in group["cards"]]
    decoded = set(
        cleaned.manifest.loc[cleaned.manifest["pixels"].notna(), "path"]
    )  # others may be pipes, which never end
    return (
        text.templates(TEMPLATES)
        .get_template(FILE)
        .render(
            dataset=cleaned.dataset,
            sentence=cleaned.sentence(),
            verdicts=cleaned.manifest["verdict"].value_counts().to_dict(),
            num_files=len(cleaned.manifest),
            counts=_counts(cleaned),
            classes=_classes(cleaned),
            groups=groups,
            num_groups=int((_sizes(cleaned) > 1).sum()),
            largest=len(cleaned.largest_group),
            kinds=kinds,
            leaks=leaks(cleaned),
            pictures=images.data_uris(
                cleaned.dataset.raw, [path for path in shown if path in decoded], side=144
            ),
            by_hand=[
                act
                for act in ledger.standing(ledger.read(cleaned.dataset.folder))
                if act["by"] != ledger.MACHINE
            ],
        )
    )


def leaks(cleaned: Cleaned) -> pd.DataFrame:
    """Returns how many groups and files of near-duplicates lie in more than one of the source's own
    splits, one row a pair.
    """
    table = cleaned.manifest.dropna(subset=["source_split", "pixels"])
    splits = table.groupby("copy_group")["source_split"].agg(
        lambda values: " and ".join(sorted(set(values)))
    )
    several = splits[splits.str.contains(" and ")]
    files = table[table["copy_group"].isin(several.index)].assign(
        splits=lambda rows: rows["copy_group"].map(several)
    )
    return (
        files.groupby("splits")
        .agg(groups=("copy_group", "nunique"), files=("path", "size"))
        .reset_index()
    )


def _sizes(cleaned: Cleaned) -> pd.Series:
    return cleaned.manifest[cleaned.manifest["pixels"].notna()]["copy_group"].value_counts()


def _counts(cleaned: Cleaned) -> list[dict[str, Any]]:
    order = {"reject": 0, "review": 1, "keep": 2}
    rows = [
        {
            "reason": row.Index,
            "title": DESCRIPTIONS[row.Index][0],
            "meaning": DESCRIPTIONS[row.Index][1],
            "files": int(row.files),
            "verdict": row.verdict,
            "place": "duplicates" if row.Index in TWINS else row.Index,
        }
        for row in cleaned.counts.itertuples()
    ]
    return sorted(rows, key=lambda row: (order[row["verdict"]], -row["files"]))


def _classes(cleaned: Cleaned) -> list[dict[str, Any]]:
    table = cleaned.classes
    most = max(1, int(table["before"].max())) if len(table) else 1
    return [
        {
            "name": str(name),
            **{key: int(value) for key, value in row.items()},
            "same": row["before"] == row["after"],
            "shares": {
                verdict: 100 * row[verdict] / most for verdict in ("keep", "review", "reject")
            },
        }
        for name, row in table.iterrows()
    ]


def _kinds(cleaned: Cleaned) -> list[dict[str, Any]]:
    kinds = []
    for kind in _counts(cleaned):
        if kind["reason"] in TWINS:
            continue
        rows = cleaned.findings[cleaned.findings["reason"] == kind["reason"]].sort_values(
            ["score", "path"]
        )
        cards = [
            _card(cleaned.dataset, row.path, row.detail)
            for row in rows.head(MOST_OF_A_KIND).itertuples()
        ]
        kinds.append({**kind, "cards": cards})
    return kinds


def _groups(cleaned: Cleaned) -> list[dict[str, Any]]:
    """The groups of duplicates: those under two labels first, then those across splits, then the
    largest.
    """
    table = cleaned.manifest.assign(likeness=cleaned.scanned["likeness"].to_numpy())
    table = table[table["pixels"].notna()]
    sizes = _sizes(cleaned)
    members = table[table["copy_group"].isin(sizes.index[sizes > 1])]
    if members.empty:
        return []
    summary = members.groupby("copy_group").agg(
        size=("path", "size"), labels=("label", "nunique"), splits=("source_split", "nunique")
    )
    summary["twice"], summary["leaks"] = summary["labels"] > 1, summary["splits"] > 1
    chosen = summary.sort_values(["twice", "leaks", "size"], ascending=False, kind="stable").head(
        MOST_GROUPS
    )
    groups = []
    for number, about in chosen.iterrows():
        rows = members[members["copy_group"] == number].sort_values(
            ["likeness", "path"], ascending=[False, True]
        )
        first = rows["pixels"].iloc[0]
        cards = [
            _card(
                cleaned.dataset,
                row.path,
                _kinship(row, first, at == 0),
                label=row.label,
                split=row.source_split,
                verdict=row.verdict,
            )
            for at, row in enumerate(rows.head(MOST_OF_A_GROUP).itertuples())
        ]
        groups.append({**about[["size", "twice", "leaks"]].to_dict(), "cards": cards})
    return groups


def _kinship(row: Any, pixels: str, first: bool) -> str:
    if first:
        return "representative"
    return "the same pixels" if row.pixels == pixels else f"likeness {row.likeness:.2f}"


def _card(dataset: Dataset, path: str, detail: str, **more: Any) -> dict[str, Any]:
    plain = {
        name: None if value is None or value != value else value for name, value in more.items()
    }
    return {"path": path, "detail": detail, "href": _link(dataset, path), **plain}


def _link(dataset: Dataset, path: str) -> str:
    file = dataset.raw / path
    if dataset.raw.is_relative_to(dataset.folder):
        return quote(file.relative_to(dataset.folder).as_posix())
    return file.as_uri() if os.fspath(file).isprintable() else ""
