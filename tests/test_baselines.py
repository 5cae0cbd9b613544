"""Classic models on thumbnails: against scikit-learn's own, on data whose answer is known, and what
may not be believed.
"""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pandas
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier

from lib.baselines import estimators, model, plots, search
from lib.baselines.data import Part, parse_size, parse_sizes
from lib.baselines.estimators import MLP
from lib.errors import DarkroomError

NAMES = ("bright", "dark", "green")
SIZE = (3, 2)
SMALL = {
    "mlp": {"hidden_layers": [[4]], "epochs": [40], "batch_size": [8], "learning_rate": [0.01]},
    "rbf_network": {"centres": [5], "gamma_scale": [1.0]},
    "boosting": {"max_iter": [5], "max_leaf_nodes": [4]},
    "neighbours": {"neighbours": [3]},
}


def drawn(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 3 × 2 pixels, bright, dark or green, with noise: uint8 (num, 3, 2, 3) and their
    class numbers.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(num) % 3
    colours = np.array([[190, 190, 190], [60, 60, 60], [60, 190, 60]])[y]
    noise = rng.normal(0, 25, (num, *SIZE, 3))
    return np.clip(colours[:, None, None] + noise, 0, 255).astype(np.uint8), y


class Pictures:
    """The material of a search without a data set on disk."""

    resize, multilabel, class_names = "stretch", False, list(NAMES)
    split = type("Split", (), {"id": "grouped_0"})

    def data_hash(self):
        return "h"

    def paths(self, name):
        return range({"train": 60, "val": 30}[name])

    def part(self, name, size):
        images, y = drawn(60, 0) if name == "train" else drawn(30, 1)
        return Part(images.reshape(len(images), -1).astype(np.float32) / 255, y)


@pytest.fixture
def parts():
    return Pictures().part("train", SIZE), Pictures().part("val", SIZE)


@pytest.mark.parametrize("kind", sorted(estimators.MODELS))
def test_every_model_learns_is_saved_and_says_the_same_again(kind, parts, tmp_path):
    train, val = parts
    values = {
        name: tried[0] for name, tried in estimators.parameter_grid(kind, SMALL.get(kind)).items()
    }
    fit = estimators.fit(kind, values, train, seed=0)
    right = estimators.is_correct(estimators.outputs(fit.pipeline, val.X), val.y).mean()
    assert right == pytest.approx(1 / 3) if kind == "majority" else right >= 0.9
    made = model.Model(
        kind,
        fit.pipeline,
        NAMES,
        SIZE,
        temperature=estimators.fit_temperature(fit.pipeline, val),
        card={"data": "x"},
    )
    images, _ = drawn(9, 2)
    stated = made.predict_proba(images)
    assert stated.shape == (9, 3)
    assert np.allclose(stated.sum(axis=1), 1, atol=1e-6)
    assert made.num_parameters() > 0
    model.save(made, tmp_path / "model.thumbnail")
    again = model.load(tmp_path / "model.thumbnail")
    assert np.array_equal(again.predict_proba(images), stated)
    assert (again.class_names, again.size, again.card) == (NAMES, SIZE, {"data": "x"})
    assert "bright, dark, green" in (tmp_path / "model.md").read_text()


@pytest.mark.parametrize("name", ["lib.baselines.fitting", "lib.classic.kernels"])
def test_a_model_under_an_earlier_module_name_loads(name, parts, tmp_path):
    fit = estimators.fit("svm_rbf", {"C": 1.0, "gamma_scale": 1.0}, parts[0], seed=0)
    made, path = model.Model("svm_rbf", fit.pipeline, NAMES, SIZE), tmp_path / "model.thumbnail"
    model.save(made, path)
    with zipfile.ZipFile(path) as archive:
        about, inner = archive.read("about.json"), io.BytesIO(archive.read("pipeline.skops"))
    with zipfile.ZipFile(inner) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    assert b'"lib.baselines.estimators"' in members["schema.json"]
    members["schema.json"] = members["schema.json"].replace(
        b'"lib.baselines.estimators"', f'"{name}"'.encode()
    )
    older = io.BytesIO()
    with zipfile.ZipFile(older, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", about)
        archive.writestr("pipeline.skops", older.getvalue())
    images, _ = drawn(9, 2)
    assert np.array_equal(model.load(path).predict_proba(images), made.predict_proba(images))


def test_a_hard_margin_is_in_the_middle():
    part = Part(np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1]))
    hard = estimators.fit("svm_hard", {}, part, seed=0).pipeline
    # The widest gap is between 1 and 3; standardised, the mean of the four, 2, is at 0.
    assert hard[1].intercept_[0] == pytest.approx(0, abs=1e-2)
    assert hard.predict(part.X).tolist() == [0, 0, 1, 1]
    mixed = Part(part.X, np.array([0, 1, 0, 1]))
    assert not estimators.is_correct(
        estimators.outputs(estimators.fit("svm_hard", {}, mixed, seed=0).pipeline, mixed.X), mixed.y
    ).all()


