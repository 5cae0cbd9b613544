"""What cannot be trained is refused in one sentence, before anything is lost."""

import dataclasses
import shutil
from collections import namedtuple

import keras
import numpy as np
import pytest

from lib import models
from lib.data.splits import Split
from lib.errors import DarkroomError
from lib.models import predictor, serialization
from lib.training import checkpoints, finalise, network, strategies
from lib.training.settings import Settings
from lib.training.strategies import TrainingData

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (
            {"architecture": "inception_v3", "weights": "none"},
            "at least 75 px for InceptionV3.*Received: 32",
        ),
        (
            {"architecture": "resnet50", "weights": "nowhere.h5"},
            "a file that exists. Received: 'nowhere.h5'",
        ),
        (
            {"padding": "valid", "preset": "compact", "filters": [4] * 9},
            "nothing is left after block",
        ),
        ({"normalization": "z-score"}, "`normalization` must be one of .* Did you mean 'zscore'"),
        (
            {"filters": [4], "architecture": "resnet50"},
            "`filters` acts only with architecture = 'custom'",
        ),
    ],
)
def test_networks_that_cannot_be(toy_material, parameters, told):
    with pytest.raises(DarkroomError, match=told):
        network.build(parameters, toy_material)


def test_an_augmentation_that_does_not_exist(toy_material, toy_network, toy_run):
    with pytest.raises(DarkroomError, match="`augmentation` must be one of .*Did you mean 'flip'"):
        strategies.train(
            "scratch",
            toy_network(),
            toy_material,
            settings=Settings(augmentation="flipp"),
            run=toy_run,
        )


def test_more_classes_in_the_data_than_in_the_model(toy_material, toy_network, toy_run):
    trained = strategies.train(
        "scratch", toy_network(), toy_material, settings=Settings(epochs=1), run=toy_run
    )
    split = toy_material.split
    three = Split("id", "grouped", "label", split.frame, [*split.class_names, "violet"])
    with pytest.raises(
        DarkroomError, match=r"The model has the classes \['blue', 'red'\], the split .*'violet'"
    ):
        finalise.score(
            trained,
            TrainingData(toy_material.pixels, three, toy_material.features_folder),
            run=toy_run,
        )


def test_a_saved_model_of_another_shape_as_first_weights(tmp_path, toy_network):
    model = toy_network()
    serialization.save(model, tmp_path / "model.keras", card={})
    with pytest.raises(DarkroomError, match="model.keras does not fit the model"):
        models.build(
            "custom",
            class_names=("a", "b", "c"),
            image_side=32,
            weights=str(tmp_path / "model.keras"),
            filters=(9,),
        )


def test_a_full_disk_stops_before_the_checkpoint_and_keeps_those_there_are(
    tmp_path, monkeypatch, toy_network
):
    model = toy_network()
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    checkpoints.write(tmp_path, checkpoints.State(history=[{"epoch": 1}]), model)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 9, 1))
    with pytest.raises(
        DarkroomError,
        match="needs 0.00 GB in .*; 0.00 GB are free.*it continues from the last checkpoint",
    ):
        checkpoints.write(tmp_path, checkpoints.State(history=[{"epoch": 1}, {"epoch": 2}]), model)
    monkeypatch.undo()
    assert checkpoints.restore(tmp_path, model).epoch == 1


def test_the_largest_preset_needs_what_is_reported():
    """125.8 million weights, Adam's two moments of each trainable one, and the best weights so far:
    4 bytes each.
    """
    keras.backend.clear_session()
    largest = {"preset": "simpsons_final", "initializer": "zeros"}
    model = network.describe(largest, class_names=list("abcdefghijklmnopqrs"), image_side=128)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == (125_799_443, 123_894_035)
    assert 4 * (model.count_params() + 2 * trainable) == pytest.approx(1.5e9, rel=0.01)


def test_features_of_other_weights_are_not_used(toy_material, toy_run):
    """The cache is keyed by weights and pixels; what was put there under a wrong name is noticed
    when the run is scored.
    """
    model = network.build(
        {"architecture": "mobilenet", "alpha": 0.25, "weights": "none"}, toy_material
    )
    trained = strategies.train(
        "frozen", model, toy_material, settings=Settings(epochs=1), run=toy_run
    )
    classifier, features = trained.on_features
    other = strategies.Trained(
        trained.model,
        trained.fitted,
        "frozen",
        trained.settings,
        0.0,
        (classifier, np.roll(features, 1, axis=1) + 9),
    )
    with pytest.raises(
        DarkroomError, match="disagree by up to .* Delete the data set's folder `features`"
    ):
        finalise.score(other, toy_material, run=toy_run)
    # The features of a body that the run itself has tuned are in no cache that could be stale.
    tuned = dataclasses.replace(other, selection={"kept": "linear"})
    found = finalise.score(tuned, toy_material, run=toy_run)
    whole = predictor.predict_proba(model, toy_material.pixels.array)
    assert np.abs(found.probabilities - whole).max() < 1e-3
