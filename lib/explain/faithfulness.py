"""Tests of heat-maps: deletion, insertion, µ-fidelity, randomised weights, and stability;
and a search for shortcuts.

A map that does no better than a random one, or than the edges of the picture, explains nothing,
however good it looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import cv2
import keras
import numpy as np
import pandas as pd
from scipy import stats

from lib.errors import DarkroomError
from lib.evaluation import statistics
from lib.explain import attribution_methods, heat_maps, model_wrapper
from lib.explain.attribution_methods import METHODS, explain
from lib.explain.heat_maps import scaled
from lib.explain.model_wrapper import Batch, BlackBox

MEASURES = {"deletion": -1, "insertion": 1, "mu_fidelity": 1}
"""Each measure and its good direction: 1 where more is better."""

RANDOM, EDGES = "random", "edges"
"""The two rows of the table that ignore the model."""


def deletion(
    batch: Batch,
    maps: np.ndarray,
    *,
    steps: int = 14,
    cell: int | None = None,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the mean score while cells are hidden, highest attribution first; low is good.

    0, 1/steps, … and all pixels are hidden; the mean is the area under that curve. `cell` is a side
    in pixels, by default a 14th of the image's: scattered single pixels would form a texture that
    a network may take for the hidden object.

    Source: Petsiuk et al. 2018, section 4.3; cells as in Samek et al. 2017.
    """
    cell = cell or max(2, round(max(batch.size) / 14))
    return _area(batch.masked(~_first(_by_cells(maps, cell=cell), steps=steps), baseline))


def insertion(
    batch: Batch, maps: np.ndarray, *, steps: int = 14, baseline: str = "blur"
) -> np.ndarray:
    """Returns (n,): the mean score while pixels appear in the blurred image; high is good."""
    return _area(batch.masked(_first(maps, steps=steps), baseline))