def test_linear_regression_is_least_squares_on_the_classes(parts):
    fit = estimators.fit("least_squares", {"alpha": 0.0}, parts[0], seed=0)
    scaled = fit.pipeline[0].transform(parts[0].X)
    wanted = np.where(np.eye(3)[parts[0].y] == 1, 1.0, -1.0)
    theirs = LinearRegression().fit(scaled, wanted).predict(scaled)
    assert np.allclose(estimators.outputs(fit.pipeline, parts[0].X), theirs, atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_network_is_scikit_learns_and_orders_each_epoch_by_itself(activation, classes):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 6)).astype(np.float32), rng.integers(0, classes, 90)
    ours = MLP((5, 4), 0.01, 3, 32, activation=activation, seed=7).fit(X, y)
    theirs = MLPClassifier(
        (5, 4),
        activation=activation,
        learning_rate_init=0.01,
        batch_size=32,
        random_state=np.random.RandomState(7),
    )
    for _ in range(3):
        theirs.partial_fit(X, y, classes=range(classes))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    alike = MLP((5, 4), 0.01, 3, 32, activation=activation, seed=7).fit(X, y)
    assert np.array_equal(alike.coefs_[0], ours.coefs_[0])


def test_a_network_of_an_earlier_version_predicts_as_it_did():
    flat = np.arange(1, 13, dtype=np.float32) / 10  # 2 inputs, 2 units, 2 classes
    state = {
        "activation": "tanh",
        "classes_": np.array([0, 1]),
        "sizes_": [2, 2, 2],
        "weights_": flat,
    }
    old = MLP.__new__(MLP)
    old.__setstate__(state)
    # Weights of a layer lie before its bias: tanh([1, 2] @ [[.1, .2], [.3, .4]] + [.5, .6]).
    hidden = np.tanh([1 * 0.1 + 2 * 0.3 + 0.5, 1 * 0.2 + 2 * 0.4 + 0.6])
    outputs = hidden @ [[0.7, 0.8], [0.9, 1.0]] + [1.1, 1.2]
    stated = np.exp(outputs) / np.exp(outputs).sum()
    np.testing.assert_allclose(old.predict_proba([[1, 2]])[0], stated, rtol=1e-5)


