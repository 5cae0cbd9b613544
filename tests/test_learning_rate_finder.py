import numpy as np
import pandas
import pytest

from lib.training import learning_rate_finder
from lib.training.settings import Settings


def test_the_steepest_fall_before_the_lowest_point_is_suggested():
    # Per decade the loss falls by 0.1, 0.1, then 0.6, and rises after: steepest between 1e-3 and
    # 1e-2.
    tried = pandas.DataFrame(
        {"learning_rate": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1], "smoothed": [1.0, 0.9, 0.8, 0.2, 2, 9]}
    )
    assert learning_rate_finder.suggested(tried) == 1e-2


def test_the_trial_grows_the_rate_and_puts_the_weights_back(toy_material, toy_network):
    model = toy_network()
    before = model.get_weights()
    settings = Settings(batch_size=8, schedule="cosine", warm_up=0.1, optimizer="sgd")
    tried = learning_rate_finder.try_out(model, toy_material, settings=settings, num_steps=12)
    assert tried["learning_rate"].iloc[0] == pytest.approx(1e-6)
    steps = np.diff(np.log(tried["learning_rate"]))
    assert steps == pytest.approx(np.full(len(steps), np.log(1e6) / 11))
    assert all(
        np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)
    )
    figure = learning_rate_finder.drawing(tried)
    assert f"{learning_rate_finder.suggested(tried):.1e}" in figure.alt
