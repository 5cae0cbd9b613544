"""Figures: their alt texts say their numbers, any class name can be drawn, and nothing warns
(warnings are errors).
"""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.evaluation.arm_model import Uncertainty
from lib.evaluation.statistics import Estimate
from lib.reporting import comparison_page, run_figures, style

NAMES = [
    "café",
    "猫",
    "ネコ",
    "🐈‍⬛ cat",
    "$x_1$ \\frac",
    "_hidden",
    "a\nb\tc",
    "한국",
    "ไทย",
    "x" * 80,
]


def estimate(name, value):
    return Estimate(
        name,
        value,
        value - 0.02,
        value + 0.02,
        value - 0.01,
        value + 0.01,
        0.01,
        3,
        "test",
        Uncertainty(0.01**2, 0.01**2, 2.0),
    )


def history(num, best):
    epochs = np.arange(1, num + 1)
    values = best * (1 - np.exp(-epochs / 2))
    return pd.DataFrame(
        {
            "epoch": epochs,
            "loss": 1 / epochs,
            "accuracy": values,
            "val_loss": 1.1 / epochs,
            "val_accuracy": values - 0.05,
        }
    )


def saved(drawing) -> Image.Image:
    return Image.open(io.BytesIO(drawing.png(dpi=60)))


def test_the_confusion_matrix_says_its_numbers_and_draws_any_name():
    counts = np.diag(np.arange(10, 20))
    counts[1, 3] = 7
    drawing = run_figures.confusion_matrix(counts, NAMES, title="Eleven $ of _ them")
    assert drawing.alt == (
        "Eleven $ of _ them: 145 of 152 images right (95.4 %); the largest confusion: 7 of 18 "
        "images of "
        "猫 were taken for 🐈‍⬛ cat."
    )
    assert saved(drawing).info["Description"] == drawing.alt


@pytest.mark.parametrize("num", [2, 13, 31, 60])
def test_a_confusion_matrix_of_any_size_has_readable_labels_and_cells(num):
    drawing = run_figures.confusion_matrix(
        np.eye(num, dtype=int) * 5, [f"class number {index}" for index in range(num)]
    )
    picture = saved(drawing)
    assert picture.width < 60 * 20
    drawing.canvas.draw()
    axes = drawing.axes[0]
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert len(boxes) == num
    assert all(
        one.y0 >= other.y1 - 1 for one, other in zip(boxes, boxes[1:], strict=False)
    )  # no label lies on the next
    assert min(text.get_fontsize() for text in axes.get_yticklabels()) >= 7


def test_a_class_without_images_and_a_matrix_without_errors():
    assert run_figures.confusion_matrix(np.array([[5, 0], [0, 0]]), ["a", "b"]).alt.endswith(
        "5 of 5 images right (100.0 %); no confusion."
    )


def test_labels_are_drawable_and_short():
    drawable = style._drawable()
    for name in NAMES:
        shown = style.label(name)
        assert all(ord(character) in drawable for character in shown)
        assert 0 < len(shown) <= 28
    assert style.label("a\nb") == "a\\nb"
    assert style.label("abcdefghij", most=6) == "abc…ij"
    assert style.label("café") == "café"


def test_what_no_font_has_is_spelt(monkeypatch):
    monkeypatch.setattr(style, "_drawable", lambda: frozenset(range(32, 384)))
    assert style.label("🐈 cat") == ":cat: cat"
    assert style.label("ネコ") == "neko"
    assert style.label("猫犬x") == "⟨732B·72AC⟩x"
    assert style.label("ﬁne") == "fine"


def test_every_figure_tells_its_numbers():
    table = pd.DataFrame(
        {"precision": [0.5, 1.0], "recall": [0.5, 0.8], "f1": [0.5, 0.889], "support": [4, 5]},
        index=["a", "b"],
    )
    assert "from 50.0 % (a) to 88.9 % (b) over 2 classes" in run_figures.per_class(table).alt
    numbers = pd.DataFrame({"train": [8, 3], "test": [2, 2]}, index=["a", "b"])
    assert (
        "15 images in 2 classes, from 5 (b) to 10 (a), 2.0 times"
        in run_figures.class_distribution(numbers).alt
    )
    bins = pd.DataFrame(
        {
            "low": [0, 0.5],
            "high": [0.5, 1],
            "num": [0, 4],
            "confidence": [np.nan, 0.9],
            "accuracy": [np.nan, 0.75],
        }
    )
    drawing = run_figures.reliability(bins)
    assert drawing.alt == "Reliability: on average overconfident by 15.0 points."
    saved(drawing)


