"""Training strategies: scratch, frozen features, linear probe, fine-tuning of the top or of all.

Fine-tuning never ends below its own head: after the second phase the head's state, the tuned
weights and the mean of the two compete on validation, and the best is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas

from lib.data.batches import Examples, examples
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.errors import DarkroomError, suggest
from lib.models import feature_cache, heads, linear_head, predictor, transfer
from lib.models import inference as engines
from lib.runs import Run
from lib.training import checkpoints
from lib.training.callbacks import Halt
from lib.training.fit import Fitted, class_weights, fit
from lib.training.settings import Settings

_CHUNK = 1024  # images in memory at once
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

    If only the head was trained, on features that Keras computed, `on_features` holds the head as a
    model of its own and the stored features, one row a decoded image, so that scoring need not
    compute them again. Where the model was fitted to validation images too, `val_probabilities` are
    those of the model before that. `selection` says which state fine-tuning kept, and by what.
    """

    model: keras.Model
    fitted: Fitted
    recipe: str
    settings: Settings
    seconds: float
    on_features: tuple[keras.Model, np.ndarray] | None
    val_probabilities: np.ndarray | None = None
    selection: dict[str, Any] | None = None


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
            once), `linear_probe` (the best of several linear classifiers on the same features,
            fitted in closed form or to convergence and refitted on train and validation),
            `fine_tune` (a linear head first, then the last layers at `settings.learning_rate`, with
            batch normalisation frozen) or `full` (the same with everything, batch normalisation
            included).
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
    if recipe not in STRATEGIES:
        raise DarkroomError(
            f"There is no training strategy {recipe!r}. There are: "
            f"{', '.join(STRATEGIES)}.{suggest(recipe, list(STRATEGIES))}"
        )
    if recipe != "scratch" and model.name == "custom":
        raise DarkroomError(
            f"The strategy {recipe!r} needs a pretrained network, and the custom one starts from "
            "random weights. "
            "Use strategy = 'scratch', or another architecture."
        )
    began = time.monotonic()
    main = functools.partial(fit, run=run, halt=halt, callbacks=callbacks)
    outcome = STRATEGIES[recipe](model, material, settings, run, fraction, main)
    seconds = round(time.monotonic() - began, 2)
    return Trained(model, recipe=recipe, settings=settings, seconds=seconds, **outcome)


def clear(run: Run) -> None:
    """Deletes what only resume needed, but for what more epochs would need, where that is small.

    Called when the model itself has been saved.
    """
    for phase in ("head", "train"):
        checkpoints.clear(run.checkpoint_folder / phase)


_Outcome = dict[str, Any]  # fields of Trained
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
    return _outcome(main(model, train, val, settings=settings))


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


def _linear_probe(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    _: float,
    main: _Fit,
) -> _Outcome:
    if heads.of(model).kind == "multilabel":
        raise DarkroomError(
            "A linear probe gives an image one class, and these images have several labels. Use "
            "strategy = 'frozen' or 'fine_tune'."
        )
    fitted, probe = _fit_probe(model, material, settings)
    val = material.examples("val")
    logits = _units(model, probe.logits(_features(model, material, settings)[val.rows]))
    probabilities = heads.probabilities(heads.of(model), logits)
    both = _Probed(model, material, settings, ("train", "val"))
    _set_head(model, linear_head.refit(probe, *both.examples, **both.options))
    outcome = _outcome(fitted, _on_features(model, material, settings, always=True))
    return outcome | {"val_probabilities": probabilities}


