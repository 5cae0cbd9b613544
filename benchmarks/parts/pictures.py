"""Folders of real JPEGs to train on, made once from the sample data that DARKROOM_SAMPLES points
at.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas

from benchmarks.parts.measure import SAMPLES
from lib.data import decode


def split(target: Path, *, num_train: int, num_val: int) -> tuple[Path, Path]:
    """Writes seeded JPEGs of the triage samples to `target/train/<class>` and `target/val/<class>`
    and returns both.
    """
    files = sorted(path for path in Path(SAMPLES, "triage").glob("*/*") if path.is_file())
    order = np.random.default_rng(0).permutation(len(files))
    wanted = [("train", index) for index in order[:num_train]]
    wanted += [("val", index) for index in order[num_train : num_train + num_val]]
    for part, index in wanted:
        folder = target / part / files[index].parent.name
        folder.mkdir(parents=True, exist_ok=True)
        picture = cv2.cvtColor(decode.decode(files[index].read_bytes()).pixels, cv2.COLOR_RGB2BGR)
        (folder / f"{index:05}.jpg").write_bytes(
            cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        )
    return target / "train", target / "val"


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A folder that counts as cleaned, so that the benchmark measures training alone."""

    folder: Path
    raw: Path

    def accepted(self) -> pandas.DataFrame:
        """Every picture with its label; its path stands for its pixels."""
        paths = [path.relative_to(self.raw).as_posix() for path in sorted(self.raw.rglob("*.jpg"))]
        return pandas.DataFrame(
            {"path": paths, "pixels": paths, "label": [Path(path).parts[-2] for path in paths]}
        )
