"""The maps as figures."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lib.embeddings import plots
from lib.embeddings.plots import PALETTE


def test_points_are_as_large_on_every_map_and_the_legend_changes_none():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"path": [f"{number}.png" for number in range(600)], "label": rng.choice(list("ab"), 600)}
    )
    places = {"pca": rng.normal(size=(600, 2)), "tsne": rng.normal(size=(600, 2))}
    drawn = plots.maps(places, table, column="label")
    sizes = {
        float(size)
        for axes in drawn.axes
        for points in axes.collections
        for size in points.get_sizes()
    }
    assert sizes == {10.0}  # 6,000 / 600
    assert {float(handle.get_sizes()[0]) for handle in drawn.legends[0].legend_handles} == {28.0}


# Machado, Oliveira, Fernandes (2009), linear RGB as seen without green- and without red-sensitive
# cones.
WITHOUT_GREEN = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
WITHOUT_RED = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
LUMINANCE = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour, eye):
    """CIE L*a*b* of "#RRGGBB" as an eye sees it; 2 is a difference that one just notices."""
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(
        np.array(LUMINANCE) @ np.clip(np.array(eye) @ linear, 1e-3, 1) / [0.9505, 1, 1.089]
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "eye", [np.eye(3), WITHOUT_GREEN, WITHOUT_RED], ids=["all cones", "no green", "no red"]
)
def test_the_first_colours_are_reported_apart_by_every_eye(eye):
    seen = [lab(colour, eye) for colour in PALETTE[:4]]
    apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert min(apart) > 24
