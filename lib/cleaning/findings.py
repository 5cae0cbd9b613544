"""Findings about files, one row each, with a verdict (keep, review or reject) by thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from lib.data import decode
from lib.data.manifest import VERDICTS
from lib.errors import DarkroomError, check_choice

COLUMNS = ("path", "reason", "score", "verdict", "detail")
"""Columns of a findings table. `score` is 0 (worst) to 1 (harmless), so the worst sort first."""

BROKEN = (
    *decode.REASONS,
    *("crashed", "unreadable", "missing", "link_folder", "link_outside", "special"),
    "name_not_text",
)
"""Reasons for which there is no picture to judge; always reject."""

ENDINGS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png", "apng"),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
    "WEBP": ("webp",),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "AVIF": ("avif", "avifs"),
    "NPY": ("npy",),
    "HEIC": ("heic", "heif"),
    "JPEG XL": ("jxl",),
}


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of findings. Shares and levels are 0..1, sides in px, `outlier` in robust standard
    deviations; see `measurements.Measured` and `label_issues.deviations`.

    The picture checks are strict and lead to review, which keeps a file out of training until it
    has been checked by hand, never to reject.
    """

    smallest_side: int = 8
    greatest_aspect: float = 8.0
    dark: float = 0.08
    bright: float = 0.92
    contrast: float = 0.04
    uniform: float = 0.998
    sharpness: float = 0.05
    few_files: int = 10
    outlier: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value) or value < 0:
                raise DarkroomError(
                    f"The threshold {field.name} must be a number of at least 0. Received: {value}."
                )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Thresholds:
        """Returns the thresholds among the parameters of `1_clean`."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: parameters[name] for name in names if name in parameters})


DEFAULT_VERDICTS = {
    **dict.fromkeys((*BROKEN, "unlabelled", "exact_duplicate", "two_labels"), "reject"),
    **dict.fromkeys(("too_small", "odd_aspect", "dark", "bright", "low_contrast"), "review"),
    **dict.fromkeys(("uniform", "blurred"), "review"),
    **dict.fromkeys(("near_two_labels", "near_duplicate", "duplicate_across_splits"), "keep"),
    **dict.fromkeys(("wrong_extension", "several_frames", "few"), "keep"),
    **dict.fromkeys(("wrong_label", "outlier", "look_alike"), "keep"),
}
"""Reason -> verdict. `judge` takes another table to change it.

