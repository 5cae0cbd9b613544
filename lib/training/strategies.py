"""Training strategies: scratch, frozen features, linear probe, fine-tuning of the top or of all.

Fine-tuning never ends below its own head: after the second phase the linear head on frozen
features competes on validation with one on the tuned features, and the better is refitted on train
and validation. Where no linear head can be fitted, the head competes with the network as it was
tuned.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas

from lib.data import augmentation
from lib.data.batches import Examples, examples
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.errors import DarkroomError, check_choice
from lib.models import feature_cache, heads, linear_head, losses, predictor, transfer
from lib.models import inference as engines
from lib.runs import Run
from lib.training import checkpoints
from lib.training.callbacks import Halt
from lib.training.fit import Fitted, fit
from lib.training.settings import Settings

_CHUNK = 1024  # images in memory at once
_SEPARATED = 0.99  # of the train images right, beyond which mirror images teach a head nothing
_HEAD = Settings(epochs=30, batch_size=32, learning_rate=1e-3, schedule="cosine")
"""The first phase of fine-tuning: a head on stored features costs seconds, so it may take its time.
"""


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The decoded images, their split, and the folder where features are kept."""

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
    strategy: str
    settings: Settings
    seconds: float
    on_features: tuple[keras.Model, np.ndarray] | None = None
    val_probabilities: np.ndarray | None = None
    selection: dict[str, Any] | None = None


