"""The training loop: seeds, `model.fit` with early stopping, best weights, exact resume.

Every random choice follows from (seed, epoch), so a killed and continued training ends with
the same weights as one that was not interrupted. The test split cannot be passed in here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas

from lib import processes
from lib.data.batches import Batches, Examples
from lib.errors import DarkroomError
from lib.models import compilation, distribution, heads, losses
from lib.reporting.tensorboard import Board
from lib.runs import Run
from lib.training import callbacks as own
from lib.training import checkpoints, model_reuse, optimizers
from lib.training.callbacks import Halt
from lib.training.settings import LOSSES, Settings


def begin(*, seed: int, dtype_policy: str, run: Run, devices: int = 1) -> dict[str, Any]:
    """Seeds Python, NumPy and the backend, sets the dtype policy, notes both with backend and
    device in `environment.json`.

    `devices` of them share each batch (0: all there are). Returns what was noted.
    """
    with processes.without_native_messages():  # the device is looked for at the first use
        keras.utils.set_random_seed(seed)
        found_devices = ", ".join(keras.distribution.list_devices())
    shared = distribution.share(devices)
    keras.config.set_dtype_policy(dtype_policy)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    environment = {
        "backend": keras.backend.backend(),
        "devices": found_devices,
        "devices_that_share_a_batch": shared,
        "dtype_policy": keras.config.dtype_policy().name,
        "seed": seed,
        "threads": distribution.threads(),
        "processor": distribution.processor(),
    }
    run.environment(**environment)
    return environment


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result of a training: `history` has one row an epoch, `kept_epoch` is the one whose
    weights the model now has (1-based), `class_weights` those that acted, `diverged` whether the
    loss became NaN or infinite.
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
    epochs_before: int = 0,
    halt: Halt | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Trains a model in place, leaves it with its best weights, and returns what happened.

    Args:
        model: a model that ends in a `heads.Head`; it is compiled here.
        train: examples to learn from; augmentation and class weights act on them alone.
        val: examples to stop by and to choose the best epoch by, as they are.
        settings: how to train.
        run: the run, which notes every epoch; its checkpoint folder holds what resume needs.
        phase: names this fit where a run has several; it becomes a column of the history.
        epochs_before: of earlier phases, where the run's curves count on from them.
        halt: asked after each epoch, with its row of the history, whether to interrupt the training
            there; called again, it continues exactly as if it had not been interrupted.
        callbacks: Keras callbacks that act after the suite's own.

    Raises:
        DarkroomError: when the two splits share images, test images are given, or the loss was
            never finite.
    """
    _refuse_overlap(train, val)
    _refuse_other_loss(model, settings)
    distribution.check(settings.batch_size)
    weights = losses.class_weights(
        train.labels, heads.of(model).class_names, mode=settings.class_weights
    )
    if weights:
        ordered = np.array(list(weights.values()), np.float32)
        train = dataclasses.replace(train, weights=ordered[train.labels])
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    compiled = model_reuse.compiled(
        model, settings, total_steps=steps, compile=lambda model: _compile(model, settings, steps)
    )
    folder = run.checkpoint_folder / phase
    state = checkpoints.restore(folder, compiled)
    if state.epoch:
        print(f"Going on after epoch {state.epoch} of {settings.epochs}.")
    stop_early = own.StopEarly(state, settings)
    interrupt = own.Interrupt(state, halt=halt)

    def is_done() -> bool:
        return state.epoch >= settings.epochs or stop_early.is_reached()

    if not is_done() and not interrupt.is_wanted():
        compiled.fit(
            _train_batches(train, settings, first_epoch=state.epoch),
            validation_data=Batches(
                val, batch_size=settings.batch_size, multiple_of=distribution.count()
            ),
            epochs=settings.epochs,
            initial_epoch=state.epoch,
            shuffle=False,
            verbose=0,
            callbacks=[
                *_observers(state, settings, run, epochs_before),
                stop_early,
                interrupt,
                own.WriteCheckpoints(state, folder=folder, is_done=is_done),
                *callbacks,
            ],
        )
    if state.best_weights is None:
        raise DarkroomError(
            f"The loss of {run.unit} was NaN or infinite from the first epoch on. Lower the "
            f"learning_rate (it was {settings.learning_rate:g})."
        )
    model.set_weights(state.best_weights)
    history = pandas.DataFrame(state.history).assign(phase=phase)
    return Fitted(history, state.best_epoch, weights, state.diverged)


def _observers(
    state: checkpoints.State, settings: Settings, run: Run, epochs_before: int
) -> list[keras.callbacks.Callback]:
    return [
        own.SeedLayers(settings.seed),
        own.RecordHistory(state),
        own.KeepBestWeights(state, settings),
        own.LowerRateOnPlateau(state, settings),
        own.ReportProgress(state, run=run, epochs=settings.epochs),
        own.LogToTensorBoard(state, board=Board(run.folder), epochs_before=epochs_before),
        own.PrintEpoch(state, epochs=settings.epochs),
        *([own.DrawCurves(state)] if own.is_watched() else []),
    ]


def _train_batches(train: Examples, settings: Settings, *, first_epoch: int) -> Batches:
    return Batches(
        train,
        batch_size=settings.batch_size,
        seed=settings.seed,
        policy=settings.augmentation,
        mix=settings.mix,
        mix_alpha=settings.mix_alpha,
        first_epoch=first_epoch,
        multiple_of=distribution.count(),
    )


def _compile(model: keras.Model, settings: Settings, steps: int) -> None:
    optimizer, loss = (
        optimizers.build(settings, total_steps=steps),
        losses.loss(model, **settings.of_loss),
    )
    compilation.compile_model(model, optimizer, loss, metrics=[losses.accuracy(model)])


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
