"""Whether two pictures are one photograph, edited, and not two photographs of things that look
alike.

At 64 px two wafers of one ingot, two pages of one form or two frames of one scene are as alike as a
picture and its compressed copy. What tells them apart is the finest structure that a file still
holds, noise included: an edited copy has it from its original, another photograph has its own. So
the pairs that likeness has found are laid over each other in full size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import cv2
import numpy as np

from lib.cleaning.measurements import THUMB, orient
from lib.cleaning.similar_images import laid_over, scaled, warped

GREATEST_SIDE = 320
"""Pictures are compared at the side of the smaller one, at most at this, px."""

FINEST = 0.74
"""From which share of the finest structure that both have in common, in the worst quarter of the
picture, it is one photograph. Measured: the greatest among 254 pairs of neighbouring wafers of
`elpv` is 0.72.
"""

FINE = 0.965
"""From which correlation of the fine structure it is one photograph all the same: strong
compression takes the finest away. The greatest among those pairs is 0.958.
"""

EDGE = 5 / 64
BLOCKS = 5
_KEPT = 64  # pictures that stay decoded, since a group compares the same few again and again


class Prover:
    """Tells copies from look-alikes. `read(index)` returns a picture as uint8 grey (height, width),
    or None when it is gone.
    """

    def __init__(self, read: Callable[[int], np.ndarray | None]) -> None:
        self._read, self._lock = read, Lock()
        self._pictures: OrderedDict[int, np.ndarray | None] = OrderedDict()

    def compare(self, first: int, second: int, turn: int) -> tuple[bool, float]:
        """Returns whether picture `second`, turned into `turn` of `measurements.orient`, is the
        same photograph as `first`, and the finest structure that 60 % of the blocks share.

        The second tells an overlay on one photograph (about 1) from another photograph of the same
        scene, whose noise is its own (about 0).
        """
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            return False, 0.0
        side = min(GREATEST_SIDE, *one.shape, *other.shape)
        a, b = (
            _square(picture, side) for picture in (one, np.ascontiguousarray(orient(other, turn)))
        )
        same, shared = same_photograph(a, b)
        if same:  # many copies are only compressed again or brightened
            return True, shared
        warp = np.eye(2, 3, dtype=np.float32)
        for size, rounds in ((min(side, THUMB), 30), (side, 15)):
            warp = laid_over(
                _square(a, size), _square(b, size), scaled(warp, size), blur=3, rounds=rounds
            )
            warp = scaled(warp, 1 / size)
        same, shared_now = same_photograph(a, warped(b, scaled(warp, side)))
        return same, max(shared, shared_now)

    def _picture(self, index: int) -> np.ndarray | None:
        with self._lock:
            if index in self._pictures:
                self._pictures.move_to_end(index)
                return self._pictures[index]
        picture = self._read(index)
        with self._lock:
            self._pictures[index] = picture
            while len(self._pictures) > _KEPT:
                self._pictures.popitem(last=False)
        return picture


def same_photograph(one: np.ndarray, other: np.ndarray) -> tuple[bool, float]:
    """Returns whether two float32 squares that lie over each other hold the same finest structure
    (see `FINEST` and `FINE`), and the share of it that 60 % of the blocks have in common.
    """
    gain = np.std(_band(one, 2, len(one) / 20)) / (np.std(_band(other, 2, len(one) / 20)) + 1e-6)
    a, b = _band(one, 0, 1), gain * _band(other, 0, 1)
    energy = _blocks(a * a)
    # A compressed or resized copy has less of it than the original, so what both share is held
    # against the lesser one.
    shared = _blocks(a * b) / (np.minimum(energy, _blocks(b * b)) + 1e-3)
    by_block = np.sort(shared[energy >= 0.1 * energy.max()])  # flat parts have nothing to tell
    most = float(np.percentile(by_block, 40))
    if by_block[: max(1, len(by_block) // 4)].mean() >= FINEST:
        return True, most
    a, b = _band(one, 0.6, 2), _band(other, 0.6, 2)
    fine = float((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean() + 1e-6))
    return fine >= FINE, most


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _band(picture: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Structure between two sizes in px, the edge left out where a cropped or turned copy has
    nothing to show.
    """
    upper = cv2.GaussianBlur(picture, (0, 0), fine) if fine else picture
    edge = round(len(picture) * EDGE)
    return (upper - cv2.GaussianBlur(picture, (0, 0), coarse))[edge:-edge, edge:-edge]


def _blocks(values: np.ndarray) -> np.ndarray:
    side = len(values) // BLOCKS
    inner = values[: side * BLOCKS, : side * BLOCKS]
    return inner.reshape(BLOCKS, side, BLOCKS, side).mean(axis=(1, 3)).ravel()