Near-duplicates are kept, also under two labels: the group keeps them in one split, and two takes of
a subject may differ. What only a network suspects is kept too, since removing whatever a network
finds hard would inflate every later result. Check those pictures and decide by hand.
"""

DESCRIPTIONS = {
    "not_an_image": ("Not an image", "The bytes are no picture, whatever the file's name."),
    "unsupported": ("Unsupported format", "Not decoded here; convert it to JPEG or PNG."),
    "too_large": ("Too large", "More pixels than a photograph has; it was not decoded."),
    "truncated": ("Cut off", "The file ends before the picture does, as after a broken download."),
    "corrupted": (
        "Damaged",
        "Some bytes changed; most viewers fill the damage with grey or black.",
    ),
    "crashed": ("Crashed its reader", "Reading the file ended or hung a worker process."),
    "unreadable": ("Unreadable", "No permission to read the file, or it vanished during the scan."),
    "missing": ("Missing", "The table names a file that is not there."),
    "link_folder": ("Link to a folder", "Links to folders are not followed, so that loops end."),
    "link_outside": ("Link out of the data", "A link to a file outside the data is not followed."),
    "special": ("Not a plain file", "A pipe, a socket or a device."),
    "name_not_text": (
        "Name is not text",
        "The name holds bytes that are not UTF-8; rename the file.",
    ),
    "several_frames": ("Several frames", "An animation or several pages; only the first counts."),
    "unlabelled": ("No label", "The file is in no class folder, or the table has no row for it."),
    "two_labels": ("One picture, two labels", "Equal pixels under different labels; one is wrong."),
    "exact_duplicate": (
        "Exact copy",
        "Equal pixels; one file is kept, that of a test split first.",
    ),
    "near_two_labels": ("Near-duplicates, two labels", "Check which of the labels is right."),
    "duplicate_across_splits": (
        "Leaks across the source's splits",
        "The same picture in two of the source's own splits; split_method = 'grouped' prevents it.",
    ),
    "near_duplicate": ("Near-duplicates", "Nearly the same picture; no split divides the group."),
    "look_alike": ("Look-alikes", "The same scene or texture in another photograph; not grouped."),
    "too_small": ("Too small", "So few pixels that a network has little to see."),
    "odd_aspect": ("Odd aspect", "Much longer than broad; resizing changes it beyond recognition."),
    "dark": ("Too dark", "Nearly all pixels are almost black."),
    "bright": ("Too bright", "Nearly all pixels are almost white."),
    "low_contrast": ("Low contrast", "The greys span hardly any of their range."),
    "uniform": ("One colour", "Nearly all pixels have one grey."),
    "blurred": ("Blurred", "Hardly any edge in the whole picture."),
    "wrong_label": ("Probably wrong label", "A pretrained network's features say another class."),
    "outlier": ("Outlier", "Far from its class in a pretrained network's features."),
    "wrong_extension": ("Wrong extension", "The name says another format than the bytes; decoded."),
    "few": ("Small class", "The class has very few pictures."),
}
"""Reason -> (title, sentence): what each finding means and what to do about it."""


def judge(
    scanned: pd.DataFrame,
    *,
    thresholds: Thresholds | None = None,
    verdicts: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Returns the findings (`COLUMNS`, sorted by path and reason) of a scan with `copy_group`.

    `verdicts` overrides `DEFAULT_VERDICTS` for some reasons, such as `{"blurred": "keep"}`.
    Raises DarkroomError for an unknown reason or verdict.
    """
    limits = thresholds or Thresholds()
    broken = scanned[scanned["problem"].notna()]
    good = scanned[scanned["problem"].isna()]
    labelled = good[good["label"].notna()]
    rows = [
        *zip(broken["path"], broken["problem"], itertools.repeat(0.0), broken["detail"]),
        *_pictures(good, limits),
        *_rows(good[good["label"].isna()], "unlabelled", 0.0, DESCRIPTIONS["unlabelled"][1]),
        *_exact(labelled),
        *_duplicates(labelled),
        *_few(labelled, limits),
    ]
    if "frames" in good.columns:
        several = good[good["frames"].fillna(1) > 1]
        text = "only the first of {frames} frames or pages counts"
        rows += _rows(several, "several_frames", 0.5, text)
    if "look_alike" in labelled.columns:
        alike = labelled[labelled["look_alike"].notna()]
        text = "looks like {look_alike}, another photograph"
        rows += _rows(alike, "look_alike", 1 - alike["alikeness"], text)
    return table(rows, verdicts=verdicts)


def complete_verdicts(verdicts: dict[str, str] | None) -> dict[str, str]:
    """Returns the verdict of every finding. Raises DarkroomError for an unknown one."""
    for reason, verdict in (verdicts or {}).items():
        check_choice("finding", reason, DEFAULT_VERDICTS)
        check_choice(f"verdict {reason}", verdict, VERDICTS)
    return {**DEFAULT_VERDICTS, **(verdicts or {})}


def table(
    rows: Iterable[tuple[str, str, float, str]], *, verdicts: dict[str, str] | None = None
) -> pd.DataFrame:
    """Returns findings, given as (path, reason, score, detail), with verdicts as `judge` does."""
    decided = complete_verdicts(verdicts)
    issues = pd.DataFrame(list(rows), columns=["path", "reason", "score", "detail"])
    issues = issues.astype({"score": "float64"})
    issues.insert(3, "verdict", issues["reason"].map(decided))
    return issues.sort_values(["path", "reason"], ignore_index=True)


def worst(verdicts: Iterable[str]) -> str:
    """Returns the hardest of some verdicts, keep when there is none."""
    return max(verdicts, key=VERDICTS.index, default="keep")


def _rows(files: pd.DataFrame, reason: str, score: float | pd.Series, text: str) -> list[tuple]:
    """One finding a file; `text` may name columns in braces."""
    details = [text.format_map(row) for row in files.to_dict("records")]
    scores = pd.Series(score, index=files.index)
    return list(zip(files["path"], itertools.repeat(reason), scores, details))


