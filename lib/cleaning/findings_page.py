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
from lib.data import thumbnails
from lib.data.manifest import VERDICTS
from lib.reporting import text

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
    shown = [card["path"] for part in (*kinds, *groups) for card in part["cards"]]
    table = cleaned.manifest
    decoded = set(table.loc[table["pixels"].notna(), "path"])  # others may be pipes
    wanted = [path for path in shown if path in decoded]
    acts = ledger.standing(ledger.read(cleaned.dataset.folder))
    page = text.templates(TEMPLATES).get_template(FILE)
    return page.render(
        dataset=cleaned.dataset,
        sentence=cleaned.sentence(),
        verdicts=table["verdict"].value_counts().to_dict(),
        num_files=len(table),
        classes=list(cleaned.classes.itertuples()),
        groups=groups,
        num_groups=int((table.loc[table["pixels"].notna(), "copy_group"].value_counts() > 1).sum()),
        largest=len(cleaned.largest_group),
        kinds=kinds,
        leaks=leaks(cleaned),
        pictures=thumbnails.data_uris(cleaned.dataset.raw, wanted, side=144),
        by_hand=[act for act in acts if act["by"] != ledger.MACHINE],
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
    named = files.groupby("splits").agg(groups=("copy_group", "nunique"), files=("path", "size"))
    return named.reset_index()


def _kinds(cleaned: Cleaned) -> list[dict[str, Any]]:
    """The kinds of findings, the hardest verdict first, with the worst files of each; those about
    several files have their pictures in the groups.
    """
    kinds = []
    for row in cleaned.counts.itertuples():
        reason, (title, meaning) = row.Index, DESCRIPTIONS[row.Index]
        rows = cleaned.findings[cleaned.findings["reason"] == reason]
        worst = rows.sort_values(["score", "path"]).head(MOST_OF_A_KIND)
        kinds.append(
            {
                "reason": reason,
                "title": title,
                "meaning": meaning,
                "files": row.files,
                "verdict": row.verdict,
                "cards": [] if reason in TWINS else _cards(cleaned.dataset, worst),
            }
        )
    return sorted(kinds, key=lambda kind: (-VERDICTS.index(kind["verdict"]), -kind["files"]))


def _groups(cleaned: Cleaned) -> list[dict[str, Any]]:
    """The groups of duplicates: those under two labels first, then those across splits, then the
    largest.
    """
    table = cleaned.manifest.assign(likeness=cleaned.scanned["likeness"].to_numpy())
    table = table[table["pixels"].notna()]
    members = table[table.duplicated("copy_group", keep=False)]
    summary = members.groupby("copy_group").agg(
        size=("path", "size"), twice=("label", "nunique"), leaks=("source_split", "nunique")
    )
    summary[["twice", "leaks"]] = summary[["twice", "leaks"]] > 1
    order = summary.sort_values(["twice", "leaks", "size"], ascending=False, kind="stable")
    groups = []
    for number, about in order.head(MOST_GROUPS).iterrows():
        rows = members[members["copy_group"] == number]
        rows = rows.sort_values(["likeness", "path"], ascending=[False, True])
        same = rows["pixels"] == rows["pixels"].iloc[0]
        likeness = rows["likeness"].map("likeness {:.2f}".format)
        details = ["representative", *likeness.where(~same, "the same pixels")[1:]]
        cards = _cards(cleaned.dataset, rows.assign(detail=details).head(MOST_OF_A_GROUP))
        groups.append({**about.to_dict(), "cards": cards})
    return groups


def _cards(dataset: Dataset, files: pd.DataFrame) -> list[dict[str, Any]]:
    rows = files.astype(object).where(files.notna(), None).to_dict("records")
    return [{**row, "href": _link(dataset, row["path"])} for row in rows]


def _link(dataset: Dataset, path: str) -> str:
    file = dataset.raw / path
    if dataset.raw.is_relative_to(dataset.folder):
        return quote(file.relative_to(dataset.folder).as_posix())
    return file.as_uri() if os.fspath(file).isprintable() else ""
