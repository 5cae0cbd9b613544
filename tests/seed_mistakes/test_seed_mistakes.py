"""The 26 classic mistakes, each made in miniature with the suite's own parts: it is refused or
flagged, or cannot be said.
"""

import dataclasses
import json
import re

import keras
import numpy as np
import pandas as pd
import pytest

from lib import errors, models, notebooks, parameter_types, paths, runs
from lib.batch import parameter_grid
from lib.data import splits
from lib.data.batches import Examples, examples
from lib.embeddings import probes
from lib.evaluation import (
    checks,
    metrics,
    outcomes,
    paired_tests,
    predictions,
    statistics,
    test_set_log,
)
from lib.evaluation.checks import RunFacts
from lib.evaluation.predictions import Predictions
from lib.models import heads, predictor
from lib.models.preprocessing import Preprocess
from lib.training import finalise, strategies
from lib.training.fit import Settings, fit

from .conftest import SETTINGS, network

REFUSED = errors.DarkroomError


def test_the_healthy_run_has_no_finding(healthy):
    found = {finding["check"]: finding["outcome"] for finding in healthy.result["audit"]}
    alarms = {name for name, outcome in found.items() if outcome in ("flagged", "stops")}
    # The classes of this miniature are tints, which brightness alone tells apart.
    assert alarms == {"file_shortcut"}, healthy.result["audit"]
    assert found["enough_test_images"] == "note"  # a miniature
    assert healthy.result["metrics"]["accuracy"] > 0.8


def test_a_two_test_sets_under_one_table(healthy):
    assert healthy.predictions.evaluated["accuracy"] == pytest.approx(
        healthy.result["metrics"]["accuracy"], abs=1e-6
    )
    other = dataclasses.replace(
        healthy.predictions, evaluated={"accuracy": 0.7158}
    )  # evaluate saw other images
    found = finding(checks.of_run(RunFacts(other)), "one_prediction_table")
    assert found["outcome"] == "stops"
    with pytest.raises(
        REFUSED, match="accuracy was reported as 0.715800.*two sets under one result"
    ):
        outcomes.require([found])


def test_b_trained_through_one_preprocessing_scored_through_another(healthy):
    model = healthy.trained.model
    assert any(
        isinstance(layer, Preprocess) for layer in model.layers
    )  # there is none outside to forget
    centred = np.linspace(-1, 1, 16 * 16 * 3, dtype=np.float32).reshape(1, 16, 16, 3)
    with pytest.raises(REFUSED, match="must lie between 0 and 255. Received: -1 to 1"):
        predictor.predict_proba(model, centred)


def test_c_softmax_of_softmax(healthy):
    names = [f"character {number}" for number in range(19)]
    with pytest.raises(REFUSED, match="activation"):
        heads.Head(names, activation="softmax")
    logits = np.zeros((1, 19))
    logits[0, 4] = 10
    found = heads.probabilities(heads.Head(names), logits)
    assert (
        found.max() > 0.99 > np.e / (np.e + 18) == pytest.approx(0.131, abs=1e-3)
    )  # the cap of a second softmax
    assert healthy.predictions.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_d_validation_images_are_augmented(healthy, material):
    train = material.examples("train")
    assert healthy.augmented == {train.images[row].tobytes() for row in train.rows}
    val = metrics.summary(healthy.predictions, "val")["accuracy"]
    history = pd.DataFrame(
        {"epoch": [1], "val_accuracy": [val - 0.104]}
    )  # the source: 0.847 in fit, 0.951 after
    found = finding(
        checks.of_run(RunFacts(healthy.predictions, history, kept_epoch=1)), "validation_unchanged"
    )
    assert found["outcome"] == "flagged"
    assert "images or weights were not the same" in found["message"]


def test_e_the_epoch_said_to_be_kept_was_not(healthy):
    kept, history = healthy.result["kept_epoch"], healthy.trained.fitted.history
    assert history.loc[history["val_loss"].idxmin(), "epoch"] == kept
    wrong = kept % len(history) + 1
    facts = RunFacts(
        healthy.predictions, history, kept_epoch=wrong, settings=healthy.result["settings"]
    )
    found = finding(checks.of_run(facts), "kept_epoch_is_best")
    assert (found["outcome"], f"Epoch {wrong} is kept with" in found["message"]) == (
        "flagged",
        True,
    )
    assert f"epoch {kept} of {len(history)} were kept" in finalise.sentence(healthy.result)


