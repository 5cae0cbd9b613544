"""One scene a call: the same world for the painter, the photographer and the draughtsman."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import interiors, landscapes
from .canvas import Scene
from .palettes import Style

SCENES: dict[str, Callable[[Scene, np.random.Generator, Style], None]] = {
    "field": landscapes.field,
    "flowers": interiors.flowers,
    "mountains": landscapes.mountains,
    "portrait": interiors.portrait,
    "sea": landscapes.sea,
    "still_life": interiors.still_life,
    "street": landscapes.street,
}
"""The builders by name; each fills a Scene from far to near."""


def scene(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Scene:
    """Returns a scene of a random sort, painted flat: the medium is still to come."""
    made = Scene(width, height)
    SCENES[str(rng.choice(sorted(SCENES)))](made, rng, style)
    return made