def _pictures(good: pd.DataFrame, limits: Thresholds) -> list[tuple]:
    sides = good[["width", "height"]].astype(float)
    good = good.assign(short=sides.min(axis=1), aspect=sides.max(axis=1) / sides.min(axis=1))
    dark, bright, contrast = good["dark"], good["bright"], good["contrast"]
    short, aspect, uniform, sharp = (
        good[name] for name in ("short", "aspect", "uniform", "sharpness")
    )
    is_blurred = (sharp < limits.sharpness) & (contrast >= limits.contrast)
    smallest, greatest = limits.smallest_side, limits.greatest_aspect
    checks = {  # reason: (flagged, score, text)
        "too_small": (short < smallest, short / smallest, "shorter side {short:.0f} px"),
        "odd_aspect": (aspect > greatest, greatest / aspect, "aspect {aspect:.1f} : 1"),
        "dark": (dark < limits.dark, dark, "99 % of the pixels below {dark:.0%} light"),
        "bright": (
            bright > limits.bright,
            1 - bright,
            "99 % of the pixels above {bright:.0%} light",
        ),
        "low_contrast": (
            contrast < limits.contrast,
            contrast,
            "grey spans {contrast:.1%} of its range",
        ),
        "uniform": (
            uniform > limits.uniform,
            1 - uniform,
            "{uniform:.1%} of the pixels in one grey",
        ),
        "blurred": (is_blurred, sharp, "sharpness {sharpness:.3f}"),
    }
    rows = []
    for reason, (flagged, score, text) in checks.items():
        chosen = flagged.to_numpy(bool)
        rows += _rows(good[chosen], reason, score[chosen].clip(0, 1), text)
    endings = good["path"].map(lambda path: path.rsplit("/", 1)[-1].rpartition(".")[2].lower())
    known = zip(endings, good["format"], strict=True)
    wrong = [ending not in ENDINGS.get(format, (ending,)) for ending, format in known]
    text = "the bytes are {format}, the name ends in .{ending}"
    return rows + _rows(
        good.assign(ending=endings)[np.array(wrong, bool)], "wrong_extension", 0.5, text
    )


def _exact(good: pd.DataFrame) -> list[tuple]:
    """Of files with equal pixels one is kept, that of a test split first; none if their labels
    differ.
    """
    order = good["source_split"].map({"test": 0, "val": 1}).fillna(2)
    ranked = good.assign(order=order).sort_values(["order", "path"])
    rows = []
    for _, members in ranked[ranked.duplicated("pixels", keep=False)].groupby("pixels", sort=False):
        labels = sorted(members["label"].unique())
        if len(labels) > 1:
            named = " and ".join(labels)
            rows += [
                (path, "two_labels", 0.0, f"the same picture is labelled {named}")
                for path in members["path"]
            ]
        else:
            first, *others = members["path"]
            rows += [
                (path, "exact_duplicate", 0.0, f"the same pixels as {first}") for path in others
            ]
    return rows


def _duplicates(good: pd.DataFrame) -> list[tuple]:
    rows = []
    for _, members in good[good.duplicated("copy_group", keep=False)].groupby("copy_group"):
        splits = sorted(members["source_split"].dropna().unique())
        labels = sorted(members["label"].unique())
        others = f"group of {len(members)} with {members['path'].iloc[0]}"
        distinct = members["pixels"].nunique() > 1
        reasons = {
            "near_duplicate": (distinct, others),
            "duplicate_across_splits": (len(splits) > 1, f"{others}, in {' and '.join(splits)}"),
            "near_two_labels": (
                distinct and len(labels) > 1,
                f"{others}, labelled {' and '.join(labels)}",
            ),
        }
        for reason, (applies, detail) in reasons.items():
            if applies:
                rows += [
                    (path, reason, 1 - likeness, detail)
                    for path, likeness in zip(members["path"], members["likeness"], strict=True)
                ]
    return rows


def _few(good: pd.DataFrame, limits: Thresholds) -> list[tuple]:
    counts = good["label"].map(good["label"].value_counts())
    chosen = counts < limits.few_files
    files = good.assign(number=counts)[chosen]
    text = "the class {label!r} has only {number} files"
    return _rows(files, "few", counts[chosen] / limits.few_files, text)
