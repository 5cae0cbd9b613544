"""`explain`: one call for every method and every Keras model from images to classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from lib.errors import DarkroomError, check_choice, suggest
from lib.explain import gradient_methods, model_wrapper, perturbation_methods
from lib.explain.model_wrapper import BlackBox


@dataclass(frozen=True)
class Method:
    """A method: its title in figures, its function, and its unit (maps, pixels, patches, segments).

    The maps of `seeded` methods change a little with the seed.
    """

    title: str
    function: Callable
    unit: str
    seeded: bool = False

    @property
    def needs_gradients(self) -> bool:
        """Whether the method explains networks only; the others need probabilities alone."""
        return self.unit in ("maps", "pixels")

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the method's options."""
        return tuple(inspect.signature(self.function).parameters)[2:]


METHODS = {
    "gradcam": Method("Grad-CAM", gradient_methods.gradcam, "maps"),
    "gradcam_plus_plus": Method("Grad-CAM++", gradient_methods.gradcam_plus_plus, "maps"),
    "integrated_gradients": Method(
        "Integrated gradients", gradient_methods.integrated_gradients, "pixels"
    ),
    "smoothgrad": Method("SmoothGrad", gradient_methods.smoothgrad, "pixels", seeded=True),
    "occlusion": Method("Occlusion", perturbation_methods.occlusion, "patches"),
    "rise": Method("RISE", perturbation_methods.rise, "patches", seeded=True),
    "lime": Method("LIME", perturbation_methods.lime, "segments", seeded=True),
    "kernel_shap": Method("KernelSHAP", perturbation_methods.kernel_shap, "segments", seeded=True),
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
    """Returns float32 (n, height, width): evidence for the target class, negative if against it.

    Args:
        model: any Keras model from images (n, height, width, 3) to classes (n, classes), also with
            nested models and a final activation. Or a black box such as a thumbnail model, for
            methods without gradients.
        images: RGB as the model takes them, uint8 or float.
        method: a name in `METHODS`.
        target: the class to explain, by name or number, or one for each image; None for the
            predicted class.
        score: what is explained, one of `model_wrapper.SCORES`.
        seed: of methods with random numbers; the same seed gives the same maps on every backend,
            up to rounding.
        batch_size: images computed at once.
        engine: for methods without gradients: "keras", or "auto" and "openvino", which are faster
            on a CPU after the seconds of the first call.
        options: of the method, see its function in `METHODS`.

    Raises:
        DarkroomError: for an unknown method, option or class, images of another shape, and a model
            without feature maps for Grad-CAM.

    Example:
        >>> heat = explain(model, images, method="occlusion", target="Schematics", patch=16)
    """
    check_choice("method", method, METHODS)
    known = METHODS[method].options
    for name in options:
        if name not in known:
            raise DarkroomError(
                f"{method!r} has the options {', '.join(known)}. "
                f"Received: {name!r}.{suggest(name, known)}"
            )
    wrapper = model_wrapper.wrap(model, score, batch_size)
    images = _checked(images, wrapper.size, batch_size)
    if not len(images):
        return np.zeros(images.shape[:3], np.float32)
    targets = wrapper.targets(images, target)
    is_network = isinstance(wrapper, model_wrapper.NetworkWrapper)
    if is_network and not METHODS[method].needs_gradients:
        wrapper = model_wrapper.with_engine(wrapper, images, engine)
    batch = model_wrapper.Batch(wrapper, images, targets)
    maps = METHODS[method].function(batch, seed=seed, **options)
    return maps.astype(np.float32)


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
