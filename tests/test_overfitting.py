from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from lib.evaluation import overfitting, run_records


def history(val_loss, phase="train"):
    epochs = range(1, len(val_loss) + 1)
    return pandas.DataFrame({"epoch": epochs, "loss": 0.1, "val_loss": val_loss, "phase": phase})


def test_a_training_that_turned_and_memorised():
    # lowest at epoch 2; the last three are 0.6, 0.7, 0.8, on average 0.7, which is 40 % above 0.5
    found = overfitting.diagnose(
        history([0.9, 0.5, 0.55, 0.6, 0.7, 0.8]), train_accuracy=0.99, val_accuracy=0.8
    )
    assert found == {
        "gap": pytest.approx(0.19),
        "turned_at": 2,
        "rise": pytest.approx(0.4),
        "epochs": 6,
    }
    told = overfitting.sentence(found)
    assert "19.0 points above" in told and "turned after epoch 2 and ended 40 % above" in told


def test_a_training_that_still_learns():
    found = overfitting.diagnose(history([0.9, 0.6, 0.5]), train_accuracy=0.81, val_accuracy=0.8)
    assert found == {
        "gap": pytest.approx(0.01),
        "turned_at": None,
        "rise": 0.0,
        "epochs": 3,
    }
    assert "had not turned" in overfitting.sentence(found)


def test_a_training_that_names_validation_images_better_says_so_without_a_sign():
    found = overfitting.diagnose(history([0.9, 0.6, 0.5]), train_accuracy=0.8, val_accuracy=0.83)
    assert overfitting.sentence(found).startswith(
        "Training accuracy is 3.0 points below validation accuracy;"
    )


def test_a_rise_within_the_noise_is_no_turn():
    assert (
        overfitting.diagnose(history([0.5, 0.51, 0.52]), train_accuracy=0.8, val_accuracy=0.8)[
            "turned_at"
        ]
        is None
    )


def test_of_two_phases_the_last_one_counts():
    both = pandas.concat(
        [history([0.5, 0.9, 0.9], "head"), history([0.4, 0.3], "train").assign(epoch=[4, 5])]
    )
    found = overfitting.diagnose(both, train_accuracy=0.95, val_accuracy=0.8)
    assert (found["turned_at"], found["epochs"]) == (None, 2)


def test_one_epoch_has_nowhere_to_turn():
    assert overfitting.diagnose(history([0.5]), train_accuracy=0.5, val_accuracy=0.5)["rise"] == 0


def test_the_table_of_arms_by_hand():
    def unit(gap, turned_at, rise, kept="tuned"):
        diagnosis = {"gap": gap, "turned_at": turned_at, "rise": rise}
        return SimpleNamespace(result={"overfitting": diagnosis, "selection": {"kept": kept}})

    arms = {
        "light": [unit(0.02, None, 0.0)],
        "plain": [unit(0.2, 4, 0.5), unit(0.1, 6, 0.3, "head")],
    }
    arms["pixels"] = [SimpleNamespace(result={})]
    compared = SimpleNamespace(arms=arms)
    found = overfitting.table(compared).set_index("arm")
    assert list(found.index) == ["light", "plain"]
    assert found.loc["plain"].tolist() == [15.0, "2 of 2", "5", "40 %"]
    assert found.loc["light", ["runs that turned", "turned at epoch"]].tolist() == [
        "0 of 1",
        "never",
    ]
    assert overfitting.sentences(compared) == [
        "light: training accuracy, without augmentation, is 2.0 points above validation accuracy.",
        "plain: training accuracy, without augmentation, is 15.0 points above validation accuracy, "
        "a sign of overfitting; the validation loss turned in 2 of 2 runs. 1 of 2 runs kept the "
        "head on frozen features, since fine-tuning did not lower the validation loss.",
    ]


def test_level_curves_that_jitter_are_no_overfitting():
    generator = np.random.default_rng(0)
    for num in (6, 12, 30):
        curves = 0.5 * (1 + 0.03 * generator.normal(size=(300, num)))
        turned = [
            overfitting.diagnose(history(list(curve)), train_accuracy=0.8, val_accuracy=0.8)[
                "turned_at"
            ]
            for curve in curves
        ]
        assert sum(epoch is not None for epoch in turned) <= 12  # 4 %


def test_curves_that_wander_or_have_outliers_are_no_overfitting():
    generator, num = np.random.default_rng(0), 25
    noise = generator.normal(size=(200, num + 1))
    wandering = 0.5 * (1 + 0.03 * (noise[:, 1:] + 0.4 * noise[:, :-1]))
    outliers = 0.5 * (1 + 0.02 * generator.standard_t(3, size=(200, num)))
    rising = 0.4 + np.exp(-np.arange(num)) + 0.02 * np.maximum(0, np.arange(num) - 8)
    found = {}
    for name, curves in (
        ("wandering", wandering),
        ("outliers", outliers),
        ("rising", rising[None]),
    ):
        turned = [
            overfitting.diagnose(history(list(curve)), train_accuracy=0.8, val_accuracy=0.8)
            for curve in curves
        ]
        found[name] = np.mean([one["turned_at"] is not None for one in turned])
    assert found["wandering"] <= 0.05 and found["outliers"] <= 0.05
    assert found["rising"] == 1


def test_fewer_than_three_epochs_after_the_minimum_say_nothing():
    found = overfitting.diagnose(
        history([0.9, 0.8, 0.7, 0.5, 0.9, 1.2]), train_accuracy=0.8, val_accuracy=0.8
    )
    assert found["turned_at"] is None


def test_candidates_of_a_linear_head_are_no_epochs():
    head = {"kind": "lda", "val_loss": 0.9, "phase": "head"}
    tuned = [{"val_loss": loss, "phase": "train"} for loss in (0.5, 0.4)]
    mean = {"val_loss": 0.3, "phase": "mean"}
    history = pandas.DataFrame([head, head, *tuned, mean]).assign(epoch=range(1, 6))
    assert run_records.epochs(history)["epoch"].tolist() == [1, 2]
    assert run_records.epochs(history)["val_loss"].tolist() == [0.5, 0.4]
    only = overfitting.diagnose(history.iloc[:2], train_accuracy=0.95, val_accuracy=0.9)
    assert (only["turned_at"], only["epochs"]) == (None, 0)
    assert overfitting.sentence(only) == (
        "Training accuracy is 5.0 points above validation accuracy."
    )
