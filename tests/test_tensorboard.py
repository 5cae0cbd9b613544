"""Event files: what is written comes back through TensorBoard's own loader, with and without
TensorFlow on the machine.
"""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.errors import DarkroomError
from lib.reporting import run_figures, tensorboard
from lib.reporting.style import Drawing
from lib.reporting.tensorboard import Board, Node

READ_BACK = """
import json, sys
sys.modules["tensorflow"] = None  # a machine without it
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray
runs = EventMultiplexer().AddRunsFromDirectory(sys.argv[1])
runs.Reload()
found = {}
for name in sorted(runs.Runs()):
    one = runs.GetAccumulator(name)
    tensors = {tag: [(event.step, event.tensor_proto) for event in one.Tensors(tag)] for tag in one.Tags()["tensors"]}
    tag = "_hparams_/session_start_info"
    told = one.SummaryMetadata(tag).plugin_data.content if tag in tensors else b""
    start = plugin_data_pb2.HParamsPluginData.FromString(told).session_start_info
    plugins = {t: one.SummaryMetadata(t).plugin_data.plugin_name for t in tensors}
    found[name] = {
        "scalars": {t: [(s, float(make_ndarray(p))) for s, p in v] for t, v in tensors.items() if plugins[t] == "scalars"},
        "texts": {t: v[0][1].string_val[0].decode() for t, v in tensors.items() if t.endswith("text_summary")},
        "plugins": plugins,
        "hparams": {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()},
        "curves": {t: make_ndarray(v[0][1]).tolist() for t, v in tensors.items() if plugins[t] == "pr_curves"},
        "graph": [[n.name, n.op, list(n.input)] for n in one.Graph().node] if one.Tags()["graph"] else [],
        "images": {t: len(v[0][1].string_val) for t, v in tensors.items() if plugins[t] == "images"},
    }
print(json.dumps(found))
"""


def read_back(folder) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", READ_BACK, str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_tensorboards_own_loader_reads_everything_back(tmp_path):
    board = Board(tmp_path / "train" / "cnn-s0")
    board.scalars(1, {"loss": 0.5, "val/accuracy": 0.75})
    board.scalars(2, {"loss": 0.25, "val/accuracy": 0.875})
    board.epoch(1, {"epoch": 1, "val_loss": 0.5})
    board.text("verdict", "**ResNet** is better than 猫")
    board.figure("sample/猫", Drawing(2, 1, alt="nothing"))
    board.weights(3, {"conv": np.arange(100.0).reshape(10, 10)})
    parameters = {
        "epochs": 12,
        "architecture": "custom",
        "tiny": False,
        "dropout": None,
        "sizes": [8, 16],
    }
    board.hparams(parameters, {"kappa": 0.625, "kappa_band": "substantial"})

    found = read_back(tmp_path)["train/cnn-s0"]
    assert found["scalars"]["loss"] == [[1, 0.5], [2, 0.25]]
    assert found["scalars"]["val/accuracy"] == [[1, 0.75], [2, 0.875]]
    assert found["scalars"]["curves/2_val_loss"] == [[1, 0.5]]
    assert found["scalars"]["kappa"] == [[0, 0.625]]
    assert found["texts"] == {
        "verdict/text_summary": "**ResNet** is better than 猫",
        "sample/猫/text_summary": "nothing",
    }
    assert found["plugins"]["weights/conv"] == "histograms"
    assert found["images"] == {"sample/猫": 3}  # width, height and one picture
    assert found["hparams"] == {
        "epochs": 12.0,
        "architecture": "custom",
        "tiny": False,
        "sizes": "8, 16",
    }


def test_a_figure_comes_with_its_alt_text_and_one_directory_is_one_run(tmp_path):
    history = pd.DataFrame(
        {"epoch": [1], "loss": [1.0], "accuracy": [0.5], "val_loss": [1.0], "val_accuracy": [0.5]}
    )
    drawing = run_figures.learning_curves(history)
    Board(tmp_path / "a").figure("curves", drawing)
    Board(tmp_path / "b").scalars(1, {"loss": 1.0})
    Board(tmp_path / "b").scalars(2, {"loss": 2.0})  # a resumed run writes a second file
    found = read_back(tmp_path)
    assert sorted(found) == ["a", "b"]
    assert found["a"]["texts"] == {"curves/text_summary": drawing.alt}
    assert found["b"]["scalars"]["loss"] == [[1, 1.0], [2, 2.0]]
    assert len(list((tmp_path / "b").iterdir())) == 2


