"""The callbacks of a training, one job each, in the order in which `fit` lists them.

They share a `checkpoints.State`, which is all that has to be stored for an exact resume.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas

from lib import files
from lib.reporting.tensorboard import Board
from lib.runs import Run, record
from lib.training import checkpoints
from lib.training.checkpoints import State
from lib.training.settings import Settings

Halt = Callable[[Mapping[str, float]], bool]
_REPORT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.1  # checkpoints may take at most this share of the time


class SeedLayers(keras.callbacks.Callback):
    """Sets the random state of dropout and the like from (seed, epoch, layer), since Keras does not
    save it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Seeds every layer that draws at random."""
        for number, layer in enumerate(self.model.layers):
            for place, inner in enumerate(layer._flatten_layers()):  # a transformer's are nested
                generator = getattr(inner, "seed_generator", None)
                if generator is not None:
                    rng = np.random.default_rng([self._seed, epoch, number, 2, place])
                    state = rng.integers(0, 2**31, size=generator.state.shape)
                    generator.state.assign(state.astype("uint32"))


class RecordHistory(keras.callbacks.Callback):
    """Appends a row to the history after each epoch; stops where the loss is not finite."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops at once where the loss is not finite."""
        if not math.isfinite(logs["loss"]):
            self._state.diverged = self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends epoch, metrics, learning rate and seconds."""
        state, numbers = self._state, {name: float(value) for name, value in logs.items()}
        if state.diverged or not all(map(math.isfinite, numbers.values())):
            state.diverged = self.model.stop_training = True
            print(
                f"Loss became NaN or infinite in epoch {epoch + 1}; the best epoch before it is "
                "kept."
            )
            return
        seconds = round(time.monotonic() - self._began, 3)
        rate = _learning_rate(self.model.optimizer)
        state.history.append(
            {"epoch": epoch + 1, **numbers, "learning_rate": rate, "seconds": seconds}
        )


class _AfterEpoch(keras.callbacks.Callback):
    """Calls `after_epoch` with the epoch's row of the history, unless the loss diverged in it."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Calls `after_epoch`."""
        if not self._state.diverged:
            self.after_epoch(self._state.history[-1])

    def after_epoch(self, row: dict[str, float]) -> None:
        """Does the work of this callback."""
        raise NotImplementedError


class KeepBestWeights(_AfterEpoch):
    """Keeps the weights of the best epoch by `monitor`; counts the epochs since then in
    `state.wait`.
    """

    def __init__(self, state: State, settings: Settings) -> None:
        super().__init__(state)
        self._monitor, self._min_delta = settings.monitor, settings.min_delta

    def after_epoch(self, row: dict[str, float]) -> None:
        """Compares the epoch with the best one before."""
        state, value = self._state, row[self._monitor]
        gain = math.inf if state.best_value is None else value - state.best_value
        if state.best_value is not None and self._monitor == "val_loss":
            gain = -gain
        if gain > self._min_delta:
            state.best_value, state.best_epoch, state.wait = value, state.epoch, 0
            state.best_weights = self.model.get_weights()
        else:
            state.wait += 1


class LowerRateOnPlateau(_AfterEpoch):
    """Lowers the learning rate by a factor after a number of epochs without improvement, where
    the schedule is `plateau`.
    """

    def __init__(self, state: State, settings: Settings) -> None:
        super().__init__(state)
        self._acts = settings.schedule == "plateau"
        self._patience, self._factor = settings.plateau_patience, settings.decay_factor

    def after_epoch(self, row: dict[str, float]) -> None:
        """Lowers the rate where validation stalls."""
        if self._acts and self._state.wait and self._state.wait % self._patience == 0:
            optimizer = self.model.optimizer
            optimizer.learning_rate = _learning_rate(optimizer) * self._factor


class StopEarly(_AfterEpoch):
    """Stops after `patience` epochs without improvement; 0 never stops."""

    def __init__(self, state: State, settings: Settings) -> None:
        super().__init__(state)
        self._patience = settings.patience

    def after_epoch(self, row: dict[str, float]) -> None:
        """Stops where validation stalls."""
        if self.is_reached():
            self.model.stop_training = True

    def is_reached(self) -> bool:
        """Returns whether the training has stalled for long enough."""
        return 0 < self._patience <= self._state.wait


