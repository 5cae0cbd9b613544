"""The maps as figures."""

import numpy as np
import pandas as pd

from lib.features import drawing


def test_points_are_as_large_on_every_map_and_the_legend_changes_none():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"path": [f"{number}.png" for number in range(600)], "label": rng.choice(list("ab"), 600)})
    places = {"pca": rng.normal(size=(600, 2)), "tsne": rng.normal(size=(600, 2))}
    drawn = drawing.maps(places, table, column="label")
    sizes = {float(size) for axes in drawn.axes for points in axes.collections for size in points.get_sizes()}
    assert sizes == {10.0}  # 6,000 / 600
    assert {float(handle.get_sizes()[0]) for handle in drawn.legends[0].legend_handles} == {28.0}