def train(
    strategy: str,
    model: keras.Model,
    data: TrainingData,
    *,
    settings: Settings,
    run: Run,
    fraction: float = 0.6,
    halt: Halt | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Trains `model` in place by a strategy.

    Args:
        strategy: `scratch` (all weights at once), `frozen` (the head alone, on features computed
            once), `linear_probe` (the best of several linear classifiers on the same features,
            fitted in closed form or to convergence and refitted on train and validation),
            `fine_tune` (a linear head first, then the last layers at `settings.learning_rate`, with
            batch normalisation frozen) or `full` (the same with everything, batch normalisation
            included). With `flip_or_crop` both see mirror images, or cuts where the head fits
            nearly all train images, so that mirror images would teach nothing.
        model: as `lib.models.build` makes it.
        data: pixels and split.
        settings: of the main phase.
        run: the open run.
        fraction: share of the weighted layers that learn in `fine_tune`, above 0 and at most 1.
        halt: may interrupt the main phase after an epoch, see `fit`.
        callbacks: Keras callbacks of the main phase.

    Raises:
        DarkroomError: for an unknown strategy, a custom network that has nothing to freeze, or
            augmentation of frozen features.
    """
    check_choice("strategy", strategy, STRATEGIES)
    if strategy != "scratch" and model.name == "custom":
        raise DarkroomError(
            f"The strategy {strategy!r} needs a pretrained network, and the custom one starts from "
            "random weights. Use strategy = 'scratch', or another architecture."
        )
    began = time.monotonic()
    main = functools.partial(fit, run=run, halt=halt, callbacks=callbacks)
    outcome = STRATEGIES[strategy](_Job(model, data, settings, run, fraction, main))
    seconds = round(time.monotonic() - began, 2)
    return Trained(model, strategy=strategy, settings=settings, seconds=seconds, **outcome)


def clear(run: Run) -> None:
    """Deletes what only resume needed, but for what more epochs would need, where that is small.

    Called when the model itself has been saved.
    """
    for phase in ("head", "train"):
        checkpoints.clear(run.checkpoint_folder / phase)
    shutil.rmtree(_tuned_features(run), ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What a strategy is given; `fit` has the run, halt and callbacks of the main phase."""

    model: keras.Model
    data: TrainingData
    settings: Settings
    run: Run
    fraction: float
    fit: Callable[..., Fitted]


_Outcome = dict[str, Any]  # fields of Trained


def _scratch(job: _Job) -> _Outcome:
    train, val = job.data.examples("train"), job.data.examples("val")
    return {"fitted": job.fit(job.model, train, val, settings=job.settings)}


def _frozen(job: _Job) -> _Outcome:
    for name in ("augmentation", "mix"):
        if getattr(job.settings, name) != "none":
            raise DarkroomError(
                f"Frozen features are computed once, from the images as they are, so {name} cannot "
                f"act. Received: {name} = {getattr(job.settings, name)!r}. Use 'none', or strategy "
                "= 'fine_tune'."
            )
    return _fit_head(job, job.settings, functools.partial(job.fit, phase="train"))


def _linear_probe(job: _Job) -> _Outcome:
    model = job.model
    if heads.of(model).kind == "multilabel":
        raise DarkroomError(
            "A linear probe gives an image one class, and these images have several labels. Use "
            "strategy = 'frozen' or 'fine_tune'."
        )
    if job.settings.augmentation not in ("none", "flip", "flip_or_crop"):
        raise DarkroomError(
            "A linear probe sees each image as it is, and with augmentation = 'flip' its mirror "
            f"image too. Received: augmentation = {job.settings.augmentation!r}. Use 'none' or "
            "'flip', or strategy = 'fine_tune'."
        )
    fitted, probe = _fit_probe(job)
    return {"fitted": fitted} | _refit(job, probe)


def _refit(job: _Job, probe: linear_head.LinearHead) -> _Outcome:
    """Fits the linear head to train and validation; its validation scores stay those of before."""
    model = job.model
    rows = job.data.examples("val").rows
    averaged = _predicted_from(model, job.data, job.settings)[rows]
    logits = _units(model, probe.logits(averaged))
    both, options = _probed(job, "train", "val")
    _set_head(model, linear_head.refit(probe, *both, **options))
    return {
        "on_features": on_features(model, job.data, job.settings),
        "val_probabilities": heads.probabilities(heads.of(model), logits),
    }


def _fine_tune(job: _Job) -> _Outcome:
    return _two_phases(job, lambda: transfer.unfreeze_top(job.model, fraction=job.fraction))


def _full(job: _Job) -> _Outcome:
    return _two_phases(job, lambda: transfer.unfreeze(job.model))


def _two_phases(job: _Job, release: Callable[[], int]) -> _Outcome:
    model, settings, run = job.model, job.settings, job.run
    run.progress(phase=1, phases=2, phase_started=time.time())
    probe = None
    if settings.loss == "cross_entropy" and heads.of(model).kind == "softmax":
        head, probe = _fit_probe(job)
        _set_head(model, probe)
    else:  # the head learns by the loss of the whole, or the second phase would first unlearn
        own = ("seed", "class_weights", "loss", "focal_gamma", "label_smoothing", "feature_backend")
        first = dataclasses.replace(_HEAD, **{name: getattr(settings, name) for name in own})
        fit_head = functools.partial(fit, run=run, phase="head")
        head = _fit_head(job, first, fit_head)["fitted"]
    settings = dataclasses.replace(settings, augmentation=_augmentation(settings, head))
    start = model.get_weights()
    release()
    run.progress(phase=2, phases=2, phase_started=time.time(), epoch=0, note="")
    before = len(head.history)  # epochs count on from the first phase to the second
    train, val = job.data.examples("train"), job.data.examples("val")
    drawn_before = before if probe is None else 0  # a linear head was chosen without epochs
    fitted = job.fit(model, train, val, settings=settings, epochs_before=drawn_before)
    tuned = fitted.history.assign(epoch=fitted.history["epoch"] + before)
    history = pandas.concat([head.history.assign(phase="head"), tuned], ignore_index=True)
    states = {"head": (start, probe, job), "tuned": (model.get_weights(), None, job)}
    if probe is not None:  # linear heads can be refitted on validation images too
        on_tuned = dataclasses.replace(
            job, data=dataclasses.replace(job.data, features_folder=_tuned_features(run))
        )
        _, second = _fit_probe(on_tuned)
        _set_head(model, second)
        del states["tuned"]
        states["linear"] = (model.get_weights(), second, on_tuned)
    selection = _keep_best(model, {name: state[0] for name, state in states.items()}, val)
    selection["augmentation"] = settings.augmentation
    kept = head.kept_epoch if selection["kept"] == "head" else fitted.kept_epoch + before
    if selection["kept"] == "linear":
        state = selection["states"]["linear"]
        row = history[history["epoch"] == kept].assign(phase="linear", epoch=len(history) + 1)
        row[["val_loss", "val_accuracy"]] = state["val_loss"], state["val_accuracy"]
        history, kept = pandas.concat([history, row], ignore_index=True), len(history) + 1
    fitted = dataclasses.replace(fitted, history=history, kept_epoch=kept)
    _, linear, its_job = states[selection["kept"]]
    refit = _refit(its_job, linear) if linear is not None else {}
    return {"fitted": fitted, "selection": selection} | refit


def _augmentation(settings: Settings, head: Fitted) -> str:
    """Returns the policy of the second phase."""
    if settings.augmentation != "flip_or_crop":
        return settings.augmentation
    accuracy = head.history["accuracy"].iloc[head.kept_epoch - 1]
    return "crop" if accuracy > _SEPARATED else "flip"


def _tuned_features(run: Run) -> Path:
    return run.checkpoint_folder / "tuned_features"


def _keep_best(
    model: keras.Model, states: dict[str, list[np.ndarray]], val: Examples
) -> dict[str, Any]:
    """Leaves the model with the best of the given weights.

    The judge is the validation log loss after each state's own temperature: the plain one punishes
    a network for being sure, which a temperature repairs, and accuracy alone is too coarse.
    """
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
        terms = -np.log(np.where(labels > 0, probabilities, 1 - probabilities))
        loss = scaled = float(terms.mean())
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


def _fit_head(job: _Job, settings: Settings, fit_head: Callable[..., Fitted]) -> _Outcome:
    job.run.progress(note="features of the frozen layers")
    rows = features(job.model, job.data, settings)
    transfer.standardize(job.model, rows[job.data.examples("train").rows])
    classifier = transfer.classifier_on_features(job.model)
    train, val = (job.data.on_features(name, rows) for name in ("train", "val"))
    fitted = fit_head(classifier, train, val, settings=settings)
    transfer.graft(job.model, classifier)
    # A run's predictions come from Keras, so features of another backend serve learning alone; but
    # a linear probe is its features, and `scoring` compares some of them with the whole model.
    by_keras = engines.resolve(settings.feature_backend) == "keras"
    scored = on_features(job.model, job.data, settings) if by_keras else None
    return {"fitted": fitted, "on_features": scored}


def features(
    model: keras.Model, data: TrainingData, settings: Settings, *, mirrored: bool = False
) -> np.ndarray:
    """Returns what the frozen body gives for every decoded image, (n, d), or for its mirror image.

    Those of joined backbones are computed and stored one by one.
    """
    transfer.freeze(model)
    images = data.pixels.array
    parts = [
        feature_cache.ensure(
            model,
            images[:, :, ::-1] if mirrored else images,
            images_key=data.pixels.key + ("-mirrored" if mirrored else ""),
            folder=data.features_folder,
            layer=layer,
            engine=settings.feature_backend,
        )
        for layer in transfer.feature_layers(model)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def on_features(
    model: keras.Model, data: TrainingData, settings: Settings
) -> tuple[keras.Model, np.ndarray]:
    """Returns the head as a model of its own, and the features of every decoded image, their mean
    over an image and its mirror image where the head averages its logits.
    """
    classifier = transfer.classifier_on_features(model)
    classifier.compile(loss=losses.loss(model), weighted_metrics=[losses.accuracy(model)])
    return classifier, _predicted_from(model, data, settings)


def _predicted_from(model: keras.Model, data: TrainingData, settings: Settings) -> np.ndarray:
    rows = features(model, data, settings)
    if not heads.of(model).average_mirrored:
        return rows
    mirrored = features(model, data, settings, mirrored=True)
    return (np.asarray(rows, np.float32) + np.asarray(mirrored, np.float32)) / 2


def _probed(job: _Job, *names: str) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, Any]]:
    """Returns the features and labels of some splits, mirror images included where augmentation
    mirrors, and the options of `linear_head`.
    """
    policy = augmentation.policy(job.settings.augmentation)
    flips = (False, True) if getattr(policy, "flip_horizontal", False) else (False,)
    views = [features(job.model, job.data, job.settings, mirrored=flip) for flip in flips]
    chosen = [job.data.examples(name) for name in names]
    rows = np.concatenate([examples.rows for examples in chosen])
    labels = np.concatenate([examples.labels for examples in chosen])
    stacked = np.concatenate([np.asarray(view[rows], np.float32) for view in views])
    options = {
        "num_classes": len(heads.of(job.model).class_names),
        "balanced": job.settings.class_weights == "balanced",
    }
    return (stacked, np.tile(labels, len(views))), options