def test_curves_weights_and_the_network_come_back(tmp_path):
    board = Board(tmp_path)
    columns = [
        "true_positives",
        "false_positives",
        "true_negatives",
        "false_negatives",
        "precision",
        "recall",
    ]
    board.precision_recall(
        "test/猫", pd.DataFrame([[2, 2, 0, 0, 0.5, 1], [1, 0, 2, 1, 1, 0.5]], columns=columns)
    )
    board.weights(7, {"conv/kernel": np.ones((3, 3, 100, 100)), "conv/bias": np.array([np.nan])})
    board.graph(
        [
            Node("images", "InputLayer", (), (None, 8, 8, 3)),
            Node("logits", "Dense", ("images",), (None, 2), 130),
        ]
    )
    (found,) = read_back(tmp_path).values()
    assert found["curves"] == {
        "test/猫/pr_curves": [[2, 1], [2, 0], [0, 2], [0, 1], [0.5, 1], [1, 0.5]]
    }
    assert [tag for tag, plugin in found["plugins"].items() if plugin == "histograms"] == [
        "weights/conv/kernel"
    ]
    assert found["graph"] == [["images", "InputLayer", []], ["logits", "Dense", ["images"]]]


def test_mean_low_and_high_of_the_seeds_are_runs(tmp_path):
    runs = [
        pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.5, 0.7], "loss": [2.0, 1.0]}),
        pd.DataFrame(
            {"epoch": [1, 2, 3], "val_accuracy": [0.7, 0.8, 0.9], "loss": [1.0, 0.5, 0.2]}
        ),
    ]
    tensorboard.write_seed_envelope(tmp_path, {"cnn": runs, "alone": runs[:1]})
    found = read_back(tmp_path)
    assert sorted(found) == [
        "cnn/high",
        "cnn/low",
        "cnn/mean",
    ]  # and no band where there is one seed
    assert found["cnn/mean"]["scalars"]["curves/4_train_loss"] == [
        [1, 1.5],
        [2, 0.75],
    ]  # the third epoch only one seed has
    assert found["cnn/low"]["scalars"]["curves/1_val_accuracy"] == [
        [1, 0.5],
        [2, pytest.approx(0.7)],
    ]
    assert found["cnn/high"]["scalars"]["curves/1_val_accuracy"] == [
        [1, pytest.approx(0.7)],
        [2, pytest.approx(0.8)],
    ]


def test_the_projector_reads_its_files(tmp_path):
    from google.protobuf import text_format
    from PIL import Image
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    features = np.arange(15, dtype=np.float32).reshape(5, 3)
    pictures = np.zeros((5, 8, 8, 3), np.uint8)
    pictures[4] = 255
    columns = {"label": ["猫", "a\tb", "c", "d", "e"], "verdict": ["right"] * 5}
    tensorboard.write_projector(tmp_path, features, columns, pictures)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    stored = np.fromfile(tmp_path / embedding.tensor_path, dtype="float32").reshape(
        list(embedding.tensor_shape)
    )
    assert (stored == features).all()
    lines = (tmp_path / embedding.metadata_path).read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["label\tverdict", "猫\tright", "a b\tright"]
    side = embedding.sprite.single_image_dim[0]
    with Image.open(tmp_path / embedding.sprite.image_path) as sheet:
        assert sheet.size == (3 * side, 3 * side)
        assert sheet.getpixel((1 * side + 5, 1 * side + 5)) == (
            255,
            255,
            255,
        )  # the fifth, in the second row
        assert sheet.getpixel((5, 5)) == (0, 0, 0)
    tiny = tmp_path / "quickstart+tiny" / "train" / "a-s0"
    tiny.mkdir(parents=True)
    tensorboard.write_projector(
        tiny, features, columns, pictures
    )  # TensorBoard's page cannot ask for such a run, and would hang
    assert not list(tiny.iterdir())
    with pytest.raises(DarkroomError, match="takes 1 to 1000 images"):
        tensorboard.write_projector(tmp_path, features, columns, pictures[:2])
    with pytest.raises(DarkroomError, match="finite"):
        tensorboard.write_projector(tmp_path, features * np.nan, columns, pictures)


def test_nothing_is_made_before_the_first_call(tmp_path):
    Board(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_writing_does_not_import_tensorflow(tmp_path):
    code = (
        "import sys; from lib.reporting.tensorboard import Board; from pathlib import Path; b = "
        "Board(Path(sys.argv[1]));"
        "b.scalars(1, {'a': 1}); b.text('t', 'x'); b.hparams({'a': 1}, {'k': 1.0});"
        "sys.exit(int('tensorflow' in sys.modules or 'keras' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=600)


def test_the_cards_open_on_the_validation_curves():
    assert sorted(tensorboard.CURVES.values())[:2] == ["curves/1_val_accuracy", "curves/2_val_loss"]


def test_a_notebook_shows_tensorboard_of_one_study(monkeypatch, tmp_path):
    manager = importlib.import_module("tensorboard.manager")
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    monkeypatch.setenv("TENSORBOARD_BINARY", "tensorboard")
    shown, asked = [], []
    launched = SimpleNamespace(info=SimpleNamespace(port=6123))
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(manager, "start", lambda words: asked.append(words) or launched)
    tensorboard.inline("my study")
    assert asked == [["--logdir", f"{tmp_path}/logs/my study"]]
    assert "address.port = 6123" in shown[0].data
    monkeypatch.setattr(manager, "start", lambda words: "timed out")
    with pytest.raises(DarkroomError, match="did not start \\(timed out\\)"):
        tensorboard.inline()
