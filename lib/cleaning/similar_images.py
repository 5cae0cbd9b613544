"""Whether two thumbnails show the same: laid over each other, and compared in what is particular to
them.

Plain correlation calls all pictures of one kind alike, because they share a layout: every solar
cell has its busbars, every page its margins. So what a data set's pictures have in common is taken
off first, and the rest is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import linalg

from lib.cleaning.measurements import THUMB, orient

COARSE = THUMB // 2
EDGE = 5 / 64
"""Share of a thumbnail's side that is left out at each edge, where a cropped or turned copy has
nothing to show.
"""

SAMPLE = 1_500
MOST_COMMON = 50
COMMON_SHARE = 3
"""Of n pictures at most n / 50 components are common, those with more than 3 / n of the energy:
three times what each picture has to itself. They hold 18 % of photographs of many things, but 84 %
of the 2,624 solar cells of `elpv`.
"""

LEAST_PARTICULAR = 0.1
"""What must be left of a picture, as a share of its energy, once the common is off; with less it
cannot be told apart from others of its kind, so only the same pixels make it a duplicate.
"""

GREATEST_SHIFT = 0.12
"""How far, as a share of the side, laying over may move a corner; more than that is another
picture.
"""


class Comparer:
    """Compares thumbnails of one data set. `thumbs` is uint8 grey of shape (n, 64, 64), of which
    `rows` are the pictures' (default: all); it may be mapped from disk, since only what is compared
    is read.

    `distinct` are positions of pictures that are no copies of each other (default: all): what is
    common is learnt from those, since fifty copies of one picture have everything in common.
    """

    def __init__(
        self,
        thumbs: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        distinct: np.ndarray | None = None,
    ) -> None:
        self._thumbs, self._rows = thumbs, np.arange(len(thumbs)) if rows is None else rows
        chosen = np.arange(len(self._rows)) if distinct is None else distinct
        sample = np.sort(np.random.default_rng(0).permutation(chosen)[:SAMPLE])
        fine = [self._picture(at) for at in sample]
        self._common = {
            THUMB: common(fine, side=THUMB),
            COARSE: common([_shrunk(thumb) for thumb in fine], side=COARSE),
        }
        self._particular = np.full(len(self._rows), np.nan)

    def likeness(self, first: int, second: int, turn: int) -> float:
        """Returns how alike picture `first` and picture `second`, turned, are: 1 the same, below
        0.8 something else.

        0 where one of them has nothing of its own, or where they differ so much at half size that
        it was not tried further.
        """
        if min(self.particular(first), self.particular(second)) < LEAST_PARTICULAR:
            return 0.0
        warp = np.eye(2, 3, dtype=np.float32)
        score = 0.0
        a, b = self._picture(first), np.ascontiguousarray(orient(self._picture(second), turn))
        for coarse, blur, rounds, enough in ((True, 5, 20, 0.5), (False, 3, 30, 0.0)):
            one, other = (
                (_shrunk(thumb) if coarse else thumb).astype(np.float32) for thumb in (a, b)
            )
            as_they_are = self._correlation(one, other)
            if as_they_are > 0.97:
                return as_they_are
            warp = laid_over(one, other, warp, blur=blur, rounds=rounds)
            if _shift(warp, len(one)) > GREATEST_SHIFT:
                return max(0.0, as_they_are)
            score = max(as_they_are, self._correlation(one, warped(other, warp)))
            if score < enough:
                return 0.0
            warp = scaled(warp, 2)
        return score

    def particular(self, at: int) -> float:
        """Returns what is left of picture `at` once the common is off, as a share of its energy,
        0..1.
        """
        if np.isnan(self._particular[at]):
            vector = detail(self._picture(at))
            shared = self._common[THUMB].T @ vector
            self._particular[at] = 1 - shared @ shared / (vector @ vector + 1e-6)
        return float(self._particular[at])

    def _picture(self, at: int) -> np.ndarray:
        return np.asarray(self._thumbs[self._rows[at]])

    def _correlation(self, one: np.ndarray, other: np.ndarray) -> float:
        components = self._common[len(one)]
        a, b = detail(one), detail(other)
        whole = _cosine(a, b)
        if whole < 0.5 or not components.shape[1]:
            return whole
        return min(
            whole, _cosine(*(vector - components @ (components.T @ vector) for vector in (a, b)))
        )


def detail(thumb: np.ndarray) -> np.ndarray:
    """Returns what is finer than about a tenth of the thumbnail, its edge left out, as a float32
    vector of mean 0.
    """
    picture = thumb.astype(np.float32)
    fine = picture - cv2.GaussianBlur(picture, (0, 0), len(thumb) * 3 / 64)
    edge = round(len(thumb) * EDGE)
    inner = fine[edge:-edge, edge:-edge]
    return (inner - inner.mean()).ravel()


def common(thumbs: Sequence[np.ndarray], *, side: int) -> np.ndarray:
    """Returns the orthonormal components, shape (pixels, number), that thumbnails of a side share;
    see `COMMON_SHARE`.
    """
    if len(thumbs) < 100:  # too few to tell what is common from what is particular
        return np.empty((len(detail(np.zeros((side, side), np.uint8))), 0), np.float32)
    rows = np.stack([detail(thumb) for thumb in thumbs])  # (pictures, pixels)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    number, most = len(rows), len(rows) // MOST_COMMON
    energy, vectors = linalg.eigh(rows @ rows.T, subset_by_index=[number - most, number - 1])
    order = np.flatnonzero(energy > COMMON_SHARE / number * (rows * rows).sum())[::-1]
    return (rows.T @ vectors[:, order] / np.sqrt(energy[order])).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-6))


def _shrunk(thumb: np.ndarray) -> np.ndarray:
    return cv2.resize(thumb, (COARSE, COARSE), interpolation=cv2.INTER_AREA)


def laid_over(
    one: np.ndarray, other: np.ndarray, warp: np.ndarray, *, blur: int, rounds: int
) -> np.ndarray:
    """Returns the affine map, found from `warp` on, that lays `other` over `one`; `warp` itself
    where none is found.

    Source: Evangelidis and Psarakis, TPAMI 30 (2008), algorithm ECC.
    """
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, 1e-4)
    try:
        return cv2.findTransformECC(one, other, warp.copy(), cv2.MOTION_AFFINE, until, None, blur)[
            1
        ]
    except (
        cv2.error
    ):  # it does not converge where there is nothing in common: then they are compared as they are
        return warp


def warped(picture: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Returns the picture under the map, its edge continued."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, warp, picture.shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE
    )


def _shift(warp: np.ndarray, side: int) -> float:
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], np.float64).T
    return float(np.abs(warp @ corners - corners[:2]).max()) / side


def scaled(warp: np.ndarray, factor: float) -> np.ndarray:
    """Returns the same map for pictures `factor` times as large; pixel centres lie at (i + 1/2)."""
    larger = warp.copy()
    half = np.array([0.5, 0.5], np.float32)
    larger[:, 2] = factor * (warp[:, 2] + half - warp[:, :2] @ half) - half + warp[:, :2] @ half
    return larger
