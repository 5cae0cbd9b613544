"""TensorBoard event files and the projector, without TensorFlow.

One directory is one run to TensorBoard. Every call is on disk when it returns, so a killed training
keeps its curves.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files, paths
from lib.errors import DarkroomError

if TYPE_CHECKING:
    from lib.reporting.style import Drawing

CURVES = {
    "val_accuracy": "curves/1_val_accuracy",
    "val_loss": "curves/2_val_loss",
    "accuracy": "curves/3_train_accuracy",
    "loss": "curves/4_train_loss",
    "learning_rate": "curves/5_learning_rate",
    "seconds": "curves/6_seconds",
}
"""Columns of a history and the names of their curves. TensorBoard sorts its cards by name:
validation comes first.
"""
RESULTS = {
    "val_accuracy": "result/1_val_accuracy",
    "train_accuracy": "result/2_train_accuracy",
    "accuracy": "result/3_test_accuracy",
    "kappa": "result/4_test_kappa",
    "macro_f1": "result/5_test_macro_f1",
    "log_loss": "result/6_test_log_loss",
    "calibration_error": "result/7_test_calibration_error",
}
"""Numbers of the kept epoch and their columns in the HParams table, which are sorted by name:
validation, which selects, comes first.
"""

_numbers = itertools.count()
_DPI = 110
_MOST_VALUES = 20_000  # of one array of weights; more change no histogram that an eye can tell


@dataclass(frozen=True)
class Node:
    """One layer of a network: the names of the layers it reads, its output's shape (None where
    open), its parameters.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int | None, ...]
    num_parameters: int = 0


