"""Does the model look at a corner mark, a border, a watermark? Asked of the model by transplants,
class by class.

A region of an image of one class is pasted over images of other classes. A corner holds a fiftieth
of the pixels, so an honest model does not care; where it now names the donor's class, whatever lies
in that corner is what it has learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import pandas as pd

from lib.evaluation import analytic
from lib.explain import masks
from lib.explain import model_wrapper as asked
from lib.explain.model_wrapper import BlackBox, Scored

ALARM = 0.3
"""A region is suspected where more than this share of transplants turns the prediction, by the
lower end of its interval.
"""

FIXED, MOVING = "one place", "a small patch anywhere"
"""The patch that matters most on average over the class, and the one that matters most in each
image by itself.
"""


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
    """Returns one row a class and region, the most suspicious first.

    Args:
        model: as for `explain`.
        images: (n, height, width, 3) of 0 to 255.
        classes: (n,) the number of each image's true class. Images that the model names otherwise
            are left out. transplants: pastes of a region tried for each class. per_class: images of
            a class that are occluded to find the patches that matter. seed: of the pairs of donor
            and receiver. batch_size: images computed at once.

    Columns: `class`, `region`, `area` (share of the pixels), `turned` (share of transplants after
        which the donor's class is named), `low` and `high` (its 95 % Wilson interval), `evidence`
        (the region's share of what occlusion finds), `suspected`.

    No rows where fewer than two classes have an image that the model names rightly.
    """
    scored = asked.of(model, "log_odds", batch_size)
    images, classes = images.astype(np.float32), np.asarray(classes)
    right = scored.targets(images, None) == classes
    images, classes = images[right], classes[right]
    present = np.unique(classes)
    if len(present) < 2:
        return pd.DataFrame(columns=_COLUMNS)
    rng, rows = np.random.default_rng(seed), []
    for each in present:
        own, others = np.flatnonzero(classes == each), np.flatnonzero(classes != each)
        falls = patch_falls(scored, images[own[:per_class]], classes[own[:per_class]])
        donors, receivers = (
            rng.choice(own[:per_class], transplants),
            rng.choice(others, transplants),
        )
        for name, region in _regions(falls, size=scored.size, donors=np.searchsorted(own, donors)):
            pasted = np.where(region[..., None], images[donors], images[receivers])
            turned = int((scored.targets(pasted, None) == each).sum())
            low, high = analytic.wilson(turned, transplants)
            rows.append(
                {
                    "class": scored.class_names[each],
                    "region": name,
                    "area": float(region.mean()),
                    "turned": turned / transplants,
                    "low": low,
                    "high": high,
                    "evidence": _evidence(falls, region),
                    "suspected": low > ALARM,
                }
            )
    return pd.DataFrame(rows).sort_values(
        "turned", ascending=False, kind="stable", ignore_index=True
    )


def sentence(found: pd.DataFrame) -> str:
    """Returns what the table says, in words: each suspected region, or that there is none."""
    if found.empty:
        return "No shortcut could be looked for: fewer than two classes have an image that the model names rightly."
    suspected = found[found["suspected"].astype(bool)]
    if suspected.empty:
        worst = found.iloc[0]
        return (
            f"No shortcut shown: at most {100 * worst['turned']:.0f} % of transplants turned the "
            "prediction "
            f"({worst['region']}, {worst['class']})."
        )
    told = [
        f"{row['class']}: {row['region']} ({100 * row['area']:.0f} % of the pixels), pasted over "
        "other images, turns "
        f"{100 * row['turned']:.0f} % of them into {row['class']} (95 % {100 * row['low']:.0f} % "
        "to "
        f"{100 * row['high']:.0f} %); it holds {100 * row['evidence']:.0f} % of the evidence."
        for _, row in suspected.iterrows()
    ]
    return "A shortcut is suspected.\n" + "\n".join(told)


def patch_falls(
    scored: Scored, images: np.ndarray, targets: np.ndarray, *, across: int = 10
) -> np.ndarray:
    """Returns (n, across, across): how much the score falls when that cell of the image takes the
    image's mean colour.
    """
    heat = masks.occlusion(scored, images, targets, patch=-(-max(scored.size) // across))
    down, right = ((np.arange(across) * side + side // 2) // across for side in scored.size)
    return heat[:, down][:, :, right]


def corners_and_border(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Returns bool (height, width) for each corner (a seventh of the sides) and the border (a
    sixteenth on each edge).
    """
    ends = [
        {"first": slice(0, reach), "last": slice(side - reach, side)}
        for side, reach in zip(size, _shares(size, 7), strict=True)
    ]
    found = {}
    for down, rows in zip(("top", "bottom"), ends[0].values(), strict=True):
        for across, columns in zip(("left", "right"), ends[1].values(), strict=True):
            found[f"{down} {across} corner"] = np.zeros(size, bool)
            found[f"{down} {across} corner"][rows, columns] = True
    high, wide = _shares(size, 16)
    border = np.ones(size, bool)
    border[high : size[0] - high, wide : size[1] - wide] = False
    return {**found, "border": border}


def _shares(size: tuple[int, int], part: int) -> tuple[int, ...]:
    return tuple(max(1, round(side / part)) for side in size)


def _regions(
    falls: np.ndarray, *, size: tuple[int, int], donors: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each region's name and bool (1 or donors, height, width)."""
    for name, region in corners_and_border(size).items():
        yield name, region[None]
    square = _squares(size, across=falls.shape[1])
    yield FIXED, square(falls.mean(axis=0))[None]
    yield MOVING, np.stack([square(falls[donor]) for donor in donors])


def _squares(size: tuple[int, int], *, across: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from cells (across, across) to bool (height, width): a fifth of the sides
    around the highest cell.
    """

    def square(cells: np.ndarray) -> np.ndarray:
        region, parts = np.zeros(size, bool), []
        for place, side, reach in zip(
            np.unravel_index(cells.argmax(), cells.shape), size, _shares(size, 5), strict=True
        ):
            start = int(np.clip((place + 0.5) * side / across - reach / 2, 0, side - reach))
            parts.append(slice(start, start + reach))
        region[tuple(parts)] = True
        return region

    return square


def _evidence(falls: np.ndarray, region: np.ndarray) -> float:
    """The share of all positive falls that lies in the region, by the part of each cell that it
    covers.
    """
    positive = np.maximum(falls, 0).mean(axis=0)
    down, right = (np.arange(side) * falls.shape[1] // side for side in region.shape[1:])
    large = positive[down][:, right]
    total = float(large.sum())
    return float((large * region.mean(axis=0)).sum() / total) if total > 0 else 0.0