def test_the_arms_keep_their_order_and_others_figures_are_marked_as_published():
    arms = {"resnet": estimate("accuracy", 0.86), "cnn": estimate("accuracy", 0.8)}
    values = {"cnn": [0.79, 0.8, 0.81], "resnet": [0.85, 0.86, 0.87]}
    drawing = comparison_page.leaderboard(arms, values, published={"Deitsch et al. 2019": 0.8842})
    assert drawing.alt.startswith(
        "accuracy of the arms with 95 % intervals: resnet 86.0 % (84.0 % to 88.0 %, 3 seeds); cnn"
    )
    assert "Published by others: Deitsch et al. 2019 88.4 %." in drawing.alt
    (circles,) = [
        line for line in drawing.axes[0].lines if list(line.get_xdata()) == [0.85, 0.86, 0.87]
    ]
    place = drawing.axes[0].get_yticks()[-1]
    assert (
        np.abs(circles.get_ydata() - place) > 0.1
    ).all()  # none lies behind the diamond of the mean, 0.86
    labels = [text.get_text() for text in drawing.axes[0].get_yticklabels()]
    assert labels == ["published: Deitsch et al.\n2019", "cnn", "resnet"]
    assert (
        "kappa of the arms"
        in comparison_page.leaderboard({"a": estimate("kappa", 0.6)}, {"a": [0.6]}).alt
    )


def test_learning_curves_of_a_run_and_of_arms():
    drawing = run_figures.learning_curves(history(8, 0.9), kept_epoch=6, title="a-s0")
    assert drawing.alt.startswith(
        "a-s0: learning curves over 8 epochs; accuracy at the kept epoch, 6: training 85.5 %"
    )
    saved(drawing)
    saved(run_figures.learning_curves(history(1, 0.9)))
    drawing = run_figures.learning_curves_of_arms(
        {"a": [history(8, 0.9), history(5, 0.8)], "b": [history(3, 0.5)]}
    )
    assert "a reached" in drawing.alt and "5 to 8 epochs (2 seeds)" in drawing.alt
    saved(drawing)


def test_the_band_is_mean_and_deviation_of_the_seeds_that_are_still_there():
    one, other = (
        pd.Series(values, index=range(1, len(values) + 1))
        for values in ([0.2, 0.4, 0.6], [0.4, 0.4])
    )
    found = run_figures.mean_over_seeds([one, other])
    assert found["mean"].tolist() == pytest.approx([0.3, 0.4, 0.6])
    assert found["sd"].tolist() == pytest.approx([np.sqrt(0.02), 0, 0])
    assert found["num"].tolist() == [2, 2, 1]


def test_pictures_of_any_shape_and_mode():
    images = [
        np.zeros((4, 9, 3), np.uint8),
        np.full((9, 4), 200, np.uint8),
        np.zeros((5, 5, 3), np.uint8),
    ]
    drawing = run_figures.pictures(
        images, ["true: 猫\nsaid: b 90 %", "x", "y"], right=[True, False, True], title="Samples"
    )
    assert drawing.alt.startswith(
        "Samples: 3 images. 2 of 3 are right. The first: true: 猫, said: b 90 %; x; y."
    )
    saved(drawing)


def test_a_drawing_shows_itself_in_a_notebook_with_its_alt_text(tmp_path):
    drawing = run_figures.learning_curves(history(3, 0.9))
    data, noted = drawing._repr_mimebundle_()
    assert data["text/plain"] == drawing.alt == noted["image/png"]["alt"]
    drawing.savefig(tmp_path / "figure.png")
    assert style.alt_of(tmp_path / "figure.png") == drawing.alt
    drawing.savefig(tmp_path / "figure.svg")
    assert (
        "Learning" in (tmp_path / "figure.svg").read_text()
        or "learning" in (tmp_path / "figure.svg").read_text()
    )


def test_a_figure_as_svg_follows_the_colours_of_its_page_and_holds_its_alt_text():
    drawing = run_figures.confusion_matrix(np.array([[8, 2], [0, 9]]), ["a", "b"])
    text = drawing.svg()
    assert text.startswith("<svg") and "prefers-color-scheme:dark" in text
    assert style.INK.lower() not in text.replace("--c1f2933:", "")  # only by its variable
    assert "17 of 19 images right" in text
    assert drawing.data_uri().startswith("data:image/svg+xml;base64,")


def test_no_figure_grows_beyond_its_bound_with_the_number_of_classes():
    num = 196
    counts = np.eye(num, dtype=int) * 5
    counts[3, 7] = 2
    names = [f"class {index}" for index in range(num)]
    drawing = run_figures.confusion_matrix(counts, names)
    assert drawing.get_figwidth() <= 12 and drawing.get_figheight() <= 8
    assert "2 of 7 images of class 3 were taken for class 7" in drawing.alt
    table = pd.DataFrame({"train": np.arange(num)}, index=names)
    drawing = run_figures.class_distribution(table)
    assert drawing.get_figheight() < 20 and "in 196 classes" in drawing.alt
    big = style.Drawing(200, 3, alt="wide")
    with Image.open(io.BytesIO(big.png())) as picture:
        assert max(picture.size) <= style.MAX_PIXELS


@pytest.mark.parametrize(
    ("low", "high", "labelled"), [(0.1, 0.9, "0.2"), (1e-6, 1.0, "0.001"), (0.01, 3, "0.05")]
)
def test_ticks_of_logarithmic_axes_are_plain_numbers(low, high, labelled):
    drawing = style.Drawing(6, 3)
    axes = drawing.subplots()
    axes.plot([low, high], [1, 2])
    style.logarithmic(axes.xaxis)
    drawing.png(dpi=40)
    texts = [text.get_text() for text in axes.xaxis.get_ticklabels(which="both")]
    assert labelled in texts
    assert all(re.fullmatch(r"[0-9.e-]*", text) for text in texts)
