import keras
import numpy as np
import pytest

from lib.training import optimizers
from lib.training.settings import Settings

FIRST = [np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), np.array([4.0, -1.0], np.float32)]


def walked(optimizer, steps):
    """Where two variables end, and the optimizer's own, after gradients of norms from 0.3 to 30."""
    variables = [
        keras.Variable(value, name=name)
        for value, name in zip(FIRST, ("kernel", "bias"), strict=True)
    ]
    optimizer.build(variables)
    rng = np.random.default_rng(0)
    for step in range(steps):
        length = (30.0, 0.3, 3.0)[step % 3]
        gradients = [rng.normal(size=value.shape).astype(np.float32) for value in FIRST]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient * length / norm) for gradient in gradients],
            variables,
        )
    return [keras.ops.convert_to_numpy(each) for each in [*variables, *optimizer.variables]]


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_it_goes_where_keras_goes(name, clip):
    settings = Settings(
        optimizer=name,
        learning_rate=0.05,
        gradient_clip=clip,
        weight_decay=0.01 if name == "adamw" else 0.004,
    )
    ours = optimizers.build(settings, total_steps=9)
    theirs = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name](
        0.05, global_clipnorm=clip or None
    )
    if name == "adamw":
        theirs.weight_decay = 0.01
        theirs.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for mine, expected in zip(walked(ours, 9), walked(theirs, 9), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=1e-6)


def test_its_first_step_is_as_long_as_the_rate_whatever_the_gradient():
    moved = walked(
        optimizers.build(Settings(learning_rate=0.25, gradient_clip=0.0), total_steps=1), 1
    )
    assert np.abs(moved[0] - FIRST[0]) == pytest.approx(0.25, abs=1e-5)


def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping():
    optimizer = optimizers.build(Settings(gradient_clip=1.0), total_steps=1)
    variable = keras.Variable(np.ones(3, np.float32))
    optimizer.build([variable])
    optimizer.apply(
        [keras.ops.convert_to_tensor(np.array([1.0, np.nan, 1.0], np.float32))], [variable]
    )
    assert np.isnan(keras.ops.convert_to_numpy(variable)).all()
