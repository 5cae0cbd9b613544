"""Detection of shortcuts such as corner marks, borders or watermarks.

A region of an image of one class is pasted over images of other classes. A corner holds 2 % of the
pixels, so a sound model does not react; where it now predicts the donor's class, it has learned
whatever is in that corner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import pandas as pd

from lib.evaluation import analytic
from lib.explain import model_wrapper, perturbation_methods
from lib.explain.model_wrapper import Batch, BlackBox

ALARM = 0.3
"""A region is suspected if the interval of turned predictions is above this share."""

FIXED, MOVING = "one place", "a small patch anywhere"
"""The most important patch on average over the class, and the one of each image."""


_COLUMNS = ["class", "region", "area", "turned", "low", "high", "evidence", "suspected"]


def detect(
    model: keras.Model | BlackBox,
    images: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    *,
    transplants: int = 48,
    per_class: int = 24,
    seed: int = 0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Returns one row a class and region, most suspicious first.

    Columns: `class`, `region`, `area` (share of the pixels), `turned` (share of transplants after
    which the donor's class is predicted), `low` and `high` (its 95 % Wilson interval), `evidence`
    (the region's share of the evidence by occlusion), `suspected`. No rows if fewer than two
    classes have a correctly predicted image.

    Args:
        model: as for `explain`.
        images: (n, height, width, 3) in 0 to 255.
        classes: (n,) true classes; images with another prediction are left out.
        transplants: pastes of a region tried for each class.
        per_class: images of a class that are occluded to find important patches.
        seed: of the pairs of donor and receiver.
        batch_size: images computed at once.
    """
    wrapper = model_wrapper.wrap(model, "log_odds", batch_size)
    images, classes = images.astype(np.float32), np.asarray(classes)
    correct = wrapper.targets(images, None) == classes
    images, classes = images[correct], classes[correct]
    present = np.unique(classes)
    if len(present) < 2:
        return pd.DataFrame(columns=_COLUMNS)
    rng, rows = np.random.default_rng(seed), []
    for label in present:
        own, others = np.flatnonzero(classes == label), np.flatnonzero(classes != label)
        chosen = own[:per_class]
        losses = patch_losses(Batch(wrapper, images[chosen], classes[chosen]))
        donors, receivers = (
            rng.choice(own[:per_class], transplants),
            rng.choice(others, transplants),
        )
        for name, region in _regions(
            losses, size=wrapper.size, donors=np.searchsorted(own, donors)
        ):
            pasted = np.where(region[..., None], images[donors], images[receivers])
            turned = int((wrapper.targets(pasted, None) == label).sum())
            low, high = analytic.wilson(turned, transplants)
            rows.append(
                {
                    "class": wrapper.class_names[label],
                    "region": name,
                    "area": float(region.mean()),
                    "turned": turned / transplants,
                    "low": low,
                    "high": high,
                    "evidence": _evidence(losses, region),
                    "suspected": low > ALARM,
                }
            )
    return pd.DataFrame(rows).sort_values(
        "turned", ascending=False, kind="stable", ignore_index=True
    )


def sentence(table: pd.DataFrame) -> str:
    """Returns the table in words: each suspected region, or that there is none."""
    if table.empty:
        return "Not judged: fewer than two classes have a correctly predicted image."
    suspected = table[table["suspected"].astype(bool)]
    if suspected.empty:
        worst = table.iloc[0]
        return (
            f"No shortcut found: at most {100 * worst['turned']:.0f} % of transplants turned the "
            f"prediction ({worst['region']}, {worst['class']})."
        )
    lines = [
        f"{row['class']}: {row['region']} ({100 * row['area']:.0f} % of the pixels), pasted over "
        f"other images, turns {100 * row['turned']:.0f} % of them into {row['class']} (95 % "
        f"{100 * row['low']:.0f} % to {100 * row['high']:.0f} %); it holds "
        f"{100 * row['evidence']:.0f} % of the evidence."
        for _, row in suspected.iterrows()
    ]
    return "\n".join(["A shortcut is suspected.", *lines])


def patch_losses(batch: Batch, *, across: int = 10) -> np.ndarray:
    """Returns (n, across, across): the loss of score when a cell is replaced by the mean colour."""
    heat = perturbation_methods.occlusion(batch, patch=-(-max(batch.size) // across))
    down, correct = ((np.arange(across) * side + side // 2) // across for side in batch.size)
    return heat[:, down][:, :, correct]


def corners_and_border(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Returns bool (height, width) for each corner (1/7 of the sides) and the border (1/16)."""
    ends = [
        {"first": slice(0, reach), "last": slice(side - reach, side)}
        for side, reach in zip(size, _fractions(size, 7), strict=True)
    ]
    regions = {}
    for down, rows in zip(("top", "bottom"), ends[0].values(), strict=True):
        for across, columns in zip(("left", "right"), ends[1].values(), strict=True):
            regions[f"{down} {across} corner"] = np.zeros(size, bool)
            regions[f"{down} {across} corner"][rows, columns] = True
    high, wide = _fractions(size, 16)
    border = np.ones(size, bool)
    border[high : size[0] - high, wide : size[1] - wide] = False
    return {**regions, "border": border}


def _fractions(size: tuple[int, int], part: int) -> tuple[int, ...]:
    return tuple(max(1, round(side / part)) for side in size)


def _regions(
    losses: np.ndarray, *, size: tuple[int, int], donors: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each region's name and bool (1 or donors, height, width)."""
    for name, region in corners_and_border(size).items():
        yield name, region[None]
    square = _squares(size, across=losses.shape[1])
    yield FIXED, square(losses.mean(axis=0))[None]
    yield MOVING, np.stack([square(losses[donor]) for donor in donors])


def _squares(size: tuple[int, int], *, across: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from cells (across, across) to a square around the highest cell.

    The square, bool (height, width), has a fifth of the sides.
    """

    def square(cells: np.ndarray) -> np.ndarray:
        region, parts = np.zeros(size, bool), []
        for place, side, reach in zip(
            np.unravel_index(cells.argmax(), cells.shape), size, _fractions(size, 5), strict=True
        ):
            start = int(np.clip((place + 0.5) * side / across - reach / 2, 0, side - reach))
            parts.append(slice(start, start + reach))
        region[tuple(parts)] = True
        return region

    return square


def _evidence(losses: np.ndarray, region: np.ndarray) -> float:
    """The region's share of all positive losses, by the part of each cell that it covers."""
    positive = np.maximum(losses, 0).mean(axis=0)
    down, correct = (np.arange(side) * losses.shape[1] // side for side in region.shape[1:])
    large = positive[down][:, correct]
    total = float(large.sum())
    return float((large * region.mean(axis=0)).sum() / total) if total > 0 else 0.0
