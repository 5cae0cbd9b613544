"""Pictures of what a training saw and of what its model finds hard."""

from __future__ import annotations

from lib.data import thumbnails
from lib.data.batches import Batches
from lib.data.dataset import Dataset
from lib.evaluation import metrics, plots
from lib.evaluation.predictions import Predictions
from lib.evaluation.style import Drawing
from lib.training.fit import Settings
from lib.training.recipes import Material


def first_batch(material: Material, settings: Settings, *, num: int = 12) -> Drawing:
    """Returns a figure of the first images of the first epoch, exactly as the network gets them."""
    batches = Batches(material.examples("train"), batch_size=num, seed=settings.seed, policy=settings.augmentation)
    pixels, labels = batches[0][:2]
    names = [material.split.class_names[label] for label in labels]
    side = pixels.shape[1]
    return plots.pictures(list(pixels), names, title=f"Train images at {side} × {side}, augmentation: {settings.augmentation}")


def hardest(test: Predictions, dataset: Dataset, *, num: int = 12) -> Drawing:
    """Returns a figure of the images whose true class got the least probability, read from raw/ by the suite's one decoder."""
    rows = metrics.hardest(test, num)
    captions = [
        f"{row.label}\n→ {row.predicted} {row.confidence:.0%}"
        if row.label != row.predicted
        else f"{row.label}\n{row.of_truth:.0%}"
        for row in rows.itertuples()
    ]
    right = list(rows["label"] == rows["predicted"])
    return plots.pictures(
        [thumbnails.of(dataset, path) for path in rows["path"]], captions, right=right, title="The hardest images"
    )