def test_a_linear_machine_of_an_earlier_version_predicts_as_it_did():
    old = estimators.LinearSVM.__new__(estimators.LinearSVM)
    old.__setstate__(
        {
            "C": 1.0,
            "tol": 1e-4,
            "classes_": np.array([3, 5]),
            "converged_": True,
            "n_features_in_": 2,
            "coef_": np.array([[1.0, -1.0]]),
            "intercept_": np.array([0.5]),
            "separable_": np.array([True]),
        }
    )
    assert old.decision_function(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [-0.5, 1.5]
    assert old.predict(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [3, 5]


def test_losses_are_those_of_the_validation_images_and_change_nothing(parts):
    train, val = parts
    quiet = MLP((4,), epochs=5, batch_size=16).fit(train.X, train.y)
    told = MLP((4,), epochs=5, batch_size=16).fit(train.X, train.y, validation=(val.X, val.y))
    assert all(map(np.array_equal, quiet.coefs_, told.coefs_))
    stated = told.predict_proba(val.X)[np.arange(len(val.y)), val.y]
    assert told.history_[-1]["val_loss"] == pytest.approx(-np.log(stated).mean(), rel=1e-5)
    assert [row["epoch"] for row in told.history_] == [1, 2, 3, 4, 5]


def test_gamma_is_that_of_the_median_distance():
    X = np.array([[0.0], [1.0], [3.0]])  # squared distances 1, 4, 9
    assert estimators.median_gamma(X) == 1 / 4
    assert (
        estimators.median_gamma(np.zeros((5, 4))) == 1 / 4
    )  # all alike: one over the number of features


def test_an_rbf_network_around_every_image_goes_through_each_of_them():
    X, y = np.arange(6.0)[:, None], np.array([0, 1, 0, 1, 0, 1])
    exact = estimators.RBFNetwork(centres=0, gamma_scale=50.0, alpha=0.0).fit(X, y)
    assert np.allclose(exact.decision_function(X), np.where(y == 1, 1, -1))


def test_a_search_fits_each_once_and_continues_where_it_stopped(tmp_path):
    values = {"C": [0.01, 0.1, 1.0]}
    seen = []
    first = search.run(
        "svm_linear",
        values,
        [SIZE],
        Pictures(),
        log=search.ResultLog(tmp_path),
        jobs=2,
        progress=lambda done, all: seen.append((done, all)),
    )
    assert seen[-1] == (3, 3)
    assert list(first.columns) == list(search.COLUMNS)
    lines = (tmp_path / search.LOG).read_text().splitlines()
    (tmp_path / search.LOG).write_text(
        "\n".join(lines[:2]) + "\n" + lines[2][:30]
    )  # cut off in the third line
    seen.clear()
    again = search.run(
        "svm_linear",
        values,
        [SIZE],
        Pictures(),
        log=search.ResultLog(tmp_path),
        progress=lambda done, all: seen.append((done, all)),
    )
    assert seen == [(3, 3)]
    same = [name for name in search.COLUMNS if name != "seconds"]
    pandas.testing.assert_frame_equal(again[same], first[same])
    assert len((tmp_path / search.LOG).read_text().splitlines()) == 3
    assert search.run("svm_linear", values, [SIZE], Pictures(), seed=1)["seed"].tolist() == [
        1,
        1,
        1,
    ]


def test_a_killed_search_loses_nothing_that_was_noted(tmp_path):
    script = (
        "from pathlib import Path\nfrom lib.baselines.search import ResultLog\n"
        f"journal = ResultLog(Path({str(tmp_path)!r}))\nfor key in 'abc': journal.add(key, {{}})"
    )
    environment = {**os.environ, "DARKROOM_FAULT": "trials.jsonl:appended#2"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(search.ResultLog(tmp_path).rows) == 2


def test_networks_are_fitted_in_processes_as_they_are_in_one():
    values = estimators.parameter_grid(
        "mlp", {"hidden_layers": [[4], [6]], "epochs": [3, 6], "batch_size": [16]}
    )
    one = search.run("mlp", values, [SIZE], Pictures(), jobs=1)
    two = search.run("mlp", values, [SIZE], Pictures(), jobs=2)
    assert sorted(json.loads(text)["epochs"] for text in one["parameters"]) == [3, 3, 6, 6]
    assert one.set_index("parameters")["val_log_loss"].to_dict() == pytest.approx(
        two.set_index("parameters")["val_log_loss"].to_dict(), rel=1e-4
    )


def test_the_verdict_counts_what_validation_cannot_tell_apart():
    rows = [
        {
            "kind": "svm_linear",
            "seed": 0,
            "n": 60,
            "height": 3,
            "width": 2,
            "parameters": json.dumps({"C": cost}),
            "train_accuracy": 1.0,
            "train_low": 0.9,
            "train_high": 1.0,
            "val_accuracy": value,
            "val_low": value - 0.1,
            "val_high": value + 0.1,
            "val_log_loss": 1.0,
            "seconds": 1.0,
            "converged": True,
        }
        for cost, value in ((0.1, 0.5), (1.0, 0.7), (10.0, 0.65))
    ]
    told = search.verdict(search.results_table(rows, Pictures()))
    assert "best of 3 on validation: 3 x 2 pixels, C 1.0, accuracy 70.0 %" in told
    assert "1 other is within" in told and "try more" not in told
    several = search.verdict(search.results_table(rows, Pictures()), measure="exact match")
    assert "exact match 70.0 % (95 % 60.0 % to 80.0 %)" in several
    assert "Its C is the highest" in search.verdict(
        search.results_table([{**rows[2], "val_accuracy": 0.9}, *rows[:2]], Pictures())
    )


def test_a_table_for_reading_shows_what_differs_and_nothing_else():
    values = [
        {"hidden_layers": [8], "epochs": 60, "l2": 0.1},
        {"hidden_layers": [8, 8], "epochs": 60, "l2": 0.1},
    ]
    rows = [
        {
            "kind": "mlp",
            "seed": 0,
            "n": 60,
            "height": 3,
            "width": 2,
            "parameters": json.dumps(each),
            "train_accuracy": 1.0,
            "train_low": 0.9,
            "train_high": 1.0,
            "val_accuracy": accuracy,
            "val_low": accuracy - 0.1,
            "val_high": accuracy + 0.1,
            "val_log_loss": 1.23456,
            "seconds": 1.0,
            "converged": True,
        }
        for each, accuracy in zip(values, (0.5, 0.7), strict=True)
    ]
    found = search.results_table(rows, Pictures())
    table = search.display_table(found)
    assert list(table) == [
        "pixels",
        "hidden_layers",
        "accuracy, train (95 %)",
        "accuracy, validation (95 %)",
        "validation log loss",
        "seconds",
    ]
    assert table.iloc[0].tolist() == [
        "3 × 2",
        [8, 8],
        "100.0 % (90.0 to 100.0)",
        "70.0 % (60.0 to 80.0)",
        1.235,
        1.0,
    ]
    assert "3 x 2 pixels, hidden_layers [8, 8], accuracy 70.0 %" in search.verdict(found)
    alone = search.verdict(search.results_table(rows[:1], Pictures()))
    assert "hidden_layers [8], epochs 60, l2 0.1, accuracy" in alone
    drawing = plots.scores(found, measure="exact match")
    drawn = drawing.axes[0]
    told = [label.get_text() for label in drawn.get_yticklabels()]
    assert told == ["3 × 2  hidden_layers [8]", "3 × 2  hidden_layers [8, 8]"]
    assert drawn.get_xlabel() == "exact match"


def test_what_the_table_has_not_is_refused():
    with pytest.raises(DarkroomError, match="`classifier` must be.*Received: 'svm'. Did you mean"):
        estimators.model_type("svm")
    with pytest.raises(
        DarkroomError, match="mlp: `parameter` must be.*Received: 'epoch'. Did you mean 'epochs'"
    ):
        estimators.parameter_grid("mlp", {"epoch": [1]})
    with pytest.raises(
        DarkroomError, match="`C` of svm_linear must be a finite number above 0. Received: 0"
    ):
        estimators.parameter_grid("svm_linear", {"C": [1, 0]})
    with pytest.raises(DarkroomError, match="list of units a layer"):
        estimators.parameter_grid("mlp", {"hidden_layers": [8]})
    with pytest.raises(DarkroomError, match="one of relu, tanh"):
        estimators.parameter_grid("mlp", {"activation": ["relo"]})
    with pytest.raises(DarkroomError, match="`search` must be one of"):
        search.run("majority", {}, [SIZE], Pictures(), method="gird")
    assert estimators.parameter_grid("svm_linear", {"C": 3}) == {"C": [3]}


def test_sizes_are_height_by_width():
    assert parse_size("15x10") == parse_size("15 × 10") == (15, 10)
    assert parse_sizes(["15x10", "20x20"]) == [(15, 10), (20, 20)]
    refused = {
        "height x width": ["15"],
        "at least one size": [],
        "1 to 256": ["300x1"],
        "once": ["2x2", "2x2"],
    }
    for message, wrong in refused.items():
        with pytest.raises(DarkroomError, match=message):
            parse_sizes(wrong)


def test_a_model_file_that_could_run_code_is_refused(parts, tmp_path):
    import skops.io

    path = tmp_path / "model.thumbnail"
    fit = estimators.fit("majority", {}, parts[0], seed=0)
    model.save(model.Model("majority", fit.pipeline, NAMES, SIZE), path)
    about = zipfile.ZipFile(path).read("about.json")
    for held, message in ((subprocess.Popen, "Popen"), (np.zeros(3), "it holds a ndarray")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("about.json", about)
            archive.writestr("pipeline.skops", skops.io.dumps(held))
        with pytest.raises(DarkroomError, match=message):
            model.load(path)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(DarkroomError, match="not a saved thumbnail model"):
        model.load(path)
    with pytest.raises(DarkroomError, match="no saved model"):
        model.load(tmp_path / "other.thumbnail")


def test_images_of_another_size_or_type_are_refused(parts):
    fit = estimators.fit("majority", {}, parts[0], seed=0)
    made = model.Model("majority", fit.pipeline, NAMES, SIZE)
    assert made.predict_proba(np.zeros((0, 3, 2, 3), np.uint8)).shape == (0, 3)
    for wrong in (np.zeros((1, 2, 3, 3), np.uint8), np.zeros((1, 3, 2, 3), np.float32), [1]):
        with pytest.raises(DarkroomError, match=r"uint8 of the shape \(n, 3, 2, 3\)"):
            made.predict_proba(wrong)


def test_weights_are_pictures_of_what_speaks_for_a_class(parts):
    fit = estimators.fit("logistic", {"C": 0.01}, parts[0], seed=0)
    found = plots.weights(model.Model("logistic", fit.pipeline, NAMES, SIZE))
    assert found.shape == (3, 3, 2, 3)
    of_channels = found.mean(axis=(1, 2))
    assert of_channels[2].argmax() == 1  # green speaks for the green class
    assert (of_channels[1] < 0).all()  # light speaks against the dark one
    trees = estimators.fit(
        "boosting", {"max_iter": 2, "learning_rate": 0.1, "max_leaf_nodes": 3}, parts[0], seed=0
    )
    assert plots.weights(model.Model("boosting", trees.pipeline, NAMES, SIZE)) is None
    assert plots.weights_drawing(model.Model("boosting", trees.pipeline, NAMES, SIZE)) is None


@pytest.mark.parametrize("kind", ["logistic", "svm_linear", "neighbours", "mlp"])
def test_several_classes_an_image_are_each_said_for_itself(kind, parts):
    images, colour = drawn(90, 0)
    y = np.stack(
        [colour != 1, colour == 2], axis=1
    )  # "light" for bright and green, "green" for green alone
    part = Part(images.reshape(90, -1).astype(np.float32) / 255, y)
    values = {
        name: tried[-1] for name, tried in estimators.parameter_grid(kind, SMALL.get(kind)).items()
    }
    fit = estimators.fit(kind, values, part, seed=0)
    heat = estimators.fit_temperature(fit.pipeline, part)
    made = model.Model(
        kind, fit.pipeline, ("green", "light"), SIZE, multilabel=True, temperature=heat
    )
    stated = made.predict_proba(images)
    assert ((stated >= 0.5) == y).all(axis=1).mean() > 0.9
    assert estimators.is_correct(estimators.outputs(fit.pipeline, part.X), y).mean() > 0.9


def test_a_share_of_the_images_keeps_every_class():
    part = Part(np.arange(20.0)[:, None], np.array([0] * 16 + [1] * 4))
    some = part.sample(0.25, seed=0)
    assert np.bincount(some.y).tolist() == [4, 2]
    assert np.array_equal(some.y, (some.X[:, 0] >= 16).astype(int))


@pytest.mark.parametrize("method", ["refined", "halving", "genetic"])
def test_methods_of_tuning_search_the_same_table(method):
    values = {"C": [0.001, 0.01, 0.1, 1.0], "gamma_scale": [0.5, 1.0, 2.0]}
    found = search.run("svm_rbf", values, [SIZE], Pictures(), method=method, num_trials=7, jobs=1)
    tried = [json.loads(text) for text in found["parameters"]]
    assert found["n"].iloc[0] == 60  # the winner has seen all train images
    assert all(0.001 <= each["C"] <= 1.0 and 0.5 <= each["gamma_scale"] <= 2.0 for each in tried)
    if method == "halving":
        assert found["n"].value_counts().to_dict() == {
            6: 12,
            21: 4,
            60: 1,
        }  # a ninth, but two of a class at least
    else:
        assert len(found) >= 7
        assert (found["n"] == 60).all()


def test_halving_spends_a_networks_epochs():
    values = estimators.parameter_grid(
        "mlp", {"hidden_layers": [[2], [3], [4], [5]], "epochs": [9], "batch_size": [16]}
    )
    found = search.run("mlp", values, [SIZE], Pictures(), method="halving", jobs=1)
    assert sorted(json.loads(text)["epochs"] for text in found["parameters"]) == [1, 1, 1, 1, 3, 9]