def _two_phases(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    main: _Fit,
    *,
    release: Callable[[], int],
) -> _Outcome:
    run.progress(phase=1, phases=2, phase_started=time.time())
    if settings.loss == "cross_entropy" and heads.of(model).kind == "softmax":
        head, probe = _fit_probe(model, material, settings)
        _set_head(model, probe)
    else:  # the head learns by the loss of the whole, or the second phase would first unlearn
        own = ("seed", "class_weights", "loss", "focal_gamma", "label_smoothing", "feature_backend")
        first = dataclasses.replace(_HEAD, **{name: getattr(settings, name) for name in own})
        head = _fit_head(
            model, material, first, run, functools.partial(fit, run=run, phase="head")
        )["fitted"]
    start = model.get_weights()
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
        [
            head.history.assign(phase="head"),
            fitted.history.assign(epoch=fitted.history["epoch"] + before),
        ],
        ignore_index=True,
    )
    selection = _keep_best(model, start, material.examples("val"))
    kept = head.kept_epoch if selection["kept"] == "head" else fitted.kept_epoch + before
    if selection["kept"] == "mean":
        state = selection["states"]["mean"]
        row = history[history["epoch"] == kept].assign(phase="mean", epoch=len(history) + 1)
        row[["val_loss", "val_accuracy"]] = state["val_loss"], state["val_accuracy"]
        history, kept = pandas.concat([history, row], ignore_index=True), len(history) + 1
    fitted = dataclasses.replace(fitted, history=history, kept_epoch=kept)
    return _outcome(fitted) | {"selection": selection}


