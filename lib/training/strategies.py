"""The ways to train: from scratch, a head on frozen features, and fine-tuning in two phases, of the
top or of everything.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas

from lib.data.batches import Examples, examples
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.errors import DarkroomError, suggest
from lib.models import feature_cache, transfer
from lib.models import inference as engines
from lib.runs import Run
from lib.training import checkpoints
from lib.training.callbacks import Halt
from lib.training.fit import Fitted, fit
from lib.training.settings import Settings

_HEAD = Settings(epochs=30, batch_size=32, learning_rate=1e-3, schedule="cosine")
"""The first phase of fine-tuning: a head on stored features costs seconds, so it may take its time.
"""


@dataclasses.dataclass(frozen=True)
class Material:
    """What every recipe trains on: the decoded images, their split, and the folder where features
    are kept.
    """

    pixels: Pixels
    split: Split
    features_folder: Path

    @property
    def dataset_folder(self) -> Path:
        """The data set's folder, where the openings of its test split are recorded."""
        return self.features_folder.parent

    def examples(self, name: str) -> Examples:
        """Returns one split's images with their truth."""
        return examples(self.pixels, self.split.of(name), self.split.class_names)

    def on_features(self, name: str, features: np.ndarray) -> Examples:
        """Returns one split's stored features, rows of an array that has one for each decoded
        image, with their truth.
        """
        return dataclasses.replace(self.examples(name), images=features)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model and how it came about; `seconds` is the time of this session alone.

    Where only the head learnt, on features that Keras computed, `on_features` holds the head as a
    model of its own and the stored features, one row a decoded image, so that scoring need not
    compute them again.
    """

    model: keras.Model
    fitted: Fitted
    recipe: str
    settings: Settings
    seconds: float
    on_features: tuple[keras.Model, np.ndarray] | None


def train(
    recipe: str,
    model: keras.Model,
    material: Material,
    *,
    settings: Settings,
    run: Run,
    fraction: float = 0.3,
    halt: Halt | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Trains `model` in place by a recipe.

    Args:
        recipe: `scratch` (all weights at once), `frozen` (the head alone, on features computed
            once), `fine_tune` (the head first, then the last layers at `settings.learning_rate`,
            with batch normalisation frozen) or `full` (the head first, then everything, batch
            normalisation included).
        model: as `lib.models.build` makes it.
        material: pixels and split.
        settings: of the main phase.
        run: the open run.
        fraction: share of the weighted layers that learn in `fine_tune`, above 0 and at most 1.
        halt: may interrupt the main phase after an epoch, see `fit`.
        callbacks: Keras callbacks of the main phase.

    Raises:
        DarkroomError: for an unknown recipe, a custom network that has nothing to freeze, or
            augmentation of frozen features.
    """
    if recipe not in RECIPES:
        raise DarkroomError(
            f"There is no training recipe {recipe!r}. There are: "
            f"{', '.join(RECIPES)}.{suggest(recipe, list(RECIPES))}"
        )
    if recipe != "scratch" and model.name == "custom":
        raise DarkroomError(
            f"The recipe {recipe!r} needs a pretrained network, and the custom one starts from "
            "random weights. "
            "Use strategy = 'scratch', or another architecture."
        )
    began = time.monotonic()
    main = functools.partial(fit, run=run, halt=halt, callbacks=callbacks)
    fitted, on_features = RECIPES[recipe](model, material, settings, run, fraction, main)
    return Trained(model, fitted, recipe, settings, round(time.monotonic() - began, 2), on_features)


def clear(run: Run) -> None:
    """Deletes what only resume needed, but for what more epochs would need, where that is small.

    Called when the model itself has been saved.
    """
    for phase in ("head", "train"):
        checkpoints.clear(run.checkpoint_folder / phase)


_Outcome = tuple[Fitted, tuple[keras.Model, np.ndarray] | None]
_Fit = Callable[..., Fitted]


def _scratch(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    _: float,
    main: _Fit,
) -> _Outcome:
    train, val = material.examples("train"), material.examples("val")
    return main(model, train, val, settings=settings), None


def _frozen(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    _: float,
    main: _Fit,
) -> _Outcome:
    for name in ("augmentation", "mix"):
        if getattr(settings, name) != "none":
            raise DarkroomError(
                f"Frozen features are computed once, from the images as they are, so {name} cannot "
                "act. "
                f"Received: {name} = {getattr(settings, name)!r}. Use 'none', or strategy = "
                "'fine_tune'."
            )
    return _fit_head(model, material, settings, run, functools.partial(main, phase="train"))


def _fine_tune(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    fraction: float,
    main: _Fit,
) -> _Outcome:
    return _two_phases(
        model,
        material,
        settings,
        run,
        main,
        release=lambda: transfer.unfreeze_top(model, fraction=fraction),
    )


def _full(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    _: float,
    main: _Fit,
) -> _Outcome:
    return _two_phases(
        model, material, settings, run, main, release=lambda: transfer.unfreeze(model)
    )


def _two_phases(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    main: _Fit,
    *,
    release: Callable[[], int],
) -> _Outcome:
    # The head learns by the loss of the whole, or the second phase would begin by unlearning.
    told = ("seed", "class_weights", "loss", "focal_gamma", "label_smoothing", "feature_backend")
    first = dataclasses.replace(_HEAD, **{name: getattr(settings, name) for name in told})
    run.progress(phase=1, phases=2, phase_started=time.time())
    head, _ = _fit_head(model, material, first, run, functools.partial(fit, run=run, phase="head"))
    release()
    run.progress(phase=2, phases=2, phase_started=time.time(), epoch=0, note="")
    before = len(head.history)  # epochs count on from the first phase to the second
    fitted = main(
        model,
        material.examples("train"),
        material.examples("val"),
        settings=settings,
        epochs_before=before,
    )
    history = pandas.concat(
        [head.history, fitted.history.assign(epoch=fitted.history["epoch"] + before)],
        ignore_index=True,
    )
    return dataclasses.replace(fitted, history=history, kept_epoch=fitted.kept_epoch + before), None


def _fit_head(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    fit_head: _Fit,
) -> _Outcome:
    transfer.freeze(model)
    run.progress(note="features of the frozen layers")
    features = feature_cache.ensure(
        model,
        material.pixels.array,
        images_key=material.pixels.key,
        folder=material.features_folder,
        engine=settings.feature_backend,
    )
    classifier = transfer.classifier_on_features(model)
    train, val = (material.on_features(name, features) for name in ("train", "val"))
    fitted = fit_head(classifier, train, val, settings=settings)
    transfer.graft(model, classifier)
    # A run's predictions come from Keras, so features of another engine serve learning alone.
    is_exact = engines.resolve(settings.feature_backend) == "keras"
    return fitted, (classifier, features) if is_exact else None


RECIPES = {"scratch": _scratch, "frozen": _frozen, "fine_tune": _fine_tune, "full": _full}
