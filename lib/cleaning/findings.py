"""What speaks against a file: one row a finding, judged keep, review or reject by thresholds that
are parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from lib.data.manifest import VERDICTS

COLUMNS = ("path", "reason", "score", "verdict", "detail")
"""Of a findings table. `score` is 0 (worst) to 1 (harmless), so that sorting shows the worst first.
"""

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
    """Where a measure becomes a finding. Shares and levels are 0..1, sides in px, `outlier` in
    robust standard deviations; see `measure.Measured` and `outliers.deviations`.

    The picture checks are set so that they name what is certainly odd; they lead to review, which
    keeps a file out of training until somebody has looked, and never to reject.
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

Near-duplicates stay, also under two labels: the group keeps them in one split, and two takes of a
thing may truly differ. What only a network suspects stays too: to set aside whatever a network
finds hard would make every later result look better than it is. Look at those pictures and decide
by hand.
"""


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
    found = pd.DataFrame(list(rows), columns=["path", "reason", "score", "detail"]).astype(
        {"score": "float64"}
    )
    found.insert(3, "verdict", found["reason"].map(decided))
    return found.sort_values(["path", "reason"], ignore_index=True)


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
    checks = (
        (
            "too_small",
            short / limits.smallest_side,
            short < limits.smallest_side,
            "shorter side {:.0f} px",
            short,
        ),
        (
            "odd_aspect",
            limits.greatest_aspect / aspect,
            aspect > limits.greatest_aspect,
            "aspect {:.1f} : 1",
            aspect,
        ),
        (
            "dark",
            good["dark"],
            good["dark"] < limits.dark,
            "99 % of the pixels below {:.0%} light",
            good["dark"],
        ),
        (
            "bright",
            1 - good["bright"],
            good["bright"] > limits.bright,
            "99 % of the pixels above {:.0%} light",
            good["bright"],
        ),
        (
            "low_contrast",
            good["contrast"],
            good["contrast"] < limits.contrast,
            "grey spans {:.1%} of its range",
            good["contrast"],
        ),
        (
            "uniform",
            1 - good["uniform"],
            good["uniform"] > limits.uniform,
            "{:.1%} of the pixels in one grey",
            good["uniform"],
        ),
        (
            "blurred",
            good["sharpness"],
            (good["sharpness"] < limits.sharpness) & (good["contrast"] >= limits.contrast),
            "sharpness {:.3f}",
            good["sharpness"],
        ),
    )
    for reason, score, flagged, text, value in checks:
        for at in good.index[flagged.to_numpy(bool)]:
            yield (
                good.at[at, "path"],
                reason,
                float(np.clip(score[at], 0, 1)),
                text.format(value[at]),
            )
    for path, found in zip(good["path"], good["format"], strict=True):
        ending = path.rsplit("/", 1)[-1].rpartition(".")[2].lower()
        if ending not in ENDINGS.get(found, (ending,)):
            yield path, "wrong_extension", 0.5, f"the bytes are {found}, the name ends in .{ending}"


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
            "the file has no label: it lies in no class folder, or the table does not name it",
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
    """Of the files with the same pixels one is kept, that of a test split first; none where their
    labels differ.
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
