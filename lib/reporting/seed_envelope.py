"""Runs that never ran: the mean of an arm's seeds, epoch by epoch, and its lowest and highest, for
TensorBoard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib.reporting.tensorboard import Board

NAMES = ("accuracy", "loss", "val_accuracy", "val_loss")


def write(folder: Path, histories: Mapping[str, Sequence[pd.DataFrame]]) -> list[Path]:
    """Writes `<folder>/<arm>/mean`, `low` and `high`, one TensorBoard run each; returns their
    folders.

    `histories` maps an arm to one history a seed (columns `epoch` and some of `accuracy loss
    val_accuracy val_loss`). An epoch counts where every seed has it, so that no band jumps where a
    seed has stopped. Arms of one seed are left out.
    """
    written = []
    for arm, runs in histories.items():
        if len(runs) < 2:
            continue
        for kind, table in band(runs).items():
            board = Board(Path(folder) / arm / kind)
            for epoch, row in table.iterrows():
                board.epoch(int(epoch), row.to_dict())
            written.append(board.folder)
    return written


def band(runs: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """`mean`, `low` and `high` over seeds: one row an epoch that all of them have, one column a
    number that all have.
    """
    names = [name for name in NAMES if all(name in run.columns for run in runs)]
    together = pd.concat(
        [run.drop_duplicates("epoch", keep="last").set_index("epoch")[names] for run in runs]
    )
    by_epoch = together.groupby(level="epoch")
    whole = by_epoch.size() == len(runs)
    return {
        kind: getattr(by_epoch, how)()[whole]
        for kind, how in (("mean", "mean"), ("low", "min"), ("high", "max"))
    }