def mu_fidelity(
    batch: Batch,
    maps: np.ndarray,
    *,
    seed: int = 0,
    samples: int = 64,
    grid: int = 9,
    share: float = 0.2,
    baseline: str = "mean",
) -> np.ndarray:
    """Returns (n,): the correlation of attribution and score loss over random sets of cells.

    Each set hides `share` of grid x grid cells. 0 if the map or the score is constant.

    Source: Bhatt et al. 2020.
    """
    rng, size = np.random.default_rng(seed), max(1, round(share * grid**2))
    cells = rng.random((samples, grid**2)).argsort(axis=1) < size  # (samples, cells)
    down, across = (np.arange(side) * grid // side for side in batch.size)
    hidden = cells.reshape(samples, grid, grid)[:, down][:, :, across]  # (samples, height, width)
    falls = batch.scores()[:, None] - batch.masked(~hidden, baseline)  # (n, samples)
    sums = np.einsum("nhw,shw->ns", maps.astype(np.float64), hidden, optimize=True)
    return np.array([_correlation(one, other) for one, other in zip(sums, falls, strict=True)])


def evaluate(batch: Batch, maps: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Returns one row an image with the columns of `MEASURES`."""
    return pd.DataFrame(
        {
            "deletion": deletion(batch, maps),
            "insertion": insertion(batch, maps),
            "mu_fidelity": mu_fidelity(batch, maps, seed=seed),
        }
    )


def evaluate_all(
    batch: Batch, maps: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Returns `evaluate` for every method, and for random maps and edges."""
    images = batch.images
    if not maps or any(own.shape != images.shape[:3] for own in maps.values()):
        raise DarkroomError(
            f"`maps` must hold maps of the shape {images.shape[:3]}. Received: {list(maps)}."
        )
    known = {
        RANDOM: heat_maps.random_maps(images, seed=seed),
        EDGES: heat_maps.edge_maps(images),
    }
    return {name: evaluate(batch, own, seed=seed) for name, own in {**maps, **known}.items()}


def table(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns one row a method: mean measures, and their gain over random maps.

    For a measure m, `m_gain` is the mean difference to random maps on the same images, positive if
    the method is better, `m_low` and `m_high` its 95 % interval (Student's t over images), and
    `m_share` the share of images that gain. `results` is from `evaluate_all`.
    """
    rows = {}
    for name, own in results.items():
        row = {"num_images": len(own)}
        for measure, direction in MEASURES.items():
            gains = direction * (own[measure] - results[RANDOM][measure]).to_numpy()
            row[measure] = own[measure].mean()
            if name != RANDOM:
                low, high = _interval(gains)
                row |= {f"{measure}_gain": gains.mean(), f"{measure}_low": low}
                row |= {f"{measure}_high": high, f"{measure}_share": (gains > 0).mean()}
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _by_cells(maps: np.ndarray, *, cell: int) -> np.ndarray:
    """Maps in which every pixel has the mean of its cell."""
    down, across = (np.arange(side) // cell for side in maps.shape[1:])
    cells = (down[:, None] * (across[-1] + 1) + across).ravel()
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    sums = np.stack([np.bincount(cells, weights=own) for own in flat])  # (n, cells)
    return (sums / np.bincount(cells))[:, cells].reshape(maps.shape)


def _first(maps: np.ndarray, *, steps: int) -> np.ndarray:
    """bool (n, steps + 1, height, width): the pixels of highest attribution, from none to all."""
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    limits = np.round(np.linspace(0, order.shape[1], steps + 1))
    return (ranks[:, None] < limits[None, :, None]).reshape(len(maps), steps + 1, *maps.shape[1:])


def _area(scores: np.ndarray) -> np.ndarray:
    return np.trapezoid(scores.astype(np.float64), dx=1 / (scores.shape[1] - 1), axis=1)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def _interval(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return values.mean() - reach, values.mean() + reach


def shuffled(model: keras.Model, *, seed: int = 0) -> keras.Model:
    """Returns a copy of the model in which the values of every weight array are permuted."""
    rng = np.random.default_rng(seed)
    copy = keras.models.clone_model(model)
    copy.set_weights(
        [rng.permutation(weight.ravel()).reshape(weight.shape) for weight in model.get_weights()]
    )
    return copy


def randomisation(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str,
    target: Sequence[int],
    seed: int = 0,
    **options: object,
) -> np.ndarray:
    """Returns (n,): the similarity (SSIM) to the maps of the same network with shuffled weights.

    Low is good: a method whose maps stay the same shows the image, not the model.

    Source: Adebayo et al. 2018.
    """
    wanted = {"method": method, "target": target, "seed": seed, **options}
    return similarity(
        explain(model, images, **wanted), explain(shuffled(model, seed=seed), images, **wanted)
    )


def stability(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str,
    target: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    **options: object,
) -> np.ndarray:
    """Returns (n,): the mean rank correlation of maps over pairs of seeds.

    1 for methods without randomness.
    """
    if not METHODS[method].seeded:
        return np.ones(len(images))
    wanted = {"method": method, "target": target, **options}
    maps = [explain(model, images, seed=seed, **wanted) for seed in seeds]
    pairs = [
        [stats.spearmanr(*pair, axis=None).statistic for pair in zip(one, other, strict=True)]
        for one, other in itertools.combinations(maps, 2)
    ]
    return np.mean(pairs, axis=0)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns (n,): the structural similarity of scaled maps; 1 for equal, about 0 for unrelated.

    Source: Wang et al. 2004, equation 13, Gaussian window of 1.5 pixels.
    """
    return np.array(
        [_ssim(scaled(one), scaled(other)) for one, other in zip(first, second, strict=True)]
    )


def _ssim(
    one: np.ndarray, other: np.ndarray, *, first: float = 0.01**2, second: float = 0.03**2
) -> float:
    mean_one, mean_other = _smooth(one), _smooth(other)
    var_one, var_other = _smooth(one**2) - mean_one**2, _smooth(other**2) - mean_other**2
    both = _smooth(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + first) * (2 * both + second)
    return float(
        (above / ((mean_one**2 + mean_other**2 + first) * (var_one + var_other + second))).mean()
    )


def _smooth(heat: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(heat, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


ALARM = 0.3
"""A region is suspected if the interval of turned predictions is above this share."""

FIXED, MOVING = "one place", "a small patch anywhere"
"""The most important patch on average over the class, and the one of each image."""


_COLUMNS = ["class", "region", "area", "turned", "low", "high", "evidence", "suspected"]


def detect_shortcuts(
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
        donors, receivers = rng.choice(chosen, transplants), rng.choice(others, transplants)
        regions = _regions(losses, size=wrapper.size, donors=np.searchsorted(own, donors))
        for name, region in regions:
            pasted = np.where(region[..., None], images[donors], images[receivers])
            turned = int((wrapper.targets(pasted, None) == label).sum())
            low, high = statistics.wilson(turned, transplants)
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
    table = pd.DataFrame(rows)
    return table.sort_values("turned", ascending=False, kind="stable", ignore_index=True)


def shortcuts_sentence(table: pd.DataFrame) -> str:
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
    heat = attribution_methods.occlusion(batch, patch=-(-max(batch.size) // across))
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
    yield FIXED, _square(losses.mean(axis=0), size)[None]
    yield MOVING, np.stack([_square(losses[donor], size) for donor in donors])


def _square(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool (height, width): a square of a fifth of the sides around the highest cell."""
    region, parts = np.zeros(size, bool), []
    places = np.unravel_index(cells.argmax(), cells.shape)
    for place, side, reach in zip(places, size, _fractions(size, 5), strict=True):
        start = int(np.clip((place + 0.5) * side / len(cells) - reach / 2, 0, side - reach))
        parts.append(slice(start, start + reach))
    region[tuple(parts)] = True
    return region


def _evidence(losses: np.ndarray, region: np.ndarray) -> float:
    """The region's share of all positive losses, by the part of each cell that it covers."""
    positive = np.maximum(losses, 0).mean(axis=0)
    down, correct = (np.arange(side) * losses.shape[1] // side for side in region.shape[1:])
    large = positive[down][:, correct]
    total = float(large.sum())
    return float((large * region.mean(axis=0)).sum() / total) if total > 0 else 0.0