class Board:
    """The event file of one run; it is made at the first call, a new one for each process that goes
    on with the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._path: Path | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to the curve of each name; a "/" in a name groups it ("curves/loss")."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [
            Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()
        ]
        self._add(points, step)

    def epoch(self, step: int, row: Mapping[str, float]) -> None:
        """Adds a history's row to its curves, under the names of `CURVES`."""
        self.scalars(step, {tag: row[name] for name, tag in CURVES.items() if name in row})

    def figure(self, name: str, drawing: Drawing, step: int = 0) -> None:
        """Adds a figure as a picture, and its alt text as text of the same name."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = (int(side * _DPI) for side in drawing.get_size_inches())
        png = drawing.png(dpi=_DPI)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add([Summary.Value(tag=name, image=image)], step)
        self.text(name, drawing.alt, step)

    def text(self, name: str, words: str, step: int = 0) -> None:
        """Adds a text; TensorBoard reads it as Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(f"{name}/text_summary", words).value, step)

    def weights(self, step: int, named: Mapping[str, np.ndarray]) -> None:
        """Adds the distribution of each named array of a network, in 30 buckets of equal width; of
        large ones of every n-th value, so that it stays cheap.

        Arrays that hold NaN or infinity are left out; a diverged training is reported elsewhere.
        """
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for name, array in named.items():
            flat = np.asarray(array, dtype=np.float64).ravel()
            some = flat[:: max(1, flat.size // _MOST_VALUES)]
            if some.size and np.isfinite(some).all():
                self._add(histogram_pb(f"weights/{name}", some).value, step)

    def precision_recall(self, name: str, curve: pd.DataFrame, step: int = 0) -> None:
        """Adds a precision-recall curve; `curve` is `ranking.counts_at_thresholds`, thresholds of
        equal steps from 0 to 1.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.pr_curve import metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        rows = [
            f"{truth}_{sign}s" for sign in ("positive", "negative") for truth in ("true", "false")
        ]
        tensor = make_tensor_proto(curve[[*rows, "precision", "recall"]].to_numpy(np.float32).T)
        about = metadata.create_summary_metadata(name, "", len(curve))
        self._add([Summary.Value(tag=f"{name}/pr_curves", tensor=tensor, metadata=about)], step)

    def graph(self, nodes: Sequence[Node]) -> None:
        """Adds the graph of a network, one node a layer."""
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        graph = GraphDef()
        graph.versions.producer = 22
        for node in nodes:
            made = graph.node.add(name=node.name, op=node.kind, input=node.inputs)
            shape = made.attr["_output_shapes"].list.shape.add()
            for size in node.shape:
                shape.dim.add(size=-1 if size is None else size)
            made.attr["num_parameters"].i = node.num_parameters
        self._write(graph_def=graph.SerializeToString())

    def hparams(self, parameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Adds this run to the HParams table: what it was given (typed; None is left out) and what
        it reached.

        `metrics` become curves of one point under the same names; TensorBoard takes its columns
        from them.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        given = {name: value for name, value in parameters.items() if value is not None}
        for name, value in given.items():
            if not isinstance(value, bool | int | float | str | np.generic):
                given[name] = ", ".join(map(str, value)) if np.iterable(value) else str(value)
        self._add(hparams_pb(given).value, 0)
        reached = {name: value for name, value in metrics.items() if not isinstance(value, str)}
        self.scalars(0, reached)
        end = plugin_data_pb2.SessionEndInfo(status="STATUS_SUCCESS", end_time_secs=time.time())
        about = metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(session_end_info=end)
        )
        tag = metadata.SESSION_END_INFO_TAG
        self._add([Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)], 0)

    def _add(self, values: Iterable, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        events = [Event(wall_time=time.time(), **content)]
        if self._path is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # The name TensorBoard looks for; time, process and number keep two writers apart.
            writer = f"darkroom.{os.getpid()}.{next(_numbers)}"
            self._path = self.folder / f"events.out.tfevents.{int(time.time()):010d}.{writer}"
            events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
        buffer = io.BytesIO()
        for event in events:
            RecordWriter(buffer).write(event.SerializeToString())
        with self._path.open("ab") as file:
            file.write(buffer.getvalue())


ENVELOPE = ("accuracy", "loss", "val_accuracy", "val_loss")


def write_seed_envelope(folder: Path, histories: Mapping[str, Sequence[pd.DataFrame]]) -> None:
    """Writes `<folder>/<arm>/mean`, `low` and `high` over seeds, one TensorBoard run each.

    `histories` maps an arm to one history a seed (columns `epoch` and some of `accuracy loss
    val_accuracy val_loss`). An epoch counts where every seed has it, so that no band jumps where a
    seed has stopped. Arms of one seed are left out.
    """
    for arm, runs in histories.items():
        names = [name for name in ENVELOPE if all(name in run.columns for run in runs)]
        epochs = [run.drop_duplicates("epoch", keep="last").set_index("epoch") for run in runs]
        by_epoch = pd.concat([run[names] for run in epochs]).groupby(level="epoch")
        whole = by_epoch.size() == len(runs)
        for kind, how in (
            (("mean", "mean"), ("low", "min"), ("high", "max")) if len(runs) > 1 else ()
        ):
            board = Board(Path(folder) / arm / kind)
            for epoch, row in by_epoch.agg(how)[whole].iterrows():
                board.epoch(int(epoch), row.to_dict())


_FRAME = """<iframe id="board-{port}" width="100%" height="720" frameborder="0"></iframe><script>
(() => {{ const address = new URL("/#timeseries", location); address.port = {port};
document.getElementById("board-{port}").src = address; }})();</script>"""


def inline(study: str = "") -> None:
    """Shows TensorBoard below a notebook's cell, on all of `logs/` or on one study of it.

    It works in JupyterLab and in Colab, as `%tensorboard` does, and opens on the curves. The server
    goes on in the background, so that a cell before a training can start it.

    Raises:
        DarkroomError: TensorBoard does not start.
    """
    from IPython.display import HTML, display
    from tensorboard import manager, notebook

    program = Path(sys.executable).with_name("tensorboard")  # a kernel's PATH may lack it
    if program.is_file():
        os.environ.setdefault("TENSORBOARD_BINARY", str(program))
    started = manager.start(["--logdir", str(paths.logs() / study)])
    port = getattr(getattr(started, "info", None), "port", None)
    if port is None:
        raise DarkroomError(f"TensorBoard did not start ({started}). Try `darkroom board`.")
    if "google.colab" in sys.modules:
        notebook.display(port)
    else:
        display(HTML(_FRAME.format(port=port)))


MOST = 1_000
"""Images that the projector is given; a browser turns this many smoothly, and one sprite sheet
holds them.
"""
SIDE = 48
FOLDER = "projector"
_PARTS = 3  # of a run's path: study, stage and unit


def write_projector(
    folder: Path,
    features: np.ndarray,
    columns: Mapping[str, Sequence[object]],
    pictures: np.ndarray,
) -> None:
    """Writes what the projector shows of one run into its folder: vectors, their labels, and a
    sheet of small pictures.

    Nothing is written for a run with a + in its path, such as those of tiny studies: TensorBoard's
    page asks for a run by its bare name, the server reads the + as a space, and the page waits for
    ever on a run that nobody knows.

    Args:
        folder: the run's folder, where its event files are too.
        features: (n, d) finite, one row an image, at most `MOST`.
        columns: name to n values (label, prediction, path): what a point says and is coloured by.
        pictures: uint8 (n, height, width, 3).

    Raises:
        DarkroomError: lengths differ, too many images, or values that are not finite.
    """
    num = len(features)
    lengths = {name: len(values) for name, values in columns.items()} | {"pictures": len(pictures)}
    if not 0 < num <= MOST or any(length != num for length in lengths.values()) or not columns:
        raise DarkroomError(
            f"The projector takes 1 to {MOST} images, all of one number. Received: {num} rows, "
            f"{lengths}."
        )
    if not np.isfinite(features).all():
        raise DarkroomError("The projector takes finite features. Received NaN or infinity.")
    if "+" in "/".join(Path(folder).absolute().parts[-_PARTS:]):
        return
    place = Path(folder) / FOLDER
    features = np.ascontiguousarray(features, dtype="<f4")
    files.write_bytes(place / "features.bytes", features.tobytes())
    # TensorBoard takes no header where there is one column.
    rows = [list(columns)] * (len(columns) > 1) + list(zip(*columns.values(), strict=True))
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) + "\n" for row in rows]
    files.write_text(place / "labels.tsv", "".join(lines))
    files.write_bytes(place / "sprites.png", _sheet(pictures))
    files.write_text(Path(folder) / "projector_config.pbtxt", _config(features.shape))


def _config(shape: tuple[int, int]) -> str:
    return f"""embeddings {{
  tensor_name: "test features"
  tensor_shape: {shape[0]}
  tensor_shape: {shape[1]}
  tensor_path: "{FOLDER}/features.bytes"
  metadata_path: "{FOLDER}/labels.tsv"
  sprite {{
    image_path: "{FOLDER}/sprites.png"
    single_image_dim: {SIDE}
    single_image_dim: {SIDE}
  }}
}}
"""


def _sheet(pictures: np.ndarray) -> bytes:
    from PIL import Image

    across = int(np.ceil(np.sqrt(len(pictures))))  # TensorBoard expects a square, row by row
    sheet = Image.new("RGB", (across * SIDE, across * SIDE), "white")
    for index, pixels in enumerate(pictures):
        small = Image.fromarray(np.asarray(pixels)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        sheet.paste(small, (index % across * SIDE, index // across * SIDE))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
