import dataclasses
import json
import re

import keras
import numpy as np
import pandas
import pytest

from lib import models
from lib.data.batches import Batches, Examples
from lib.data.pixel_cache import Pixels
from lib.data.splits import Split
from lib.errors import DarkroomError
from lib.models import losses, predictor
from lib.training import callbacks, checkpoints, finalise, optimizers, strategies
from lib.training.fit import Fitted, fit
from lib.training.settings import Settings

NAMES = ("blue", "red")


@pytest.fixture
def run(toy_run):
    return toy_run


@pytest.fixture(scope="module")
def pictures():
    """Forty noisy 16×16 pictures, half of them bluer and half redder, with a tenth of the labels
    wrong.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.integers(0, 120, (40, 16, 16, 3), dtype=np.uint8)
    images[labels == 0, ..., 2] += 80
    images[labels == 1, ..., 0] += 80
    return images, np.where(np.arange(40) % 10 == 3, 1 - labels, labels)


def examples(pictures, rows):
    images, labels = pictures
    return Examples(images, np.array(rows), labels[rows])


@pytest.fixture
def train_val(pictures):
    return examples(pictures, range(28)), examples(pictures, range(28, 40))


def network(dropout=0.3):
    keras.utils.set_random_seed(1)
    return models.build(
        "custom",
        class_names=NAMES,
        image_side=16,
        dropout=dropout,
        filters=(4,),
        dense_units=(8,),
        preset="triage",
    )


SETTINGS = Settings(
    epochs=4, batch_size=8, learning_rate=0.01, augmentation="gentle", schedule="cosine", seed=5
)


def test_the_kept_epoch_is_the_best_on_validation_and_its_weights_are_back(train_val, run):
    model = network()
    fitted = fit(model, *train_val, settings=dataclasses.replace(SETTINGS, epochs=6), run=run)
    assert fitted.kept_epoch == fitted.history["val_loss"].idxmin() + 1
    val = train_val[1]
    found = predictor.predict_proba(model, val.images[val.rows]).argmax(axis=1)
    kept = fitted.history.loc[fitted.kept_epoch - 1]
    assert (found == val.labels).mean() == pytest.approx(kept["val_accuracy"], abs=1e-6)
    written = pandas.read_csv(run.folder / "history.csv")
    assert written["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert json.loads((run.folder / "progress.json").read_text())["epoch"] == 6


def test_a_training_that_was_killed_ends_with_the_same_weights(
    train_val, run, monkeypatch, tmp_path
):
    undisturbed = network()
    whole = fit(undisturbed, *train_val, settings=SETTINGS, run=run)
    other = dataclasses.replace(run, checkpoint_folder=tmp_path / "killed")

    begin = callbacks.SeedLayers.on_epoch_begin

    def dies(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.SeedLayers, "on_epoch_begin", dies)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), *train_val, settings=SETTINGS, run=other)
    keras.utils.set_random_seed(99)  # what another process would start from
    resumed = network()
    resumed.set_weights([weight * 0 for weight in resumed.get_weights()])
    again = fit(resumed, *train_val, settings=SETTINGS, run=other)
    for mine, theirs in zip(undisturbed.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)
    assert again.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))


def test_a_training_halted_after_an_epoch_continues_as_if_it_had_not_been(train_val, run):
    whole = network()
    straight = fit(whole, *train_val, settings=SETTINGS, run=run)
    asked = []
    for until in (2, 2, 4):  # halted; called again, nothing more is trained; then to the end

        def halt(row, until=until):
            asked.append(row["epoch"])
            return row["epoch"] >= until

        halted = network()
        fitted = fit(halted, *train_val, settings=SETTINGS, run=run, phase="halted", halt=halt)
        assert len(fitted.history) == until
    assert asked == [1, 2, 2, 2, 3, 4]
    assert list(fitted.history["val_loss"]) == list(straight.history["val_loss"])
    for ours, theirs in zip(halted.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_generation_is_passed_over_aloud(train_val, run, capsys):
    model = network()
    optimizer = optimizers.build(Settings(learning_rate=0.01), total_steps=4)
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    folder = run.checkpoint_folder
    for epochs in (1, 2):
        model.set_weights([np.full_like(weight, epochs) for weight in model.get_weights()])
        checkpoints.write(
            folder,
            checkpoints.State(history=[{"epoch": number} for number in range(epochs)]),
            model,
        )
    newest = folder / "generation-00002" / "weights.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    state = checkpoints.restore(folder, model)
    assert state.epoch == 1
    assert all((weight == 1).all() for weight in model.get_weights())
    assert "generation-00002 is damaged" in capsys.readouterr().out


def test_only_two_generations_are_kept(run, monkeypatch):
    model = network()
    model.compile(optimizer="adam", loss="mse")
    for epochs in (1, 2, 3, 4):
        checkpoints.write(run.checkpoint_folder, checkpoints.State(history=[{}] * epochs), model)
    assert [path.name for path in sorted(run.checkpoint_folder.iterdir())] == [
        "generation-00003",
        "generation-00004",
    ]
    checkpoints.clear(run.checkpoint_folder)  # the last one stays, for more epochs
    assert [path.name for path in run.checkpoint_folder.iterdir()] == ["generation-00004"]
    monkeypatch.setattr(checkpoints, "MAX_KEPT_BYTES", 1000)
    checkpoints.clear(run.checkpoint_folder)  # unless it is large
    assert not list(run.checkpoint_folder.iterdir())


def test_patience_stops_early(train_val, run):
    stuck = {"epochs": 50, "learning_rate": 1e-9, "schedule": "constant"}
    settings = dataclasses.replace(SETTINGS, **stuck, patience=2, monitor="val_accuracy")
    assert len(fit(network(), *train_val, settings=settings, run=run).history) == 3


def test_a_loss_that_is_never_finite_is_refused_with_a_cure(train_val, run):
    train, val = train_val
    broken = dataclasses.replace(train, weights=np.full(len(train), np.nan, np.float32))
    with pytest.raises(
        DarkroomError, match="was NaN or infinite from the first epoch on. Lower the learning_rate"
    ):
        fit(network(), broken, val, settings=SETTINGS, run=run)


def test_train_and_validation_must_be_different_images(pictures, run):
    with pytest.raises(DarkroomError, match="3 images are in train and in validation"):
        fit(
            network(),
            examples(pictures, range(20)),
            examples(pictures, range(17, 30)),
            settings=SETTINGS,
            run=run,
        )


def test_class_weights_by_hand():
    # Three of one class and one of the other: 4 / (2 · 3) and 4 / (2 · 1).
    labels = np.array([0, 0, 0, 1])
    assert losses.class_weights(labels, NAMES, mode="balanced") == {
        "blue": pytest.approx(2 / 3),
        "red": 2.0,
    }
    assert losses.class_weights(labels, NAMES, mode="none") is None


def test_the_weights_that_acted_are_reported(train_val, run):
    fitted = fit(
        network(),
        *train_val,
        settings=dataclasses.replace(SETTINGS, class_weights="balanced", epochs=1),
        run=run,
    )
    assert fitted.class_weights == losses.class_weights(train_val[0].labels, NAMES, mode="balanced")


def test_batches_hold_each_image_once_an_epoch_in_an_order_of_seed_and_epoch(pictures):
    given = examples(pictures, range(28))
    numbered = dataclasses.replace(given, images=np.arange(40)[:, None], labels=np.arange(28))
    batches = Batches(numbered, batch_size=8, seed=3)
    first = np.concatenate([batches[index][1] for index in range(len(batches))])
    batches.on_epoch_end()
    second = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert sorted(first) == sorted(second) == list(range(28))
    assert list(first) != list(second)
    resumed = Batches(numbered, batch_size=8, seed=3, first_epoch=1)
    assert np.array_equal(
        second, np.concatenate([resumed[index][1] for index in range(len(resumed))])
    )
    assert all(
        np.array_equal(batch[0][:, 0], batch[1]) for batch in (resumed[index] for index in range(4))
    )


@pytest.fixture
def material(pictures, tmp_path):
    images, labels = pictures
    paths = [f"{number:02}.png" for number in range(40)]
    frame = pandas.DataFrame(
        {
            "path": paths,
            "label": [NAMES[label] for label in labels],
            "group": range(40),
            "pixels": paths,
        }
    ).assign(split=["train"] * 24 + ["val"] * 8 + ["test"] * 8)
    big = images.repeat(2, axis=1).repeat(2, axis=2)  # 32 px, the least that MobileNetV2 takes
    pixels = Pixels(big, pandas.Series(range(40), index=paths), "k")
    return strategies.TrainingData(
        pixels, Split("id", "grouped", "label", frame, list(NAMES)), tmp_path / "features"
    )


def backbone(**options):
    keras.utils.set_random_seed(1)
    return models.build(
        "mobilenet_v2", class_names=NAMES, image_side=32, weights="none", alpha=0.35, **options
    )


def test_a_head_on_stored_features_is_grafted_back_and_scores_alike(material, run):
    model = backbone()
    body = [weight.copy() for weight in model.layers[5].get_weights()]
    settings = dataclasses.replace(SETTINGS, augmentation="none")
    trained = strategies.train("frozen", model, material, settings=settings, run=run)
    found = finalise.score(trained, material, run=run)
    whole = predictor.predict_proba(model, material.pixels.array)
    assert np.abs(found.probabilities - whole).max() < 1e-4
    assert all(
        np.array_equal(old, new)
        for old, new in zip(body, model.layers[5].get_weights(), strict=True)
    )
    assert len(list((material.features_folder).glob("*"))) >= 1


def test_fine_tuning_counts_its_epochs_through_both_phases(material, run):
    trained = strategies.train(
        "fine_tune", backbone(), material, settings=dataclasses.replace(SETTINGS, epochs=2), run=run
    )
    history = trained.fitted.history
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    phases = [phase for phase in history["phase"] if phase != "linear"]
    assert phases[-3:] == ["head", "train", "train"] and set(phases[:-2]) == {"head"}
    assert 1 <= trained.fitted.kept_epoch <= len(history)


@pytest.mark.parametrize("average_mirrored", [False, True])
def test_a_linear_probe_is_refitted_and_says_what_validation_saw_before(
    average_mirrored, material, run
):
    model = backbone(average_mirrored=average_mirrored)
    settings = dataclasses.replace(SETTINGS, augmentation="flip")
    trained = strategies.train("linear_probe", model, material, settings=settings, run=run)
    history = trained.fitted.history
    assert {"lda", "logistic", "svm"} == set(history["kind"])
    best = history.loc[history["val_loss"].idxmin()]
    assert trained.fitted.kept_epoch == best["epoch"]
    found = finalise.score(trained, material, run=run)
    assert (found.split("val").probabilities == trained.val_probabilities).all()
    whole = predictor.predict_proba(model, material.pixels.array)
    rows = found.frame["split"] != "val"
    assert np.abs(found.probabilities[rows] - whole[rows]).max() < 1e-3
    labels = found.split("val").truth
    accuracy = (trained.val_probabilities.argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(best["val_accuracy"])
    of_truth = trained.val_probabilities[np.arange(len(labels)), labels]
    assert -np.log(of_truth).mean() == pytest.approx(best["val_loss"], rel=1e-3)


@pytest.mark.parametrize("strategy", ["linear_probe", "fine_tune", "full"])
def test_predictions_average_mirror_images_where_that_is_asked(strategy, material, run):
    model = backbone(average_mirrored=True)
    settings = dataclasses.replace(SETTINGS, augmentation="flip", epochs=1, learning_rate=1e-4)
    trained = strategies.train(strategy, model, material, settings=settings, run=run)
    scored = finalise.score(trained, material, run=run)
    rows = material.examples("test").rows
    whole, mirrored = (
        predictor.predict_proba(model, view)
        for view in (material.pixels.array[rows], material.pixels.array[rows][:, :, ::-1])
    )
    np.testing.assert_allclose(scored.split("test").probabilities, whole, atol=1e-3)
    np.testing.assert_allclose(whole, mirrored, atol=1e-5)
    acted = (trained.selection or {}).get("augmentation")
    assert acted == (None if strategy == "linear_probe" else "flip")


def test_fine_tuning_keeps_the_head_where_tuning_spoils_it(material, run):
    model = backbone()
    settings = dataclasses.replace(SETTINGS, epochs=1, learning_rate=3.0, optimizer="sgd")
    trained = strategies.train("full", model, material, settings=settings, run=run)
    states = trained.selection["states"]
    assert list(states) == ["head", "linear"]
    kept = trained.selection["kept"]
    assert states[kept]["val_log_loss"] == min(one["val_log_loss"] for one in states.values())
    row = trained.fitted.history.set_index("epoch").loc[trained.fitted.kept_epoch]
    assert row["val_accuracy"] == pytest.approx(states[kept]["val_accuracy"], abs=1e-4)
    assert row["phase"] == kept


@pytest.mark.parametrize(("asked", "accuracy", "acts"), [
    ("flip_or_crop", 0.98, "flip"),
    ("flip_or_crop", 1.0, "crop"),
    ("flip", 1.0, "flip"),
])  # fmt: skip
def test_cuts_follow_a_head_that_fits_the_train_images(asked, accuracy, acts):
    history = pandas.DataFrame({"accuracy": [0.5, accuracy, 0.6]})
    head = Fitted(history, kept_epoch=2, class_weights=None, diverged=False)
    settings = dataclasses.replace(SETTINGS, augmentation=asked)
    assert strategies._augmentation(settings, head) == acts


@pytest.mark.parametrize(("strategy", "moves"), [("full", True), ("fine_tune", False)])
def test_full_moves_every_weight_and_fine_tuning_only_the_top(strategy, moves, material, run):
    model = backbone()
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    normalisation = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    before = [weight.copy() for layer in (first, normalisation) for weight in layer.get_weights()]
    trained = strategies.train(
        strategy, model, material, settings=dataclasses.replace(SETTINGS, epochs=1), run=run
    )
    after = [weight for layer in (first, normalisation) for weight in layer.get_weights()]
    moves = moves and trained.selection["kept"] != "head"
    # The first kernel, and scale, shift, mean and variance of the first normalisation.
    assert [not np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [moves] * 5
    phases = [phase for phase in trained.fitted.history["phase"] if phase != "linear"]
    assert phases[-2:] == ["head", "train"]
    # The linear head that is kept is refitted and scored on its stored features.
    assert trained.on_features is not None


@pytest.mark.parametrize(
    ("kept", "refitted", "sentence"),
    [
        ("head", True, "frozen features was kept, .* refitted on train and val "),
        ("linear", True, "with a linear head on its features, refitted on train and val "),
        ("tuned", False, "weights of epoch 3 of 5 were kept "),
        ("mean", False, "The mean of head and fine-tuned weights was kept "),  # an older run
    ],
)
def test_the_sentence_says_which_state_was_kept(kept, refitted, sentence):
    result = {
        "selection": {"kept": kept, "judge": "loss", "states": {kept: {"val_log_loss": 0.25}}},
        "refitted_on_validation": refitted,
        "kept_epoch": 3,
        "epochs_run": 5,
    }
    assert re.search(rf"{sentence}\(loss: {kept} 0.250\)$", finalise._kept(result))


def test_strategies_refuse_what_cannot_act(material, run):
    with pytest.raises(DarkroomError, match="augmentation cannot act"):
        strategies.train("frozen", backbone(), material, settings=SETTINGS, run=run)
    with pytest.raises(DarkroomError, match="`strategy` must be.*'frozn'. Did you mean 'frozen'"):
        strategies.train("frozn", backbone(), material, settings=SETTINGS, run=run)
    with pytest.raises(DarkroomError, match="needs a pretrained network"):
        strategies.train("fine_tune", network(), material, settings=SETTINGS, run=run)


def test_optimisers_and_schedules_are_checked():
    with pytest.raises(DarkroomError, match="`optimizer` must be.*Did you mean 'adam'"):
        Settings(optimizer="adm")
    with pytest.raises(DarkroomError, match="`schedule` must be.*Did you mean 'cosine'"):
        Settings(schedule="cosin")
    with pytest.raises(DarkroomError, match="`learning_rate` must be above 0.*Received: -1"):
        Settings(learning_rate=-1)


def test_min_delta_is_the_least_improvement_that_counts():
    state = checkpoints.State()
    keep = callbacks.KeepBestWeights(state, Settings(min_delta=0.1))
    keep.set_model(network())
    for loss, best, wait in [(1.0, 1, 0), (0.95, 1, 1), (0.8, 3, 0), (0.75, 3, 1)]:
        state.history.append({"val_loss": loss})
        keep.after_epoch(state.history[-1])
        assert (state.best_epoch, state.wait) == (best, wait)


def test_a_callback_of_the_user_s_sees_every_epoch(train_val, run):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, "val_loss" in logs))
    )
    fit(network(), *train_val, settings=Settings(epochs=2), run=run, callbacks=[callback])
    assert seen == [(0, True), (1, True)]


def test_a_finished_training_continues_for_more_epochs(train_val, run, tmp_path):
    constant = dataclasses.replace(SETTINGS, schedule="constant", patience=0, epochs=4)
    straight, further = network(), network()
    whole = fit(straight, *train_val, settings=constant, run=run)
    other = dataclasses.replace(run, checkpoint_folder=tmp_path / "more")
    fit(network(), *train_val, settings=dataclasses.replace(constant, epochs=2), run=other)
    strategies.clear(other)
    again = fit(further, *train_val, settings=constant, run=other)
    assert again.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    for ours, theirs in zip(further.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
