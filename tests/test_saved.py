import json
import warnings
import zipfile
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import yaml

from lib import model_card, processes
from lib.data.value_range import Rendering
from lib.errors import DarkroomError
from lib.models import build, heads, losses, predictor, serialization

SIDE = 16
NAMES = ["café", "漢字", "🙂 smile"]
CARD = {
    "data": "planted",
    "licence_of_data": "CC0",
    "metrics": {"accuracy": 0.912345},
    "settings": {"a|b": "0.9"},
    "run": "a/b/c",
}


def small(**changes):
    return build(
        "custom",
        **{"class_names": NAMES, "image_side": SIDE, "filters": (4,), "pool_after": (), **changes},
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "zscore", "mean": [100, 110, 120], "std": [50, 51, 52]},
        {"head": "multilabel"},
        {"class_names": ["photo", "rest"], "head": "sigmoid", "positive": "photo"},
    ],
)
def test_everything_comes_back(tmp_path, images, changes):
    model = small(**changes)
    model.compile("adam", losses.loss(model), metrics=[losses.accuracy(model)])
    serialization.save(model, tmp_path / "model.keras", card=CARD)
    found = serialization.load(tmp_path / "model.keras")
    one, other = heads.of(model), heads.of(found)
    assert (one.class_names, one.kind, one.positive) == (
        other.class_names,
        other.kind,
        other.positive,
    )
    np.testing.assert_array_equal(
        predictor.predict_proba(found, images), predictor.predict_proba(model, images)
    )
    assert other.card == CARD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "model.md"]


def test_the_card_is_read_without_the_model_and_written_for_people(tmp_path):
    serialization.save(small(), tmp_path / "model.keras", card=CARD)
    assert serialization.card(tmp_path / "model.keras") == {
        "class_names": NAMES,
        "head": "softmax",
        **CARD,
    }
    text = (tmp_path / "model.md").read_text(encoding="utf-8")
    assert "- Takes: RGB images, 16 x 16 px" in text and "café, 漢字, 🙂 smile" in text
    assert "Licence: CC0" in text and "| Accuracy | 0.9123 |" in text and "| a\\|b | 0.9 |" in text


def test_frozen_layers_stay_frozen(tmp_path):
    model = small()
    model.get_layer("block1_conv").trainable = False
    serialization.save(model, tmp_path / "model.keras", card={})
    assert not serialization.load(tmp_path / "model.keras").get_layer("block1_conv").trainable


def test_files_that_are_no_models_of_ours_are_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "foreign.keras")
    with pytest.raises(
        DarkroomError, match="foreign.keras was not saved by this suite: it holds no class names"
    ):
        serialization.load(tmp_path / "foreign.keras")
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(DarkroomError, match="text.keras is not a saved Keras model"):
        serialization.load(tmp_path / "text.keras")
    with pytest.raises(DarkroomError, match="There is no saved model .*nothing.keras"):
        serialization.load(tmp_path / "nothing.keras")
    with pytest.raises(DarkroomError, match="ends in .keras. Received: 'model.h5'"):
        serialization.save(small(), tmp_path / "model.h5", card={})


def rewrite(path, change=lambda config: None, *, weights=None):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    if weights is not None:
        members["model.weights.h5"] = weights
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("keras.layers", "Lambda", None),
        ("keras.layers", "TFSMLayer", None),
        ("os", "system", None),
        ("keras.utils", "get_file", None),
        ("lib.models.serialization", "Other", "darkroom>Other"),
        ("subprocess", "Popen", "darkroom>Preprocess"),
    ],
)
def test_a_layer_that_could_run_code_is_refused(tmp_path, module, name, registered):
    serialization.save(small(), tmp_path / "model.keras", card={})

    def smuggle(config):
        config["config"]["layers"][2].update(
            module=module, class_name=name, registered_name=registered
        )

    rewrite(tmp_path / "model.keras", smuggle)
    with pytest.raises(DarkroomError, match="which none of our models needs"):
        serialization.load(tmp_path / "model.keras")


def test_a_card_may_say_what_it_likes(tmp_path):
    card = {"class_name": "Lambda", "module": "os"}
    serialization.save(small(), tmp_path / "model.keras", card=card)
    assert heads.of(serialization.load(tmp_path / "model.keras")).card == card


def test_damaged_weights_are_refused(tmp_path):
    serialization.save(small(), tmp_path / "model.keras", card={})
    rewrite(tmp_path / "model.keras", weights=b"rotten")
    with pytest.raises(
        DarkroomError, match="model.keras cannot be loaded, its weights are damaged"
    ):
        serialization.load(tmp_path / "model.keras")


