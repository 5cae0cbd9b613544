"""Cross-validation from the split to the page: a fold a seed, every image tested once, the
corrected interval.
"""

import json

import numpy as np
import pandas as pd
import pytest

from lib.data import splits
from lib.evaluation import comparison, predictions
from lib.reporting import comparison_page

LABELS = ("cup", "mug", "pot")


class Fixed:
    """A data set of 90 images in groups of two."""

    name = "fixed"

    def __init__(self, folder):
        self.folder = folder

    def accepted(self):
        numbers = np.arange(90)
        return pd.DataFrame(
            {
                "path": [f"{number:02}.png" for number in numbers],
                "label": [LABELS[number // 2 % 3] for number in numbers],
                "group": numbers // 2,
                "pixels": [f"{number:x}" for number in numbers],
                "source_split": None,
            }
        )


def folds(tmp_path, arm, accuracies):
    """One run a fold; of its test images the given share is right."""
    for seed, accuracy in enumerate(accuracies):
        split = splits.ensure(
            Fixed(tmp_path), method="folds of 3", fractions=(0.5, 0.2, 0.3), seed=seed
        )
        frame = split.frame
        truth = np.array([LABELS.index(label) for label in frame["label"]])
        order = frame.groupby("split").cumcount() / frame["split"].map(
            frame["split"].value_counts()
        )
        said = np.where(order < accuracy, truth, (truth + 1) % 3)
        table = predictions.table(
            frame["path"],
            splits=frame["split"],
            labels=frame["label"],
            groups=frame["group"],
            probabilities=np.eye(3)[said] * 0.9 + 0.1 / 3,
            class_names=LABELS,
        )
        folder = tmp_path / "train" / f"{arm}-s{seed}"
        folder.mkdir(parents=True)
        about = {
            "class_names": LABELS,
            "data_hash": split.data_hash(),
            "run": f"study/train/{arm}-s{seed}",
        }
        predictions.write(folder / "predictions.parquet", table, about)
        told = {"arm": arm, "seed": seed, "split": split.id, "test_openings": 2}
        (folder / "result.json").write_text(json.dumps(told))


def test_folds_become_one_estimate_with_the_corrected_interval(tmp_path):
    folds(tmp_path, "good", (0.9, 0.8, 0.7))
    folds(tmp_path, "poor", (0.4, 0.3, 0.2))
    found = comparison.comparison(comparison.finished_runs(tmp_path / "train"))
    tested = pd.concat([unit.predictions.split("test").frame for unit in found.arms["good"]])
    assert sorted(tested["path"]) == [f"{number:02}.png" for number in range(90)]  # each image once
    estimate = found.estimates["good"]["accuracy"]
    assert estimate.method == "over images, 3 folds and trainings"
    assert estimate.value == pytest.approx(0.8, abs=0.001)
    assert estimate.image_low < estimate.value < estimate.image_high
    assert estimate.low <= estimate.image_low and estimate.image_high <= estimate.high
    assert estimate.new_low < 0.7 and 0.9 < estimate.new_high <= 1
    assert found.verdicts[0].startswith("good is better than poor")
    page = comparison_page.render(found)
    assert "over images, 3 folds and trainings" in page
    assert page.count("was read 2 times, over all studies") == 3
