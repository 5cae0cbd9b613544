"""Findings about files, one row each, with a verdict (keep, review or reject) by thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from lib.data.manifest import VERDICTS

COLUMNS = ("path", "reason", "score", "verdict", "detail")
"""Columns of a findings table. `score` is 0 (worst) to 1 (harmless), so the worst sort first."""

BROKEN = (
    "not_an_image",
    "unsupported",
    "too_large",
    "truncated",
    "corrupted",
    "crashed",
    "unreadable",
    "missing",
    "link_folder",
    "link_outside",
    "special",
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
                raise ValueError(
                    f"the threshold {field.name} must be a number of at least 0. Received: {value}."
                )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Thresholds:
        """Returns the thresholds among the parameters of `1_clean`."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: parameters[name] for name in names if name in parameters})


DEFAULT_VERDICTS = {
    **dict.fromkeys(BROKEN, "reject"),
    "unlabelled": "reject",
    "exact_duplicate": "reject",
    "two_labels": "reject",
    "too_small": "review",
    "odd_aspect": "review",
    "dark": "review",
    "bright": "review",
    "low_contrast": "review",
    "uniform": "review",
    "blurred": "review",
    "near_two_labels": "keep",
    "wrong_extension": "keep",
    "several_frames": "keep",
    "near_duplicate": "keep",
    "duplicate_across_splits": "keep",
    "few": "keep",
    "wrong_label": "keep",
    "outlier": "keep",
    "look_alike": "keep",
}
"""Reason -> verdict. `judge` takes another table to change it.

Near-duplicates are kept, also under two labels: the group keeps them in one split, and two takes of
a subject may differ. What only a network suspects is kept too, since removing whatever a network
finds hard would inflate every later result. Check those pictures and decide by hand.
"""

DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "not_an_image": ("Not an image", "The bytes are no picture, whatever its name."),
    "unsupported": (
        "Unsupported format",
        "A picture in a format that is not decoded; convert it to JPEG or PNG.",
    ),
    "too_large": (
        "Too large",
        "The file declares more pixels than a photograph has; it was not decoded.",
    ),
    "truncated": ("Cut off", "The file ends before the picture does, as after a broken download."),
    "several_frames": (
        "Several frames",
        "An animation or a file of several pages; only the first frame counts.",
    ),
    "corrupted": (
        "Damaged",
        "The bytes are not what was once written; most viewers fill the damage with grey or black.",
    ),
    "crashed": (
        "Crashed its reader",
        "Reading the file ended or hung a worker process; the rest of the scan went on.",
    ),
    "unreadable": (
        "Unreadable",
        "The file could not be read: no permission, or it vanished during the scan.",
    ),
    "missing": ("Missing", "The table names a file that is not there."),
    "link_folder": ("Link to a folder", "Links to folders are not followed, so that loops end."),
    "link_outside": (
        "Link out of the data",
        "A link to a file outside the data set is not followed.",
    ),
    "special": ("Not a plain file", "A pipe, a socket or a device."),
    "name_not_text": (
        "Name is not text",
        "The file's name holds bytes that are not UTF-8; rename it.",
    ),
    "unlabelled": (
        "No label",
        "The file is in no class folder, or the table has no row for it.",
    ),
    "two_labels": (
        "One picture, two labels",
        "The same pixels under different labels; at most one of them can be right.",
    ),
    "exact_duplicate": (
        "Exact copy",
        "The same pixels as another file; one of them is kept, that of a test split first.",
    ),
    "near_two_labels": (
        "Near-duplicates, two labels",
        "Nearly the same picture under different labels; check which is right.",
    ),
    "duplicate_across_splits": (
        "Leaks across the source's splits",
        "The same picture in two of the source's own splits; split_method = 'grouped' prevents it.",
    ),
    "near_duplicate": (
        "Near-duplicates",
        "Nearly the same picture; a group is never divided between two splits.",
    ),
    "look_alike": (
        "Look-alikes",
        "The same texture or scene in what is another photograph; they are not grouped.",
    ),
    "too_small": ("Too small", "So few pixels that a network has little to see."),
    "odd_aspect": (
        "Odd aspect",
        "Much longer than broad: resizing will change it beyond recognition.",
    ),
    "dark": ("Too dark", "Nearly all pixels are almost black."),
    "bright": ("Too bright", "Nearly all pixels are almost white."),
    "low_contrast": ("Low contrast", "The greys span hardly any of their range."),
    "uniform": ("One colour", "Nearly all pixels have one grey."),
    "blurred": ("Blurred", "Hardly any edge in the whole picture."),
    "wrong_label": (
        "Probably wrong label",
        "A pretrained network's features say another class, trained on pictures that do not "
        "include this one.",
    ),
    "outlier": (
        "Outlier",
        "Far from the other pictures of its class in a pretrained network's features.",
    ),
    "wrong_extension": (
        "Wrong extension",
        "The name says another format than the bytes; it decodes all the same.",
    ),
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
    Raises ValueError for an unknown reason or verdict.
    """
    rows = [
        *_broken(scanned),
        *_pictures(scanned, thresholds or Thresholds()),
        *_labels(scanned),
        *_frames(scanned),
        *_duplicates(scanned),
        *_alike(scanned),
        *_few(scanned, thresholds or Thresholds()),
    ]
    return table(rows, verdicts=verdicts)


def table(
    rows: Iterable[tuple[str, str, float, str]], *, verdicts: dict[str, str] | None = None
) -> pd.DataFrame:
    """Returns findings, given as (path, reason, score, detail), with verdicts as `judge` does."""
    decided = {**DEFAULT_VERDICTS, **(verdicts or {})}
    strange = sorted(set(decided) - set(DEFAULT_VERDICTS)) or sorted(
        set(decided.values()) - set(VERDICTS)
    )
    if strange:
        raise ValueError(
            f"verdicts maps reasons ({', '.join(DEFAULT_VERDICTS)}) to {', '.join(VERDICTS)}. "
            f"Received: {strange[0]!r}."
        )
    issues = pd.DataFrame(list(rows), columns=["path", "reason", "score", "detail"]).astype(
        {"score": "float64"}
    )
    issues.insert(3, "verdict", issues["reason"].map(decided))
    return issues.sort_values(["path", "reason"], ignore_index=True)


def worst(verdicts: Iterable[str]) -> str:
    """Returns the hardest of some verdicts, keep when there is none."""
    return max(verdicts, key=VERDICTS.index, default="keep")


def _broken(scanned: pd.DataFrame) -> Iterator[tuple]:
    broken = scanned[scanned["problem"].notna()]
    for path, problem, detail in zip(
        broken["path"], broken["problem"], broken["detail"], strict=True
    ):
        yield path, problem, 0.0, detail


def _pictures(scanned: pd.DataFrame, limits: Thresholds) -> Iterator[tuple]:
    good = scanned[scanned["problem"].isna()]
    short = good[["width", "height"]].min(axis=1).astype(float)
    aspect = good[["width", "height"]].max(axis=1).astype(float) / short
    dark, bright, contrast = good["dark"], good["bright"], good["contrast"]
    sharp, uniform = good["sharpness"], good["uniform"]
    is_blurred = (sharp < limits.sharpness) & (contrast >= limits.contrast)
    checks = {  # reason: (measure, flagged, score, text)
        "too_small": (
            short, short < limits.smallest_side, short / limits.smallest_side,
            "shorter side {:.0f} px",
        ),
        "odd_aspect": (
            aspect, aspect > limits.greatest_aspect, limits.greatest_aspect / aspect,
            "aspect {:.1f} : 1",
        ),
        "dark": (dark, dark < limits.dark, dark, "99 % of the pixels below {:.0%} light"),
        "bright": (
            bright, bright > limits.bright, 1 - bright, "99 % of the pixels above {:.0%} light",
        ),
        "low_contrast": (
            contrast, contrast < limits.contrast, contrast, "grey spans {:.1%} of its range",
        ),
        "uniform": (
            uniform, uniform > limits.uniform, 1 - uniform, "{:.1%} of the pixels in one grey",
        ),
        "blurred": (sharp, is_blurred, sharp, "sharpness {:.3f}"),
    }  # fmt: skip
    for reason, (measure, flagged, score, text) in checks.items():
        for at in good.index[flagged.to_numpy(bool)]:
            severity = float(np.clip(score[at], 0, 1))
            yield good.at[at, "path"], reason, severity, text.format(measure[at])
    for path, format in zip(good["path"], good["format"], strict=True):
        ending = path.rsplit("/", 1)[-1].rpartition(".")[2].lower()
        if ending not in ENDINGS.get(format, (ending,)):
            yield (
                path,
                "wrong_extension",
                0.5,
                f"the bytes are {format}, the name ends in .{ending}",
            )


def _frames(scanned: pd.DataFrame) -> Iterator[tuple]:
    if "frames" in scanned.columns:
        several = scanned[scanned["frames"].fillna(1) > 1]
        for path, frames in zip(several["path"], several["frames"], strict=True):
            yield path, "several_frames", 0.5, f"only the first of {frames} frames or pages counts"


def _labels(scanned: pd.DataFrame) -> Iterator[tuple]:
    good = scanned[scanned["problem"].isna()]
    for path in good.loc[good["label"].isna(), "path"]:
        yield (
            path,
            "unlabelled",
            0.0,
            "the file has no label: it is in no class folder, or the table has no row for it",
        )


def _duplicates(scanned: pd.DataFrame) -> Iterator[tuple]:
    good = scanned[scanned["problem"].isna() & scanned["label"].notna()]
    yield from _exact(good)
    sizes = good.groupby("copy_group")["path"].transform("size")
    for _, members in good[sizes > 1].groupby("copy_group"):
        splits, labels = (
            sorted(members["source_split"].dropna().unique()),
            sorted(members["label"].unique()),
        )
        distinct = members["pixels"].nunique() > 1
        for path, likeness in zip(members["path"], members["likeness"], strict=True):
            others = f"group of {len(members)} with {members['path'].iloc[0]}"
            if distinct:
                yield path, "near_duplicate", 1 - likeness, others
            if len(splits) > 1:
                yield (
                    path,
                    "duplicate_across_splits",
                    1 - likeness,
                    f"{others}, in {' and '.join(splits)}",
                )
            if len(labels) > 1 and distinct:
                yield (
                    path,
                    "near_two_labels",
                    1 - likeness,
                    f"{others}, labelled {' and '.join(labels)}",
                )


def _alike(scanned: pd.DataFrame) -> Iterator[tuple]:
    if "look_alike" in scanned.columns:
        rows = scanned[scanned["look_alike"].notna() & scanned["label"].notna()]
        for path, other, likeness in zip(
            rows["path"], rows["look_alike"], rows["alikeness"], strict=True
        ):
            yield path, "look_alike", 1 - likeness, f"looks like {other}, another photograph"


def _exact(good: pd.DataFrame) -> Iterator[tuple]:
    """Of files with equal pixels one is kept, that of a test split first; none if their labels
    differ.
    """
    order = good["source_split"].map({"test": 0, "val": 1}).fillna(2)
    ranked = good.assign(order=order).sort_values(["order", "path"])
    copies = ranked[ranked.duplicated("pixels", keep=False)]
    for _, members in copies.groupby("pixels", sort=False):
        labels = sorted(members["label"].unique())
        first = members["path"].iloc[0]
        if len(labels) > 1:
            for path in members["path"]:
                yield (
                    path,
                    "two_labels",
                    0.0,
                    f"the same picture is labelled {' and '.join(labels)}",
                )
        else:
            for path in members["path"].iloc[1:]:
                yield path, "exact_duplicate", 0.0, f"the same pixels as {first}"


def _few(scanned: pd.DataFrame, limits: Thresholds) -> Iterator[tuple]:
    good = scanned[scanned["problem"].isna() & scanned["label"].notna()]
    counts = good["label"].value_counts()
    for name, number in counts[counts < limits.few_files].items():
        for path in good.loc[good["label"] == name, "path"]:
            yield (
                path,
                "few",
                number / limits.few_files,
                f"the class {name!r} has only {number} files",
            )


def as_parameters(thresholds: Thresholds) -> dict[str, float]:
    """Returns the thresholds as a flat dict, for a ledger or a report."""
    return asdict(thresholds)
