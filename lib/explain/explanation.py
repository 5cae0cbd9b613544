"""`explain`: one call for every method and every Keras model with images in and classes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from lib.errors import DarkroomError, suggest
from lib.explain import cam, gradients, masks, surrogate
from lib.explain import model_wrapper as asked
from lib.explain.model_wrapper import BlackBox


@dataclass(frozen=True)
class Method:
    """A way to explain: its title in figures, its function, and what its maps are made of (maps,
    pixels, patches, pieces).

    `seeded` ones draw at random, so their maps change a little with the seed.
    """

    title: str
    function: Callable
    grain: str
    seeded: bool = False

    @property
    def needs_gradients(self) -> bool:
        """Whether only a network can be explained by it; the others ask for probabilities alone."""
        return self.grain in ("maps", "pixels")

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that the method takes."""
        return tuple(inspect.signature(self.function).parameters)[4:]


METHODS = {
    "gradcam": Method("Grad-CAM", cam.gradcam, "maps"),
    "gradcam_plus_plus": Method("Grad-CAM++", cam.gradcam_plus_plus, "maps"),
    "integrated_gradients": Method(
        "Integrated gradients", gradients.integrated_gradients, "pixels"
    ),
    "smoothgrad": Method("SmoothGrad", gradients.smoothgrad, "pixels", seeded=True),
    "occlusion": Method("Occlusion", masks.occlusion, "patches"),
    "rise": Method("RISE", masks.rise, "patches", seeded=True),
    "lime": Method("LIME", surrogate.lime, "pieces", seeded=True),
    "kernel_shap": Method("KernelSHAP", surrogate.kernel_shap, "pieces", seeded=True),
}


def explain(
    model: keras.Model | BlackBox,
    images: np.ndarray,
    *,
    method: str = "gradcam",
    target: int | str | Sequence | None = None,
    score: str = "logit",
    seed: int = 0,
    batch_size: int = 32,
    engine: str = "keras",
    **options: object,
) -> np.ndarray:
    """Returns float32 (n, height, width): how much each place of each image speaks for the target
    class; below 0 against it.

    Args:
        model: any Keras model of images (n, height, width, 3) with one output (n, classes); models
            inside models and an activation at the end are no matter. Or a black box such as a
            thumbnail model, for methods without gradients. images: RGB as the model takes them,
            uint8 or float. method: a name of `METHODS`. target: the class to explain, by name or
            number, or one for each image; None takes the predicted one. score: what of the class is
            explained, one of `compiled.SCORES`. seed: of methods that draw at random; the same seed
            gives the same maps on every backend, up to rounding. batch_size: images computed at
            once. engine: what computes for methods without gradients: "keras", or "auto" and
            "openvino", faster on a CPU but for the seconds of the first call. options: the method's
            own, as its function in `METHODS` names them.

    Raises:
        DarkroomError: for an unknown method, option or class, other images, and a model without
            maps for Grad-CAM.

    Example:
        >>> heat = explain(model, images, method="occlusion", target="Schematics", patch=16)
    """
    if method not in METHODS:
        known = list(METHODS)
        raise DarkroomError(
            f"`method` must be one of {', '.join(known)}. Received: "
            f"{method!r}.{suggest(method, known)}"
        )
    known = METHODS[method].options
    for name in options:
        if name not in known:
            raise DarkroomError(
                f"{method!r} takes the options {', '.join(known)}. Received: "
                f"{name!r}.{suggest(name, known)}"
            )
    scored = asked.of(model, score, batch_size)
    images = _checked(images, scored.size, batch_size)
    if not len(images):
        return np.zeros(images.shape[:3], np.float32)
    targets = scored.targets(images, target)
    if isinstance(scored, asked.Scored) and not METHODS[method].needs_gradients:
        scored = asked.by_engine(scored, images, engine)
    return (
        METHODS[method].function(scored, images, targets, seed=seed, **options).astype(np.float32)
    )


def _checked(images: np.ndarray, size: tuple[int, int], batch_size: int) -> np.ndarray:
    if batch_size < 1:
        raise DarkroomError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != (*size, 3):
        received = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        shape = f"(n, {size[0]}, {size[1]}, 3)"
        raise DarkroomError(
            f"`images` must be an RGB array of the shape {shape}. Received: {received}."
        )
    return images.astype(np.float32)
