"""One way to fit: train on the train split, stop and keep the best on the validation split, resume
exactly.

Every random choice follows from (seed, epoch), so a training that was killed and goes on ends with
the same weights as one that was left alone. The test split cannot be passed in here.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pandas

from lib import files
from lib.data.batches import Batches, Examples
from lib.errors import DarkroomError
from lib.models import compilation, distribution, heads
from lib.reporting.tensorboard import Board
from lib.runs import Run
from lib.training import checkpoints, model_reuse, optimizers
from lib.training.settings import LOSSES, Settings

Halt = Callable[[Mapping[str, float]], bool]
_REPORT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.1  # checkpoints may take at most this share of the time


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a training did: `history` has one row an epoch, `kept_epoch` is the one whose weights
    the model now has (1-based), `class_weights` those that acted, `diverged` whether the loss left
    the finite numbers.
    """

    history: pandas.DataFrame
    kept_epoch: int
    class_weights: dict[str, float] | None
    diverged: bool


def fit(
    model: keras.Model,
    train: Examples,
    val: Examples,
    *,
    settings: Settings,
    run: Run,
    phase: str = "train",
    halt: Halt | None = None,
) -> Fitted:
    """Trains a model in place, leaves it with its best weights, and returns what happened.

    Args:
        model: a model that ends in a `heads.Head`; it is compiled here.
        train: examples to learn from; augmentation and class weights act on them alone.
        val: examples to stop by and to choose the best epoch by, as they are.
        settings: how to train.
        run: the run, told of every epoch; its checkpoint folder holds what resume needs.
        phase: names this fit where a run has several; it becomes a column of the history.
        halt: asked after each epoch, with its row of the history, whether to interrupt the training
            there; called again, it goes on exactly as if it had not been interrupted.

    Raises:
        DarkroomError: when the two splits share images, test images are given, or the loss was
            never finite.
    """
    _refuse_overlap(train, val)
    _refuse_other_loss(model, settings)
    distribution.check(settings.batch_size)
    weights = class_weights(train.labels, heads.of(model).class_names, mode=settings.class_weights)
    if weights:
        ordered = np.array(list(weights.values()), np.float32)
        train = dataclasses.replace(train, weights=ordered[train.labels])
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    learner = model_reuse.learner(
        model, settings, total_steps=steps, compiles=lambda each: _compile(each, settings, steps)
    )
    folder = run.checkpoint_folder / phase
    state = checkpoints.restore(folder, learner)
    if state.epoch:
        print(f"Going on after epoch {state.epoch} of {settings.epochs}.")
    keeper = _Keeper(state, settings, run, folder, halt)  # its folder's name is the phase
    if not keeper.done() and not keeper.halted():
        learner.fit(
            Batches(
                train,
                batch_size=settings.batch_size,
                seed=settings.seed,
                policy=settings.augmentation,
                mix=settings.mix,
                mix_alpha=settings.mix_alpha,
                first_epoch=state.epoch,
                multiple_of=distribution.count(),
            ),
            validation_data=Batches(
                val, batch_size=settings.batch_size, multiple_of=distribution.count()
            ),
            epochs=settings.epochs,
            initial_epoch=state.epoch,
            shuffle=False,
            verbose=0,
            callbacks=[keeper],
        )
    if state.best_weights is None:
        raise DarkroomError(
            f"The loss of {run.unit} was not a finite number from the first epoch on. Lower the "
            "learning_rate "
            f"(it was {settings.learning_rate:g})."
        )
    model.set_weights(state.best_weights)
    history = pandas.DataFrame(state.history).assign(phase=phase)
    return Fitted(history, state.best_epoch, weights, keeper.diverged)


def class_weights(
    labels: np.ndarray, class_names: tuple[str, ...], *, mode: str
) -> dict[str, float] | None:
    """Returns a loss weight a class, `n / (classes · n of the class)`, whose mean over the images
    is 1; None for `none`.
    """
    if mode == "none":
        return None
    counts = np.bincount(labels, minlength=len(class_names))  # (classes,)
    return {
        name: len(labels) / (len(class_names) * max(1, count))
        for name, count in zip(class_names, counts, strict=True)
    }


def _compile(model: keras.Model, settings: Settings, steps: int) -> None:
    optimizer, loss = (
        optimizers.build(settings, total_steps=steps),
        heads.loss(model, **settings.of_loss),
    )
    compilation.ready(model, optimizer, loss, metrics=[heads.accuracy(model)])


def _refuse_overlap(train: Examples, val: Examples) -> None:
    if "test" in (train.split, val.split):
        raise DarkroomError(
            "Test images were given to fit. It takes train and val; the test split is opened after "
            "selection."
        )
    shared = np.intersect1d(train.rows, val.rows)
    if len(shared):
        raise DarkroomError(
            f"{len(shared)} images are in train and in validation. Make the split with "
            "lib.data.splits, which divides files."
        )