def test_f_the_text_says_one_batch_size_and_the_log_another(healthy, split):
    told = healthy.result["settings"]
    train_images = int((split.frame["split"] == "train").sum())
    steps = int(healthy.trained.model.optimizer.iterations)
    assert steps == told["epochs"] * -(-train_images // told["batch_size"])


def test_g_fractions_that_do_not_sum_to_one(dataset):
    with pytest.raises(REFUSED, match="their sum is 1.*sum is 0.95"):
        splits.ensure(dataset, fractions=(0.64, 0.16, 0.15))


def test_h_classes_in_the_order_of_a_folder_listing(dataset, material, healthy, another_run):
    assert (
        sorted(dataset.accepted()["label"].unique())
        == ["brick", "leaf", "sea"]
        == list(heads.of(healthy.trained.model).class_names)
    )
    with pytest.raises(REFUSED, match="holds other classes"):
        predictions.read(
            healthy.run.folder / "predictions.parquet", class_names=["leaf", "sea", "brick"]
        )
    other = dataclasses.replace(healthy.trained, model=network(["leaf", "sea", "brick"]))
    with pytest.raises(
        REFUSED, match="The model has the classes .'leaf', 'sea', 'brick'., the split .'brick'"
    ):
        finalise.score(other, material, run=another_run)


def test_i_labels_joined_by_position(material, split):
    frame = split.of("train")
    shuffled = frame.sample(frac=1, random_state=0)
    found = examples(material.pixels, shuffled, split.class_names)
    by_row = dict(zip(found.rows, found.labels, strict=True))
    straight = examples(material.pixels, frame, split.class_names)
    assert by_row == dict(zip(straight.rows, straight.labels, strict=True))


def test_j_frames_of_one_film_in_train_and_test(dataset, split):
    sizes = dataset.accepted()["group"].value_counts()
    assert (sizes == 3).sum() == 6  # two films a class
    assert (
        finding(checks.of_run(RunFacts(table_of(split))), "duplicate_leakage")["outcome"] == "held"
    )
    random = splits.ensure(dataset, method="random", fractions=(0.5, 0.2, 0.3))
    found = finding(checks.of_run(RunFacts(table_of(random))), "duplicate_leakage")
    assert (found["outcome"], "near-duplicates lie in more than one split" in found["message"]) == (
        "flagged",
        True,
    )


def test_k_a_mean_of_one(healthy):
    alone = {"healthy": statistics.over_seeds([healthy.predictions], "accuracy")}
    found = finding(checks.of_comparison(alone, []), "enough_trainings")
    assert (found["outcome"], "Fewer than three trainings: healthy (1)" in found["message"]) == (
        "flagged",
        True,
    )


def test_l_raw_pixels_into_a_pretrained_network():
    own = Preprocess("symmetric")(np.array([[[[0.0, 127.5, 255.0]]]], np.float32))
    assert keras.ops.convert_to_numpy(own).ravel().tolist() == [
        -1,
        0,
        1,
    ]  # what ResNet101V2's weights expect
    with pytest.raises(
        REFUSED, match="brings its own preprocessing, 'symmetric', and its weights fit no other"
    ):
        models.build(
            "resnet101v2",
            class_names=["a", "b"],
            image_side=32,
            weights="none",
            normalization="unit",
        )


def test_m_test_images_as_validation(dataset, split, material, healthy):
    with pytest.raises(REFUSED, match="Test images were given to fit"):
        fit(
            object(),
            material.examples("train"),
            material.examples("test"),
            settings=SETTINGS,
            run=healthy.run,
        )
    assert healthy.result["test_openings"] == 1
    assert test_set_log.count(dataset.folder, split.id) >= 1
    unseen = finding(
        checks.of_run(RunFacts(healthy.predictions, test_openings=0)), "test_access_recorded"
    )
    assert unseen["outcome"] == "flagged"


def test_n_validation_images_seen_in_training(healthy):
    images, labels = np.zeros((10, 16, 16, 3), np.uint8), np.zeros(10, int)
    train, val = (Examples(images, rows, labels[rows]) for rows in (np.arange(8), np.arange(6, 10)))
    with pytest.raises(REFUSED, match="2 images are in train and in validation"):
        fit(object(), train, val, settings=SETTINGS, run=healthy.run)


def test_o_a_searched_value_that_is_never_read():
    with pytest.raises(REFUSED, match="Did you mean 'dense_units'"):
        models.build("custom", class_names=["a", "b"], image_side=16, dense_unit=(16,))
    with pytest.raises(REFUSED, match="has no parameter `lr`"):
        parameter_types.check({"lr": 0.1}, notebooks.find("3_train").parameters, where="a trial")
    idle = [({"dense_units": 16, "rate": 0.1}, "same"), ({"dense_units": 32, "rate": 0.1}, "same")]
    found = checks.trials(idle)
    assert found[0]["outcome"] == "stops"
    with pytest.raises(REFUSED, match="Two trials differ in dense_units and made the same model"):
        outcomes.require(found)
    assert checks.trials([({"units": 16}, "one"), ({"units": 32}, "other")])[0]["outcome"] == "held"


def test_p_class_weights_computed_and_never_passed(healthy):
    acted = healthy.result["class_weights_that_acted"]
    assert set(acted) == {"brick", "leaf", "sea"}
    assert finding(healthy.result["audit"], "class_weights_applied")["outcome"] == "held"
    found = finding(
        checks.of_run(RunFacts(healthy.predictions, settings={"class_weights": "balanced"})),
        "class_weights_applied",
    )
    assert (found["outcome"], "never reached the loss" in found["message"]) == ("flagged", True)


def test_q_argmax_of_one_sigmoid():
    head = heads.Head(["cat", "dog"], kind="sigmoid", positive="dog")
    scored = heads.probabilities(head, np.array([[-2.0], [2.0]]))
    assert scored.argmax(axis=1).tolist() == [0, 1]  # one column would always give 0
    found = finding(
        checks.of_run(RunFacts(said(np.arange(40) % 2, np.zeros(40, int)))),
        "several_classes_predicted",
    )
    assert (found["outcome"], found["message"]) == (
        "flagged",
        "All 40 images were given one class, c0.",
    )


def test_r_an_ablation_that_switches_something_else_too():
    arms = {"full": {}, "no_dropout": {"dropout": 0.0, "learning_rate": 0.1}}
    table = {"name": "train", "arms": arms, "ablation_of": "full"}
    general = parameter_grid.General("study", {}, {}, {"train": {}}, [0], tiny=False)
    with pytest.raises(
        REFUSED, match="'no_dropout'.*changes dropout, learning_rate of 'full'.*one thing"
    ):
        parameter_grid.expand(table, notebooks.find("3_train"), general, where="stage 'train'")
    one = {**table, "arms": {"full": {}, "no_dropout": {"dropout": 0.0}}}
    assert (
        len(parameter_grid.expand(one, notebooks.find("3_train"), general, where="stage 'train'"))
        == 2
    )
    same = {**table, "arms": {"full": {}, "alike": {"batch_size": 32}}}
    with pytest.raises(REFUSED, match="is the same as the arm 'full'"):
        parameter_grid.expand(same, notebooks.find("3_train"), general, where="stage 'train'")


def test_s_two_ways_to_say_validation(material, healthy):
    train, val = material.examples("train"), material.examples("val")
    with pytest.raises(TypeError, match="validation_split"):
        fit(
            healthy.trained.model,
            train,
            val,
            settings=SETTINGS,
            run=healthy.run,
            validation_split=0.2,
        )
    with pytest.raises(TypeError, match="validation_split"):
        Settings(validation_split=0.2)
    with pytest.raises(REFUSED, match="augmentation cannot act"):
        strategies.train("frozen", backbone(), material, settings=SETTINGS, run=healthy.run)


def test_t_one_checkpoint_for_all_runs(material, healthy, another_run, split):
    given = {"arm": "cnn", "seed": 0}
    assert (
        runs.unit(given) != runs.unit(given | {"seed": 1}) != runs.unit(given | {"arm": "resnet"})
    )
    assert paths.checkpoint("study", "train", "cnn-s0") != paths.checkpoint(
        "study", "train", "cnn-s1"
    )
    weaker = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-6)
    found = fit(
        network(split.class_names),
        material.examples("train"),
        material.examples("val"),
        settings=weaker,
        run=another_run,
    )
    best = healthy.trained.fitted.history["val_loss"].min()
    assert found.kept_epoch == 1  # though the run before it was better
    assert found.history["val_loss"].min() > best