class ReportProgress(_AfterEpoch):
    """Notes how far the training is in the run's `progress.json` and `history.csv`."""

    def __init__(self, state: State, *, run: Run, epochs: int) -> None:
        super().__init__(state)
        self._run, self._epochs, self._reported = run, epochs, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the batch, every two seconds at most."""
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self._reported = time.monotonic()
            self._run.progress(
                epoch=self._state.epoch, epochs=self._epochs, batch=batch, note="training"
            )

    def after_epoch(self, row: dict[str, float]) -> None:
        """Notes the epoch."""
        metric = "val_accuracy"
        self._run.progress(
            epoch=self._state.epoch, epochs=self._epochs, metric=metric, value=row[metric], note=""
        )
        files.write_text(
            self._run.folder / record.HISTORY,
            pandas.DataFrame(self._state.history).to_csv(index=False),
        )


class LogToTensorBoard(_AfterEpoch):
    """Writes the curves and the histograms of the weights; `epochs_before` are those of an earlier
    phase of the run, so that both phases make one curve.
    """

    def __init__(self, state: State, *, board: Board, epochs_before: int) -> None:
        super().__init__(state)
        self._board, self._before = board, epochs_before

    def after_epoch(self, row: dict[str, float]) -> None:
        """Writes the epoch."""
        step = self._before + self._state.epoch
        self._board.epoch(step, row)
        weights = {
            weight.path: keras.ops.convert_to_numpy(weight)
            for weight in self.model.trainable_weights
        }
        self._board.weights(step, weights)


class DrawCurves(_AfterEpoch):
    """Redraws the learning curves below the cell of a notebook, at most every two seconds."""

    EVERY_S = 2.0

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._display: Any = None
        self._drawn = 0.0

    def after_epoch(self, row: dict[str, float]) -> None:
        """Draws all epochs so far."""
        if time.monotonic() - self._drawn >= self.EVERY_S:
            self._draw()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Draws the last epoch too."""
        self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        from lib.reporting import run_figures

        if not self._state.history:
            return
        history = pandas.DataFrame(self._state.history)
        figure = run_figures.learning_curves(history, title="Learning curves")
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        self._drawn = time.monotonic()


def is_watched() -> bool:
    """Returns whether the cell is watched: in a notebook, and not in a study."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None and "DARKROOM_ENGINE" not in os.environ


class PrintEpoch(_AfterEpoch):
    """Prints one line an epoch."""

    def __init__(self, state: State, *, epochs: int) -> None:
        super().__init__(state)
        self._epochs = epochs

    def after_epoch(self, row: dict[str, float]) -> None:
        """Prints the epoch's losses and accuracies."""
        mark = "  best so far" if self._state.wait == 0 else ""
        print(
            f"epoch {self._state.epoch:>3} of {self._epochs}  loss {row['loss']:.4f}  accuracy "
            f"{row['accuracy']:.3f}  val_loss {row['val_loss']:.4f}  val_accuracy "
            f"{row['val_accuracy']:.3f}  {row['seconds']:.1f} s{mark}",
            flush=True,
        )


class Interrupt(_AfterEpoch):
    """Interrupts the training after an epoch where `halt`, asked with its row of the history, says
    so.
    """

    def __init__(self, state: State, *, halt: Halt | None) -> None:
        super().__init__(state)
        self._halt = halt

    def after_epoch(self, row: dict[str, float]) -> None:
        """Asks `halt`."""
        if self.is_wanted():
            self._state.halted = self.model.stop_training = True

    def is_wanted(self) -> bool:
        """Returns whether to interrupt after the epochs done so far."""
        return (
            self._halt is not None
            and bool(self._state.history)
            and self._halt(self._state.history[-1])
        )


class WriteCheckpoints(_AfterEpoch):
    """Writes what exact resume needs, as often as a tenth of the time allows, and always at an
    interruption; after the last epoch where it is small, for a training that is continued later.
    """

    def __init__(self, state: State, *, folder: Path, is_done: Callable[[], bool]) -> None:
        super().__init__(state)
        self._folder, self._is_done = folder, is_done
        self._written, self._writing = time.monotonic(), 0.0

    def after_epoch(self, row: dict[str, float]) -> None:
        """Writes a checkpoint where it is due."""
        now = time.monotonic()
        is_due = (now - self._written) * _CHECKPOINT_SHARE >= self._writing
        if self._is_done():
            is_due = checkpoints.size(self._state, self.model) <= checkpoints.MAX_KEPT_BYTES
        if not is_due and not self._state.halted:
            return
        checkpoints.write(self._folder, self._state, self.model)
        self._written = time.monotonic()
        self._writing = self._written - now


def _learning_rate(optimizer: keras.Optimizer) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