def _refuse_other_loss(model: keras.Model, settings: Settings) -> None:
    kind = heads.of(model).kind
    fitting = [loss for loss, head in LOSSES.items() if (head == "softmax") == (kind == "softmax")]
    if settings.loss not in fitting:
        *others, last = fitting
        raise DarkroomError(
            f"A {kind} head learns by {', '.join(others)} or {last}. Received: loss = "
            f"{settings.loss!r}. "
            "Build the model with lib.training.network, where the loss decides the head."
        )


class _Keeper(keras.callbacks.Callback):
    """Keeps the best weights, the history and the generations; stops early; reports to run folder,
    terminal and TensorBoard.
    """

    def __init__(
        self,
        state: checkpoints.State,
        settings: Settings,
        run: Run,
        folder: Path,
        halt: Halt | None = None,
    ) -> None:
        super().__init__()
        self.diverged = False
        self._state, self._settings, self._run, self._folder, self._halt = (
            state,
            settings,
            run,
            folder,
            halt,
        )
        self._board = Board(run.folder)
        self._reported = 0.0
        self._written, self._writing = time.monotonic(), 0.0

    def done(self) -> bool:
        stalled = self._settings.patience and self._state.wait >= self._settings.patience
        return self._state.epoch >= self._settings.epochs or bool(stalled)

    def halted(self) -> bool:
        return (
            self._halt is not None
            and bool(self._state.history)
            and self._halt(self._state.history[-1])
        )

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._began = time.monotonic()
        _reseed(self.model, self._settings.seed, epoch)

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        if not math.isfinite(logs["loss"]):
            self.diverged = self.model.stop_training = True
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self._reported = time.monotonic()
            self._run.progress(
                epoch=self._state.epoch, epochs=self._settings.epochs, batch=batch, note="training"
            )

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        state, settings = self._state, self._settings
        numbers = {name: float(value) for name, value in logs.items()}
        if self.diverged or not all(map(math.isfinite, numbers.values())):
            self.diverged = self.model.stop_training = True
            print(
                f"The loss left the finite numbers in epoch {epoch + 1}; the best epoch before it "
                "is kept."
            )
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {
            "epoch": epoch + 1,
            **numbers,
            "learning_rate": rate,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        state.history.append(row)
        self._judge(row[settings.monitor])
        self._tell(row)
        halted = self.halted()
        if self.done() or halted:
            self.model.stop_training = True
        self._checkpoint(at_once=halted)

    def _judge(self, value: float) -> None:
        state, settings = self._state, self._settings
        falls = settings.monitor == "val_loss"
        better = state.best_value is None or (
            value < state.best_value if falls else value > state.best_value
        )
        if better:
            state.best_value, state.best_epoch, state.wait = value, state.epoch, 0
            state.best_weights = self.model.get_weights()
            return
        state.wait += 1
        if settings.schedule == "plateau" and state.wait % settings.plateau_patience == 0:
            optimizer = self.model.optimizer
            optimizer.learning_rate = (
                float(keras.ops.convert_to_numpy(optimizer.learning_rate)) * settings.decay_factor
            )

    def _tell(self, row: dict[str, float]) -> None:
        state, settings = self._state, self._settings
        metric = "val_accuracy"
        self._run.progress(
            epoch=state.epoch, epochs=settings.epochs, metric=metric, value=row[metric], note=""
        )
        phase = (
            "" if self._folder.name == "train" else self._folder.name
        )  # so that two phases make two curves
        self._board.epoch(state.epoch, row, phase=phase)
        weights = {
            weight.path: keras.ops.convert_to_numpy(weight)
            for weight in self.model.trainable_weights
        }
        self._board.weights(state.epoch, weights)
        files.write_text(
            self._run.folder / "history.csv", pandas.DataFrame(state.history).to_csv(index=False)
        )
        mark = "  best so far" if state.wait == 0 else ""
        print(
            f"epoch {state.epoch:>3} of {settings.epochs}  loss {row['loss']:.4f}  accuracy "
            f"{row['accuracy']:.3f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.3f}  "
            f"{row['seconds']:.1f} s{mark}",
            flush=True,
        )

    def _checkpoint(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if self.done() or (
            not at_once and (now - self._written) * _CHECKPOINT_SHARE < self._writing
        ):
            return
        checkpoints.write(self._folder, self._state, self.model)
        self._written = time.monotonic()
        self._writing = self._written - now


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Sets the random state of dropout and the like from (seed, epoch, layer), since Keras does not
    save it.
    """
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            drawn = np.random.default_rng([seed, epoch, number, 2]).integers(
                0, 2**31, size=generator.state.shape
            )
            generator.state.assign(drawn.astype("uint32"))