def _fit_probe(job: _Job) -> tuple[Fitted, linear_head.LinearHead]:
    """Returns the best linear head, and its candidates as the rows of a history."""
    began = time.monotonic()
    model = job.model
    train, options = _probed(job, "train")
    transfer.standardize(model, train[0])
    val = job.data.examples("val")
    rows = np.asarray(_predicted_from(model, job.data, job.settings)[val.rows], np.float32)
    probe, table = linear_head.select(train, (rows, val.labels), **options)
    seconds = round((time.monotonic() - began) / len(table), 3)
    history = table.assign(
        epoch=np.arange(1, len(table) + 1), learning_rate=0.0, seconds=seconds, phase="train"
    )
    kept = int(table["val_loss"].to_numpy().argmin()) + 1
    labels = job.data.examples("train").labels
    names = tuple(heads.of(model).class_names)
    weights = losses.class_weights(labels, names, mode=job.settings.class_weights)
    print(
        f"Linear head: {probe.kind}, strength {probe.strength:g}, of {len(table)} tried; val_loss "
        f"{table['val_loss'].min():.4f}, val_accuracy {table['val_accuracy'][kept - 1]:.3f}.",
        flush=True,
    )
    return Fitted(history, kept, weights, diverged=False), probe


def _set_head(model: keras.Model, probe: linear_head.LinearHead) -> None:
    transfer.set_linear_weights(model, _units(model, probe.kernel), _units(model, probe.bias))


def _units(model: keras.Model, by_class: np.ndarray) -> np.ndarray:
    """Returns what has one entry a class, on the last axis, for the units of the model's head."""
    head = heads.of(model)
    if head.kind != "sigmoid":
        return by_class
    positive = head.positive_index
    difference = by_class[..., positive] - by_class[..., 1 - positive]
    return difference[..., None]


STRATEGIES = {
    "scratch": _scratch,
    "frozen": _frozen,
    "linear_probe": _linear_probe,
    "fine_tune": _fine_tune,
    "full": _full,
}