def _keep_best(model: keras.Model, start: list[np.ndarray], val: Examples) -> dict[str, Any]:
    """Leaves the model with the best of its weights, those it started from, and the mean of the
    two.

    The judge is the validation log loss after each state's own temperature: the plain one punishes
    a network for being sure, which a temperature repairs, and accuracy alone is too coarse. The
    mean often beats both. Source: Wortsman et al., Robust fine-tuning of zero-shot models (2022).
    """
    tuned = model.get_weights()
    states = {
        "head": start,
        "mean": [
            (a + b) / 2 if a.dtype.kind == "f" else b for a, b in zip(start, tuned, strict=True)
        ],
        "tuned": tuned,
    }
    scores = {}
    for name, weights in states.items():
        model.set_weights(weights)
        chunks = np.array_split(val.rows, -(-len(val) // _CHUNK))
        probabilities = np.concatenate([_probabilities(model, val.images, rows) for rows in chunks])
        scores[name] = _validation_scores(probabilities, val.labels)
    kept = min(scores, key=lambda name: scores[name]["val_log_loss"])
    model.set_weights(states[kept])
    return {"kept": kept, "judge": "validation log loss after temperature", "states": scores}


def _validation_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    if labels.ndim == 2:  # several labels an image: no temperature
        losses = -np.log(np.where(labels > 0, probabilities, 1 - probabilities))
        loss = scaled = float(losses.mean())
        accuracy = float(((probabilities >= 0.5) == (labels > 0)).mean())
    else:
        logits = np.log(probabilities)
        loss = linear_head.log_loss(logits, labels)
        scaled = linear_head.log_loss(logits / linear_head.temperature(logits, labels), labels)
        accuracy = float((logits.argmax(axis=1) == labels).mean())
    return {
        "val_log_loss": round(scaled, 5),
        "val_loss": round(loss, 5),
        "val_accuracy": round(accuracy, 5),
    }


def _probabilities(model: keras.Model, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.clip(predictor.predict_proba(model, images[rows]), 1e-12, 1 - 1e-7)


def _fit_head(
    model: keras.Model,
    material: Material,
    settings: Settings,
    run: Run,
    fit_head: _Fit,
) -> _Outcome:
    run.progress(note="features of the frozen layers")
    features = _features(model, material, settings)
    classifier = transfer.classifier_on_features(model)
    train, val = (material.on_features(name, features) for name in ("train", "val"))
    fitted = fit_head(classifier, train, val, settings=settings)
    transfer.graft(model, classifier)
    return _outcome(fitted, _on_features(model, material, settings))


def _features(
    model: keras.Model, material: Material, settings: Settings, *, mirrored: bool = False
) -> np.ndarray:
    """Returns what the frozen body gives for every decoded image, (n, d), or for its mirror image.

    Those of joined backbones are computed and stored one by one.
    """
    transfer.freeze(model)
    images = material.pixels.array
    parts = [
        feature_cache.ensure(
            model,
            images[:, :, ::-1] if mirrored else images,
            images_key=material.pixels.key + ("-mirrored" if mirrored else ""),
            folder=material.features_folder,
            layer=layer,
            engine=settings.feature_backend,
        )
        for layer in transfer.feature_layers(model)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _on_features(
    model: keras.Model, material: Material, settings: Settings, *, always: bool = False
) -> tuple[keras.Model, np.ndarray] | None:
    # A run's predictions come from Keras, so features of another backend serve learning alone; but
    # a
    # linear probe is its features, and `scoring` compares some of them with the whole model.
    if not always and engines.resolve(settings.feature_backend) != "keras":
        return None
    classifier = transfer.classifier_on_features(model)
    classifier.compile(loss=heads.loss(model), weighted_metrics=[heads.accuracy(model)])
    return classifier, _features(model, material, settings)


class _Probed:
    """The features and labels of some splits, as `linear_head` takes them."""

    def __init__(
        self, model: keras.Model, material: Material, settings: Settings, names: Sequence[str]
    ) -> None:
        views = [_features(model, material, settings)]
        if settings.augmentation == "flip":
            views.append(_features(model, material, settings, mirrored=True))
        chosen = [material.examples(name) for name in names]
        rows = np.concatenate([examples.rows for examples in chosen])
        labels = np.concatenate([examples.labels for examples in chosen])
        features = np.concatenate([np.asarray(view[rows], np.float32) for view in views])
        self.examples = (features, np.tile(labels, len(views)))
        self.options = {
            "num_classes": len(heads.of(model).class_names),
            "balanced": settings.class_weights == "balanced",
        }


def _fit_probe(
    model: keras.Model, material: Material, settings: Settings
) -> tuple[Fitted, linear_head.LinearHead]:
    """Returns the best linear head, and its candidates as the rows of a history."""
    began = time.monotonic()
    train = _Probed(model, material, settings, ("train",))
    val = material.examples("val")
    features = np.asarray(_features(model, material, settings)[val.rows], np.float32)
    probe, table = linear_head.select(train.examples, (features, val.labels), **train.options)
    seconds = round((time.monotonic() - began) / len(table), 3)
    history = table.assign(
        epoch=np.arange(1, len(table) + 1), learning_rate=0.0, seconds=seconds, phase="train"
    )
    kept = int(table["val_loss"].to_numpy().argmin()) + 1
    labels = material.examples("train").labels
    weights = class_weights(labels, tuple(heads.of(model).class_names), mode=settings.class_weights)
    print(
        f"Linear head: {probe.kind}, strength {probe.strength:g}, of {len(table)} tried; val_loss "
        f"{table['val_loss'].min():.4f}, val_accuracy {table['val_accuracy'][kept - 1]:.3f}.",
        flush=True,
    )
    return Fitted(history, kept, weights, diverged=False), probe


def _set_head(model: keras.Model, probe: linear_head.LinearHead) -> None:
    heads.of(model).set_weights(
        [
            _units(model, probe.kernel).astype(np.float32),
            _units(model, probe.bias).astype(np.float32),
        ]
    )


def _units(model: keras.Model, by_class: np.ndarray) -> np.ndarray:
    """Returns what has one entry a class, on the last axis, for the units of the model's head."""
    head = heads.of(model)
    if head.kind != "sigmoid":
        return by_class
    positive = head.positive_index
    difference = by_class[..., positive] - by_class[..., 1 - positive]
    return difference[..., None]


def _outcome(fitted: Fitted, on_features: tuple[keras.Model, np.ndarray] | None = None) -> _Outcome:
    return {"fitted": fitted, "on_features": on_features}


STRATEGIES = {
    "scratch": _scratch,
    "frozen": _frozen,
    "linear_probe": _linear_probe,
    "fine_tune": _fine_tune,
    "full": _full,
}