def test_u_raw_files_moved_deleted_or_passed_over(raw, cleaned, dataset):
    before = {
        file.relative_to(raw).as_posix(): file.stat().st_mtime_ns
        for file in raw.rglob("*")
        if file.is_file()
    }
    assert set(cleaned.manifest["path"]) == set(
        before
    )  # nothing is passed over, and nothing was lost
    rows = cleaned.manifest.set_index("path")
    assert rows.loc["sea/torn.jpg", "verdict"] == "reject"
    assert rows.loc["brick/named wrongly.jpg", "format"] == "PNG"
    assert (
        rows.loc[["sea/00.png", "leaf/00.png"], "sha256"].nunique() == 2
    )  # the same name in two folders
    lines = (dataset.folder / "ledger.jsonl").read_text().splitlines()
    changed = [change["path"] for line in lines for change in json.loads(line)["changes"]]
    assert "sea/torn.jpg" in changed


def test_v_prose_that_the_code_does_not_follow(healthy):
    changed = healthy.result | {"kept_epoch": 77}
    assert "weights of epoch 77 of" in finalise.sentence(changed)
    numbers = re.compile(
        r"\b(batch|epochs?|patience|kernel|learning rate|dropout|units|filters)\W{0,12}\d",
        re.IGNORECASE,
    )
    for path in sorted(paths.notebooks().glob("*.ipynb")):
        prose = [
            cell
            for cell in json.loads(path.read_text())["cells"]
            if cell["cell_type"] == "markdown"
        ]
        found = [match[0] for cell in prose for match in numbers.finditer("".join(cell["source"]))]
        assert not found, f"{path.name} says in prose what a parameter decides: {found}"
    assert notebooks.find("3_train").defaults()["batch_size"]


