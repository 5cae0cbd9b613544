"""Bootstrap over images, or over groups of near-duplicates, on confusion counts.

Two groups with the same confusions are alike to every number computed from a confusion matrix. So
groups are counted by kind, and a draw is one multinomial over the kinds: the same distribution as
drawing groups one by one, at a cost that hardly grows with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.evaluation import confusion as matrices

Metric = Callable[[np.ndarray], np.ndarray]
_CELLS_AT_ONCE = 8_000_000  # float64 entries of a chunk of draws, 64 MB


@dataclass(frozen=True)
class Kinds:
    """Units of a bootstrap draw: `num_groups` groups, of which `counts[k]` are of kind k and hold
    `content[k]` patterns.

    `content` is a sparse (kinds, patterns) matrix of image counts.
    """

    num_groups: int
    counts: np.ndarray
    content: Any


def kinds(patterns: np.ndarray, groups: np.ndarray) -> Kinds:
    """Counts the groups by kind; `patterns` (n,) numbers what happened to each image, `groups` (n,)
    names its group.
    """
    from scipy import sparse

    num_patterns = int(patterns.max()) + 1
    _, group = np.unique(groups, return_inverse=True)  # 0 … num_groups - 1
    num_groups = int(group.max()) + 1
    # A sum of random 64-bit numbers, one a pattern, tells the kinds apart; two kinds share one with
    # odds below 1e-7.
    marks = np.random.default_rng(20_240_229).integers(2**63, size=num_patterns, dtype=np.uint64)
    signature = np.zeros(num_groups, dtype=np.uint64)
    np.add.at(signature, group, marks[patterns])
    _, example, counts = np.unique(signature, return_index=True, return_counts=True)
    kind_of_group = np.full(num_groups, -1)
    kind_of_group[example] = np.arange(len(example))
    chosen = kind_of_group[group] >= 0
    places = (kind_of_group[group[chosen]], patterns[chosen])
    content = sparse.csr_matrix((np.ones(chosen.sum()), places), shape=(len(example), num_patterns))
    return Kinds(num_groups, counts, content)


def draw(of: Kinds, metric: Metric, *, width: int, draws: int, seed: int) -> np.ndarray:
    """(draws, …): `metric` of each draw; it is given (some draws, patterns) float64, how often each
    pattern was drawn.

    `width` is how many numbers `metric` makes of one draw on its way; it bounds the memory.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, min(draws, _CELLS_AT_ONCE // max(width, *of.content.shape)))
    values = []
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        drawn = generator.multinomial(of.num_groups, of.counts / of.num_groups, size=size)
        values.append(metric((of.content.T @ drawn.T).T))  # (size, patterns)
    return np.concatenate(values)


def of_confusion(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    groups: np.ndarray,
    num_classes: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """(draws,) of every headline number (accuracy, balanced accuracy, macro F1, kappa, Matthews) of
    one prediction.
    """
    cells = truth * num_classes + predicted
    used, patterns = np.unique(cells, return_inverse=True)

    def headlines(drawn: np.ndarray) -> np.ndarray:
        full = np.zeros((len(drawn), num_classes**2))
        full[:, used] = drawn
        return _headlines_of(full.reshape(-1, num_classes, num_classes))

    values = draw(
        kinds(patterns, groups), headlines, width=num_classes**2, draws=draws, seed=seed
    )  # (draws, headlines)
    return dict(zip(matrices.HEADLINES, values.T, strict=True))


def of_arms(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    groups: np.ndarray,
    num_classes: int,
    draws: int = 1000,
    seed: int = 0,
    functions: Mapping[str, Metric] = matrices.HEADLINES,
) -> dict[str, np.ndarray]:
    """(draws, columns) of every headline number for several predictions of the same images, drawn
    together.

    `predicted` is (n, columns): one column an arm and seed. Their differences in one draw are
    paired. `functions` are other numbers of confusion matrices, of any number of them at once.
    """
    rows = np.column_stack([truth, predicted])
    unique, patterns = np.unique(rows, axis=0, return_inverse=True)
    patterns = patterns.reshape(-1)
    places = [unique[:, 0] * num_classes + unique[:, column] for column in range(1, rows.shape[1])]

    def headlines(drawn: np.ndarray) -> np.ndarray:
        columns = [_headlines_of(_added(drawn, place, num_classes), functions) for place in places]
        return np.stack(columns, axis=2)  # (draws, headlines, columns)

    values = draw(kinds(patterns, groups), headlines, width=num_classes**2, draws=draws, seed=seed)
    return {name: values[:, index] for index, name in enumerate(functions)}


def percentile_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the draws; draws where the number is undefined are left out."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _headlines_of(
    confusion: np.ndarray, functions: Mapping[str, Metric] = matrices.HEADLINES
) -> np.ndarray:
    return np.stack([function(confusion) for function in functions.values()], axis=1)


def _added(drawn: np.ndarray, place: np.ndarray, num_classes: int) -> np.ndarray:
    from scipy import sparse

    to_cell = sparse.csr_matrix(
        (np.ones(len(place)), (np.arange(len(place)), place)), shape=(len(place), num_classes**2)
    )
    return np.asarray(drawn @ to_cell).reshape(-1, num_classes, num_classes)
