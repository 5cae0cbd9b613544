import keras
import numpy as np
import pytest

from lib.errors import DarkroomError
from lib.models import build, cnn, predictor

NINETEEN = [f"character {number:02}" for number in range(19)]


def weighted(model):
    """(type, output shape, parameters) of every layer with weights, and of what reshapes or drops."""
    kept = ("Conv2D", "Dense", "Head", "BatchNormalization", "Flatten", "MaxPooling2D", "Dropout")
    return [
        (type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params())
        for layer in model.layers
        if type(layer).__name__ in kept
    ]


def num_parameters(model):
    total = model.count_params()
    fixed = sum(
        layer.count_params() // 2
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    return total, total - fixed


def test_triage_model_is_the_sources():
    model = build(
        "custom", preset="triage_dropout", class_names="ABCDE", image_side=64, initializer="zeros"
    )
    assert weighted(model) == [
        ("Conv2D", (64, 64, 16), 448),
        ("MaxPooling2D", (32, 32, 16), 0),
        ("Dropout", (32, 32, 16), 0),
        ("Conv2D", (32, 32, 32), 4640),
        ("Conv2D", (32, 32, 64), 18496),
        ("Dropout", (32, 32, 64), 0),
        ("Flatten", (65536,), 0),
        ("Dense", (128,), 65536 * 128 + 128),
        ("Dropout", (128,), 0),
        ("Head", (5,), 645),
    ]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.25,
        0.25,
        0.5,
    ]


def test_simpsons_model_is_the_sources():
    model = build(
        "custom", preset="simpsons", class_names=NINETEEN, image_side=64, initializer="zeros"
    )
    assert weighted(model) == [
        ("Conv2D", (62, 62, 32), 896),
        ("Conv2D", (60, 60, 64), 18496),
        ("Conv2D", (58, 58, 64), 36928),
        ("Flatten", (215296,), 0),
        ("BatchNormalization", (215296,), 861184),
        ("Dense", (64,), 13779008),
        ("BatchNormalization", (64,), 256),
        ("Head", (19,), 1235),
    ]
    assert num_parameters(model) == (14_698_003, 14_267_283)


def test_final_simpsons_model_is_the_sources():
    model = build(
        "custom", preset="simpsons_final", class_names=NINETEEN, image_side=128, initializer="zeros"
    )
    assert weighted(model) == [
        ("Conv2D", (126, 126, 32), 896),
        ("Conv2D", (124, 124, 64), 18496),
        ("Conv2D", (122, 122, 64), 36928),
        ("Flatten", (952576,), 0),
        ("BatchNormalization", (952576,), 3810304),
        ("Dropout", (952576,), 0),
        ("Dense", (128,), 121929856),
        ("BatchNormalization", (128,), 512),
        ("Dropout", (128,), 0),
        ("Head", (19,), 2451),
    ]
    assert num_parameters(model) == (125_799_443, 123_894_035)


def test_every_field_of_the_description_acts():
    plain = {
        "filters": [4, 6],
        "pool_after": [1],
        "dense_units": 5,
        "summary": "flatten",
        "batch_normalization": [],
    }
    changes = {
        "kernel": 5,
        "residual_units": 1,
        "first_stride": 2,
        "padding": "valid",
        "pooling": "average",
        "summary": "max",
        "activation": "leaky_relu",
        "dense_activation": "tanh",
        "batch_normalization": ["dense"],
        "dropout": {"flat": 0.5},
        "l2": 0.1,
        "initializer": "zeros",
        "filters": [4, 7],
        "pool_after": [2],
        "dense_units": [5, 5],
    }
    seen = set()
    for change in ({}, *({name: value} for name, value in changes.items())):
        model = build(
            "custom", class_names="ab", image_side=16, preset="triage", **{**plain, **change}
        )
        config = [(type(layer), {**layer.get_config(), "name": ""}) for layer in model.layers]
        seen.add(str(config))
    assert len(seen) == len(changes) + 1


def test_leaky_relu_has_the_sources_slope():
    model = build("custom", preset="simpsons", class_names="ab", image_side=16, dense_units=2)
    assert [
        layer.negative_slope for layer in model.layers if isinstance(layer, keras.layers.LeakyReLU)
    ] == [pytest.approx(0.3)]


def test_l2_adds_the_squared_kernels_to_the_loss():
    model = build(
        "custom",
        class_names="ab",
        image_side=8,
        filters=1,
        pool_after=(),
        l2=0.5,
        initializer="ones",
    )
    assert [float(loss) for loss in model.losses] == [0.5 * 27]  # a kernel of 3 x 3 x 3 ones


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"filter": 3}, "Did you mean 'filters'"),
        ({"pooling": "maximum"}, "`pooling` must be one of max, average. Received: 'maximum'"),
        ({"pool_after": [9]}, "`pool_after` must be one of 1, 2, 3, 4, 5. Received: '9'"),
        (
            {"dropout": {"block9": 0.5}},
            "`dropout` must be one of flat, dense, block1, .*Received: .block9.",
        ),
        ({"batch_normalization": ["blok"]}, "Did you mean 'block'"),
        ({"preset": "compcat"}, "Did you mean 'compact'"),
    ],
)
def test_a_wrong_description_is_refused(wrong, message):
    with pytest.raises(DarkroomError, match=message):
        build("custom", class_names="ab", image_side=64, **wrong)


def test_a_side_of_which_nothing_is_left_is_refused():
    with pytest.raises(DarkroomError, match="of 8 px nothing is left after block 2 of 5"):
        build("custom", class_names="ab", image_side=8, padding="valid")


def test_the_compact_network_takes_any_side():
    for image_side in (8, 33, 128):
        model = build("custom", class_names="ab", image_side=image_side)
        assert model.output_shape == (None, 2)
        assert (
            model.count_params() == 320_498
        )  # a pooled average has no weights that grow with the side


def test_the_residual_network_begins_as_its_plain_blocks_and_takes_any_side():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    residual = build("custom", class_names="ab", image_side=16, preset="residual")
    plain = build("custom", class_names="ab", image_side=16, preset="residual", residual_units=0)
    assert residual.count_params() == 1_960_930
    for layer in plain.layers:
        layer.set_weights(residual.get_layer(layer.name).get_weights())
    np.testing.assert_allclose(
        predictor.predict_proba(residual, images),
        predictor.predict_proba(plain, images),
        atol=1e-6,
    )
    assert build("custom", class_names="ab", image_side=33, preset="residual").output_shape[1] == 2


def test_describe_turns_lists_and_single_numbers_into_tuples():
    described = cnn.describe("triage", filters=[8], dense_units=16)
    assert (described.filters, described.dense_units, described.pool_after) == ((8,), (16,), (1,))