def _rewritten(source, target, change):
    """A copy of a saved model whose config `change` has altered or replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                data = change(json.loads(data))
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
            new.writestr(name, data)
    return target


def _many_filters(config):
    for layer in config["config"]["layers"]:
        if "filters" in layer["config"]:
            layer["config"]["filters"] = 20_000_000
    return config


def _lambda_beside_names(config):
    lambda_layer = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    config["config"]["x"] = {"class_names": [], "card": lambda_layer}
    return config


@pytest.mark.parametrize(
    "change",
    [
        lambda config: b"null",
        lambda config: b"[]",
        lambda config: b'{"config": []}',
        lambda config: b"[" * 100_000,
        lambda config: b'{"config": {"x": ' + b"9" * 10_000 + b"}}",
        _many_filters,
        _lambda_beside_names,
    ],
)
def test_a_hostile_config_is_refused_in_a_sentence(change, tmp_path):
    model = build("custom", class_names="ab", image_side=16, filters=[4])
    serialization.save(model, tmp_path / "model.keras", card={})
    hostile = _rewritten(tmp_path / "model.keras", tmp_path / "hostile.keras", change)
    with pytest.raises(DarkroomError):
        serialization.load(hostile)


def test_a_card_has_the_sections_and_the_header_of_a_model_hub():
    audit = [
        {"check": "beats_chance", "outcome": "flagged", "message": "Not shown to beat chance."},
        {"check": "file_order", "outcome": "not_judged", "message": "too few images"},
    ]
    result = {
        "metrics": {
            "accuracy": 0.5,
            "accuracy_low": 0.3,
            "accuracy_high": 0.7,
            "train_accuracy": 1.0,
        },
        "data_hash": "h",
        "split": "grouped",
        "target": "label",
        "class_names": ["a", "b"],
        "split_counts": {"train": {"a": 3, "b": 4}, "test": {"a": 1, "b": 1}},
        "audit": audit,
    }
    card = model_card.of_run(
        result,
        run=SimpleNamespace(name="study/train/one", data="mine", parameters={"seed": 0}),
        dataset=SimpleNamespace(source={}, rendering=Rendering()),
        classes={"a": {"precision": None, "recall": 0.0, "images": 1}},
    )
    assert "train_accuracy" not in card["metrics"]
    text = model_card.markdown("net", ["Takes: RGB"], card)
    header = yaml.safe_load(text.split("---")[1])
    assert header["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.5}]
    assert "| Accuracy | 0.5 | 0.3 to 0.7 |" in text
    assert "| a |  | 0 | 1 |" in text
    assert "- Images: 7 train, 2 test (split `grouped`)" in text
    assert "- Not shown to beat chance." in text and "too few images" not in text


def _huge_dense(config):
    """Flattened maps before a wide layer: 16 x 16 x 4 inputs times 10 million units."""
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)
        if layer["class_name"] == "Dense":
            layer["config"]["units"] = 10_000_000
    return config


def _huge_maps(config):
    layer = config["config"]["layers"][0]
    layer["config"]["batch_shape"] = [None, 100_000, 100_000, 3]
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_huge_dense, "declares [0-9,]+ weights and holds [0-9,]+"),
        (_huge_maps, "values an image between two layers|cannot be loaded"),
    ],
)
def test_shapes_are_bounded_before_anything_is_built(change, message, tmp_path):
    model = build("custom", class_names="ab", image_side=16, filters=[4], dense_units=[8])
    serialization.save(model, tmp_path / "model.keras", card={})
    hostile = _rewritten(tmp_path / "model.keras", tmp_path / "hostile.keras", change)
    with pytest.raises(DarkroomError, match=message):
        serialization.load(hostile)


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "assets/x", "config.json"])
def test_an_archive_with_other_members_is_refused(name, tmp_path):
    serialization.save(small(), tmp_path / "model.keras", card={})
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the second config.json
        archive.writestr(name, b"{}")
    with pytest.raises(DarkroomError, match="hostile or damaged: it (holds|describes no model)"):
        serialization.load(tmp_path / "model.keras")
    assert [path.name for path in tmp_path.parent.rglob("evil.txt")] == []


def _external_link(file):
    file["linked"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_values(file):
    file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("x", layout)


def _hollow(file):
    file.create_dataset("x", (1 << 34,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize("change", [_external_link, _external_values, _virtual, _hollow])
def test_weights_that_are_elsewhere_are_refused(change, tmp_path):
    serialization.save(small(), tmp_path / "model.keras", card={})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "w.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "w.h5", "a") as file:
        change(file)
    rewrite(tmp_path / "model.keras", weights=(tmp_path / "w.h5").read_bytes())
    with pytest.raises(DarkroomError, match="is hostile"):
        serialization.load(tmp_path / "model.keras")


def test_a_model_that_takes_too_much_ends_its_own_process_alone(tmp_path, monkeypatch):
    serialization.save(small(), tmp_path / "model.keras", card={})

    def died(*_, **__):
        raise processes.WorkerDied("check_build", -24, "")

    monkeypatch.setattr(processes, "call", died)
    with pytest.raises(DarkroomError, match="building it takes more than 60 s or 4 GiB"):
        serialization.load(tmp_path / "model.keras")


def test_a_network_that_sees_all_stages_comes_back(tmp_path):
    options = {"class_names": NAMES, "image_side": 32, "weights": "none", "alpha": 0.35}
    model = build("mobilenet_v2", feature_maps="stages", **options)
    serialization.save(model, tmp_path / "model.keras", card=CARD)
    found = serialization.load(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        predictor.predict_proba(found, images), predictor.predict_proba(model, images)
    )
