from types import SimpleNamespace

import keras
import numpy as np
import pytest

from lib import models
from lib.errors import DarkroomError
from lib.models import predictor, serialization
from lib.training import best

NAMES = ("blue", "red")


def member(seed):
    keras.utils.set_random_seed(seed)
    return models.build("mobilenet", class_names=NAMES, image_side=32, weights="none", alpha=0.25)


def logits(model, images):
    return np.asarray(model.predict_on_batch(images))


def test_an_ensemble_is_one_network_with_the_weighted_logits_and_loads_as_it_was(tmp_path):
    first, second = member(0), member(1)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("float32")
    ensemble = best.assemble([first, second], [0.25, 0.75], temperature=2.0)
    expected = (0.25 * logits(first, images) + 0.75 * logits(second, images)) / 2
    np.testing.assert_allclose(logits(ensemble, images), expected, atol=1e-5)
    answers = predictor.predict_proba(ensemble, images)
    assert answers.sum(axis=1) == pytest.approx(1)
    serialization.save(ensemble, tmp_path / "model.keras", card={})
    loaded = serialization.load(tmp_path / "model.keras")
    np.testing.assert_allclose(predictor.predict_proba(loaded, images), answers, atol=1e-6)


@pytest.mark.parametrize(("loss_as_they_are", "mirrored"), [(0.4, False), (0.6, True)])
def test_what_validation_says_of_mirror_images_holds_for_all_that_follows(
    monkeypatch, loss_as_they_are, mirrored
):
    seen = []

    def probe(pictures, fixed, architecture, side):
        seen.append((side, fixed["augmentation"], fixed["average_mirrored"]))
        loss = 0.5 if fixed["average_mirrored"] else loss_as_they_are
        return SimpleNamespace(log_loss=loss / side, minutes=0.0, parameters={})

    monkeypatch.setattr(best, "_probe", probe)
    monkeypatch.setattr(best, "_epochs", lambda *_: 0)
    fixed = {"augmentation": "flip", "average_mirrored": True}
    list(best._probes(None, fixed, SimpleNamespace(left=lambda: 9.0)))
    assert seen[:2] == [(128, "flip", True), (128, "none", False)]
    assert {side for side, *_ in seen[2:]} == {224, 320}
    follows = ("flip", True) if mirrored else ("none", False)
    assert {(augmentation, averaged) for _, augmentation, averaged in seen[2:]} == {follows}


@pytest.mark.parametrize(("fitting", "sides"), [
    ({224: 3, 320: 3}, {128, 224, 320}),
    ({224: 3, 320: 0}, {128, 224}),  # 320 px would leave no time to fine-tune
    ({224: 0, 320: 0}, {128, 224, 320}),  # there is none anyway
])  # fmt: skip
def test_the_side_grows_where_it_leaves_time_to_fine_tune(monkeypatch, fitting, sides):
    seen = set()

    def probe(pictures, fixed, architecture, side):
        seen.add(side)
        return SimpleNamespace(log_loss=1 / side, minutes=0.0, parameters={})

    monkeypatch.setattr(best, "_probe", probe)
    monkeypatch.setattr(best, "_epochs", lambda pictures, values, side, minutes: fitting[side])
    list(
        best._probes(
            None,
            {"augmentation": "none", "average_mirrored": False},
            SimpleNamespace(left=lambda: 9.0),
        )
    )
    assert seen == sides


def test_too_little_time_is_refused():
    with pytest.raises(DarkroomError, match="`minutes` must be at least 1. Received: 0.5."):
        best.search(None, minutes=0.5)


def test_what_the_search_chooses_cannot_be_set():
    with pytest.raises(DarkroomError, match="`epochs` is chosen by the search"):
        best.command("elpv", minutes=5, values={"epochs": "3"}, as_json=True)