def test_w_the_best_of_four_test_scores_of_one_run():
    generator = np.random.default_rng(0)
    truth = generator.integers(4, size=150)
    arms = {
        f"C = {value}": {
            0: said(truth, np.where(generator.random(150) < accuracy, truth, (truth + 1) % 4))
        }
        for value, accuracy in ((0.1, 0.427), (1, 0.427), (10, 0.47), (100, 0.432))
    }
    estimates = {
        name: statistics.over_seeds(list(of.values()), "accuracy") for name, of in arms.items()
    }
    ordered = dict(sorted(estimates.items(), key=lambda item: -item[1].value))
    found = finding(
        checks.of_comparison(ordered, paired_tests.compare_all(arms)), "lead_is_significant"
    )
    assert (found["outcome"], "neither is the winner" in found["message"]) == ("note", True)


def test_x_one_poster_in_two_genres(cleaned, dataset, split):
    rows = cleaned.manifest.set_index("path").loc[["leaf/poster.png", "sea/poster.png"]]
    assert rows["verdict"].tolist() == ["reject", "reject"]
    assert all("two_labels" in reasons for reasons in rows["reasons"])
    assert not split.frame["path"].str.contains("poster").any()
    assert "two_labels" in (dataset.folder / "ledger.jsonl").read_text()


def test_y_a_bad_result_explained_away():
    generator = np.random.default_rng(1)
    truth = generator.integers(2, size=200)
    found = finding(
        checks.of_run(RunFacts(said(truth, generator.integers(2, size=200)))), "beats_chance"
    )
    assert (found["outcome"], "Not shown to beat chance" in found["message"]) == ("flagged", True)


def test_z_separation_judged_by_eye(healthy, material, split):
    generator = np.random.default_rng(0)
    splits_, labels = np.repeat(["train", "test"], [80, 40]), np.arange(120) % 3
    nothing = probes.measure_separation(generator.normal(size=(120, 8)), labels, splits=splits_)
    found = finding(probes.check_separated(nothing), "classes_separated")
    assert (found["outcome"], "not shown to lie apart" in found["message"]) == ("flagged", True)
    with pytest.raises(REFUSED, match="judged on held-out images"):
        probes.measure_separation(generator.normal(size=(120, 8)), labels, splits=["train"] * 120)
    frame = split.frame
    known = predictor.features(
        healthy.trained.model, material.pixels.array, layer=healthy.trained.model.layers[-2].name
    )
    apart = probes.measure_separation(
        known[material.pixels.rows_of(frame["path"])],
        frame["label"],
        splits=frame["split"],
        groups=frame["group"],
    )
    assert finding(probes.check_separated(apart), "classes_separated")["outcome"] == "held"
    assert apart.purity > 0.6 > 0.45 > apart.baseline


def test_every_letter_is_here():
    letters = {name[5] for name in globals() if re.match(r"test_[a-z]_", name)}
    assert letters == set("abcdefghijklmnopqrstuvwxyz")


def finding(findings, name):
    return next(one for one in findings if one["check"] == name)


def backbone():
    return models.build(
        "mobilenet_v2",
        class_names=["brick", "leaf", "sea"],
        image_side=32,
        weights="none",
        alpha=0.35,
    )


def said(truth, predicted, *, num_classes=0) -> Predictions:
    """A table of test images with the given truth and prediction."""
    names = [
        f"c{index}" for index in range(num_classes or int(max(truth.max(), predicted.max())) + 1)
    ]
    names = names if len(names) > 1 else ["c0", "c1"]
    frame = predictions.table(
        [f"{index:04}.png" for index in range(len(truth))],
        splits=["test"] * len(truth),
        groups=range(len(truth)),
        labels=[names[index] for index in truth],
        probabilities=np.eye(len(names))[predicted],
        class_names=names,
    )
    return Predictions(frame, tuple(names))


def table_of(split) -> Predictions:
    """A faultless table of a split's images."""
    frame, names = split.frame, split.class_names
    exact = np.eye(len(names))[[names.index(label) for label in frame["label"]]]
    table = predictions.table(
        frame["path"],
        splits=frame["split"],
        labels=frame["label"],
        groups=frame["group"],
        probabilities=exact,
        class_names=names,
    )
    return Predictions(table, tuple(names))
