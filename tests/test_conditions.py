"""Every parameter of a training acts, or is refused where it cannot: nobody tunes a switch that
does nothing.
"""

import json

import filelock
import keras
import numpy as np
import pandas
import pytest

from lib import parameter_table, runs
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.errors import DarkroomError
from lib.training import network, optimizers, strategies
from lib.training.settings import DEFAULTS, Settings

DECLARED = parameter_table.find("3_train").defaults()
NAMES = ["blue", "red"]
SMALL = {"architecture": "custom", "preset": "triage", "filters": [4], "dense_units": [6]}
# What a parameter is changed to, beside which others.
NETWORK = {
    "feature_maps": (
        "last",
        {"architecture": "mobilenet_v2", "alpha": 0.35, "strategy": "fine_tune"},
    ),
    "architecture": ("mobilenet", {}),
    "normalization": ("zscore", SMALL),
    "preset": ("simpsons", {}),
    "filters": ([8, 8], {}),
    "kernel_size": (5, SMALL),
    "first_stride": (1, {}),
    "padding": ("valid", SMALL),
    "pooling": ("average", SMALL),
    "summary": ("max", SMALL),
    "dense_units": ([3, 3], SMALL),
    "activation": ("leaky_relu", SMALL),
    "batch_normalization": ("all", SMALL),
    "block_dropout": (0.4, SMALL),
    "l2": (0.01, SMALL),
    "initializer": ("he_normal", SMALL),
    "dropout": (0.5, SMALL),
    "average_mirrored": (True, SMALL),
    "alpha": (0.25, {"architecture": "mobilenet", "weights": "none"}),
    "loss": ("binary_focal", SMALL),
}
TRAINING = {
    "epochs": (3, {}),
    "batch_size": (5, {}),
    "learning_rate": (0.1, {}),
    "optimizer": ("adamw", {}),
    "momentum": (0.5, {"optimizer": "sgd"}),
    "weight_decay": (0.5, {"optimizer": "sgd"}),
    "gradient_clip": (0.01, {"optimizer": "sgd"}),
    "schedule": ("cosine", {}),
    "warm_up": (0.5, {"schedule": "cosine"}),
    "decay_every": (0.5, {"schedule": "step"}),
    "decay_factor": (0.5, {"schedule": "step"}),
    "plateau_patience": (
        1,
        {"schedule": "plateau", "epochs": 4, "learning_rate": 5.0, "optimizer": "sgd"},
    ),
    "augmentation": ("flip", {}),
    "mix": ("mixup", {}),
    "mix_alpha": (2.0, {"mix": "cutmix"}),
    "class_weights": ("balanced", {}),
    "loss": ("focal", {}),
    "focal_gamma": (0.5, {"loss": "focal"}),
    "label_smoothing": (0.2, {}),
    "min_delta": (10.0, {"epochs": 4}),
    "patience": (1, {"epochs": 4, "learning_rate": 1e-9, "monitor": "val_accuracy"}),
    "monitor": ("val_accuracy", {"learning_rate": 5.0, "optimizer": "sgd", "epochs": 4}),
    "seed": (1, {}),
}
ELSEWHERE = {
    "tuned_on",
    # of the run and its data, held by the tests of those rooms
    "study",
    "arm",
    "tiny",
    "data",
    "target",
    "split_method",
    "fractions",
    "split_seed",
    "limit_per_class",
    "image_side",
    "resize",
    "strategy",
    "weights",
    "fine_tune_fraction",
    "feature_backend",
    "dtype_policy",
    "range_test",
    "continue_run",
    "devices",
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Thirty pictures of 32 px, two thirds of them of the class red."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3 % 2
    images = rng.integers(0, 120, (30, 32, 32, 3), dtype=np.uint8)
    images[labels == 0, ..., 2] += 30
    images[labels == 1, :, :16, 0] += 30
    paths = [f"{number:02}.png" for number in range(30)]
    frame = pandas.DataFrame(
        {"path": paths, "label": [NAMES[label] for label in labels], "group": range(30)}
    )
    split = Split(
        "id", "grouped", "label", frame.assign(split=["train"] * 18 + ["val"] * 12), NAMES
    )
    return strategies.TrainingData(
        Pixels(images, pandas.Series(range(30), index=paths), "k"),
        split,
        tmp_path_factory.mktemp("f"),
    )


@pytest.fixture
def run(tmp_path):
    lock = filelock.FileLock(tmp_path / "lock")
    return runs.Run(tmp_path, tmp_path / "checkpoints", {}, {}, "train", None, False, lock)


def described(material, parameters):
    return network.build({**DECLARED, **parameters, "weights": "none"}, material).to_json()


def test_what_acts_is_reported_apart_from_what_does_not():
    settings = {
        "optimizer": "adam",
        "momentum": 0.9,
        "schedule": "step",
        "decay_every": 0.3,
        "plateau_patience": 3,
    }
    acting = parameter_table.active(
        {**settings, "mix": "none"}, {"strategy": "frozen"}
    )  # its features are computed once: no mixing
    assert acting == {"optimizer": "adam", "schedule": "step", "decay_every": 0.3}


@pytest.mark.parametrize("name", NETWORK)
def test_each_parameter_of_the_network_changes_it(name, material):
    value, beside = NETWORK[name]
    keras.backend.clear_session()
    before = described(material, beside)
    keras.backend.clear_session()  # names are numbered anew
    assert json.loads(described(material, {**beside, name: value})) != json.loads(before)


@pytest.fixture(scope="module")
def step_by_step():
    """Has TensorFlow compute without tracing graphs, which takes longer than these trainings."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow

    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def trained(material, tmp_path_factory, step_by_step):
    """Trains a small network with some settings and returns its losses and kept weights, each
    combination once.
    """
    known = {}

    def weights(**settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            keras.utils.set_random_seed(0)
            model = network.build(
                {**DECLARED, **SMALL, "dropout": 0.0, "summary": "average", "filters": [2]},
                material,
            )
            folder = tmp_path_factory.mktemp("run")
            run = runs.Run(
                folder,
                folder / "c",
                {},
                {},
                "train",
                None,
                False,
                filelock.FileLock(folder / "lock"),
            )
            chosen = Settings.of({"epochs": 2, "batch_size": 9, "learning_rate": 0.02, **settings})
            history = strategies.train(
                "scratch", model, material, settings=chosen, run=run
            ).fitted.history
            known[key] = np.concatenate(
                [history["val_loss"], *(weight.ravel() for weight in model.get_weights())]
            )
        return known[key]

    return weights


@pytest.mark.filterwarnings(
    "ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"
)
@pytest.mark.parametrize("name", TRAINING)
def test_each_parameter_of_the_training_changes_what_is_learnt(name, trained):
    value, beside = TRAINING[name]
    assert not np.array_equal(trained(**beside), trained(**{**beside, name: value}))


def test_no_parameter_is_forgotten_here():
    assert set(DECLARED) == set(NETWORK) | set(TRAINING) | ELSEWHERE
    assert set(DEFAULTS) <= set(TRAINING) | {"feature_backend"}


@pytest.mark.parametrize(
    "name", [name for name, row in parameter_table.TRAINING.items() if row.when]
)
def test_a_parameter_without_effect_is_refused(name):
    elsewhere = {"fine_tune_fraction": (0.5, {}), "feature_backend": ("auto", {})}
    other = {**NETWORK, **TRAINING, **elsewhere}[name][0]
    idle = {"optimizer": "adam", "schedule": "constant", "loss": "cross_entropy", "mix": "none"}
    by_gradient = ("learning_rate", "optimizer", "schedule")
    strategy = "scratch" if name in ("feature_backend", "feature_maps") else "frozen"
    strategy = "linear_probe" if name in by_gradient else strategy
    idle |= dict.fromkeys(by_gradient) if name in by_gradient else {}
    idle |= {"strategy": strategy, "architecture": "resnet50"}
    assert not parameter_table.is_active(name, {**DECLARED, **idle})
    with pytest.raises(DarkroomError, match=f"`{name}` acts only with .*Leave it at"):
        Settings.of({**DECLARED, **idle, name: other})


def test_settings_alone_refuse_what_cannot_act():
    with pytest.raises(
        DarkroomError,
        match="`momentum` acts only with optimizer = 'sgd'. Received: momentum = 0.5 with",
    ):
        Settings(momentum=0.5)
    with pytest.raises(DarkroomError, match="stops before the rate falls at plateau_patience = 3"):
        Settings(schedule="plateau", patience=3)
    with pytest.raises(DarkroomError, match="Did you mean 'focal'"):
        Settings(loss="focl")


def test_preset_is_built_to_the_parameter_when_nothing_is_changed(material):
    # 3·3·3·16+16, 3·3·16·32+32, 3·3·32·64+64; 16 px · 16 px · 64 maps into 128 units; two classes
    model = network.build({"preset": "triage_dropout"}, material)
    assert model.count_params() == 448 + 4640 + 18496 + (16 * 16 * 64 * 128 + 128) + (128 * 2 + 2)
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.25,
        0.25,
        0.5,
    ]


def test_zscore_takes_mean_and_deviation_of_the_train_split(material):
    model = network.build({**SMALL, "normalization": "zscore"}, material)
    train = material.examples("train")
    pixels = train.images[train.rows].reshape(-1, 3).astype(np.float64)
    layer = model.get_layer("preprocess")
    assert layer.mean == pytest.approx(list(pixels.mean(axis=0)))
    assert layer.std == pytest.approx(list(pixels.std(axis=0)))


def test_a_backbone_refuses_another_scale_than_its_own(material):
    with pytest.raises(DarkroomError, match="MobileNet brings its own preprocessing, 'symmetric'"):
        network.build(
            {"architecture": "mobilenet", "weights": "none", "normalization": "unit"}, material
        )


def test_a_binary_loss_tells_the_named_class_from_the_rest(material):
    split = material.split
    assert (
        network.build({**SMALL, "loss": "binary_cross_entropy"}, material).layers[-1].positive
        == "red"
    )
    named = Split("id", "grouped", "label:blue", split.frame, split.class_names)
    one = strategies.TrainingData(material.pixels, named, material.features_folder)
    assert (
        network.build({**SMALL, "loss": "binary_cross_entropy"}, one).layers[-1].positive == "blue"
    )
    three = Split("id", "grouped", "label", split.frame, ["a", "b", "c"])
    with pytest.raises(DarkroomError, match="tells two classes apart. Received 3: a, b, c"):
        network.build(
            {**SMALL, "loss": "binary_focal"},
            strategies.TrainingData(material.pixels, three, material.features_folder),
        )


def test_a_loss_that_does_not_fit_the_head_is_refused(material, run):
    model = network.build(SMALL, material)
    told = "A softmax head learns by cross_entropy, focal or one_vs_rest. Received: loss = 'binary_focal'"
    with pytest.raises(DarkroomError, match=told):
        strategies.train(
            "scratch", model, material, settings=Settings(loss="binary_focal"), run=run
        )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # decay_every 0.25 of 100 steps: falls after 25, 50 and 75
        (
            {"schedule": "step", "decay_every": 0.25},
            {0: 1.0, 25: 1.0, 26: 0.1, 51: 0.01, 76: 0.001},
        ),
        # rises over 20 of 100 steps, then half a cosine over 80: the middle of it at step 60
        ({"schedule": "cosine", "warm_up": 0.2}, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.5, 100: 0.0}),
        ({"schedule": "cosine", "warm_up": 0.0}, {0: 1.0, 50: 0.5, 100: 0.0}),
    ],
)
def test_schedules_by_hand(settings, expected):
    rate = optimizers.rate(Settings(learning_rate=1.0, **settings), total_steps=100)
    assert {step: pytest.approx(float(rate(step)), abs=1e-6) for step in expected} == expected


def test_decay_leaves_biases_and_normalisation_alone():
    optimizer = optimizers.build(
        Settings(optimizer="sgd", learning_rate=0.1, weight_decay=0.5), total_steps=10
    )
    layers = [keras.layers.Dense(2, bias_initializer="ones"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((2,)), *layers])
    optimizer.build(model.trainable_variables)
    kernel = np.asarray(model.layers[0].kernel)
    optimizer.apply(
        [np.zeros(variable.shape, np.float32) for variable in model.trainable_variables]
    )
    np.testing.assert_allclose(model.layers[0].kernel, kernel * (1 - 0.1 * 0.5), rtol=1e-6)
    assert np.array_equal(model.layers[0].bias, [1, 1])
    assert np.array_equal(model.layers[1].gamma, [1, 1])
