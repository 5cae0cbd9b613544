"""The search of networks: promoted trials continue exactly, winners are judged, a folder becomes a
verdict.
"""

import json
import os
import subprocess
import sys
import tomllib

import numpy as np
import pandas
import pytest

from lib import notebooks
from lib.evaluation import predictions
from lib.tuning import objective, retraining
from lib.tuning.retraining import UNTUNED, Candidate
from lib.tuning.worker import TrialContext
from tools import synthetic


@pytest.fixture
def context(toy_material, monkeypatch):
    monkeypatch.setattr(objective, "training_data", lambda parameters: toy_material)
    base = {
        **notebooks.find("3_train").defaults(),
        "data": "toy",
        "image_side": 32,
        "filters": [4],
        "preset": "triage",
    }
    base |= {"schedule": "cosine", "summary": "average", "dropout": 0.3, "augmentation": "gentle"}
    return {"base": base, "epochs": 4, "seed": 3, "monitor": "val_accuracy"}


def run_trial(tmp_path, context, name, epochs, start=0):
    rows = []
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    trial = TrialContext(
        0,
        epochs,
        start,
        context,
        folder,
        tmp_path / f"{name}-checkpoints",
        on_epoch=lambda row: bool(rows.append(row)),
    )
    return objective.objective({"learning_rate": 0.01}, trial), rows


def test_a_promoted_trial_continues_with_its_optimiser_and_its_schedule(tmp_path, context):
    straight, whole = run_trial(tmp_path, context, "straight", 4)
    run_trial(tmp_path, context, "halted", 2)
    promoted, rows = run_trial(tmp_path, context, "halted", 4, start=2)
    assert (
        run_trial(tmp_path, {**context, "base": {**context["base"], "filters": [3]}}, "other", 1)[
            0
        ]["made"]
        != straight["made"]
    )
    assert promoted == straight
    timed, later = (
        [{**row, "seconds": 0} for row in given if row["epoch"] > 2] for given in (whole, rows)
    )
    assert later == timed and len(later) == 2
    assert straight["val_accuracy"] == max(row["val_accuracy"] for row in whole)


def test_tensorboard_shows_a_search_s_goal_before_all_else(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trial = TrialContext(0, 4, 0, {}, tmp_path, goals=("val_loss", "seconds"))
    objective._log_hparams(trial, {"dropout": 0.2}, {"accuracy": 0.9, "val_loss": 0.4, "epochs": 4})
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert sorted(tags) == ["goal/val_loss", "trial/accuracy", "trial/epochs"]


def scored(right, split, seed):
    """A hundred images of which `right` are named rightly, others each seed, and ten of train."""
    rng = np.random.default_rng([seed, right])
    truth = np.arange(100) % 2
    says = np.where(rng.permutation(100) < right, truth, 1 - truth)
    probabilities = np.eye(2)[np.r_[says, np.zeros(10, int)]] * 0.98 + 0.01
    return predictions.Predictions(
        predictions.table(
            [f"{number:03}" for number in range(110)],
            splits=[split] * 100 + ["train"] * 10,
            labels=["ab"[each] for each in truth] + ["a"] * 10,
            groups=range(110),
            probabilities=probabilities,
            class_names=("a", "b"),
        ),
        ("a", "b"),
    )


def judged(**right):
    names = {"tuned_1": "tuned-1", "tuned_2": "tuned-2", "untuned": UNTUNED}
    tables = {
        split: {
            names[name]: {seed: scored(count, split, seed) for seed in range(5)}
            for name, count in right.items()
        }
        for split in ("val", "test")
    }
    chosen = [
        Candidate(name, {"x": place}, None if name == UNTUNED else 0.99)
        for place, name in enumerate(tables["val"])
    ]
    return retraining.judge(chosen, tables["val"], tables["test"])


def test_a_winner_is_named_where_it_is_shown_and_helped():
    verdict = judged(tuned_1=95, tuned_2=75, untuned=70)
    assert verdict.is_significant and verdict.winner.name == "tuned-1"
    assert verdict.text.startswith(
        "The winner is tuned-1: significantly better than tuned-2 and untuned"
    )
    assert verdict.text.endswith("The improvement by tuning is significant.")
    shown = verdict.table
    assert shown["tuned-1"].tolist()[:3] == ["0.99", "5", "95.0 ± 0.0 %"] and shown.loc[
        "x"
    ].tolist()[:2] == ["0", "1"]
    assert shown.loc["search score", "untuned"] == "" and shown.loc[
        "test accuracy (95 %)", "untuned"
    ].startswith("70.0 % (")


def test_no_winner_is_named_where_no_difference_is_shown():
    verdict = judged(tuned_1=81, tuned_2=80, untuned=79)
    assert not verdict.is_significant and verdict.winner.name == "tuned-1"
    assert verdict.text.startswith(
        "tuned-1 has the best mean validation accuracy, but is not significantly better than "
    )
    assert verdict.text.endswith("The improvement by tuning is not significant.")
    assert judged(tuned_1=70, untuned=90).text.endswith(
        "Tuning found nothing better than the untuned parameters."
    )


def test_models_of_several_labels_are_judged_by_macro_f1():
    """Forty images, every second with label b as well; the better model misses ten of both."""

    def several(missed, split, seed):
        present = np.stack([np.ones(40, bool), np.arange(40) % 2 == 0], axis=1)
        predicted = present.copy()
        predicted[np.random.default_rng([seed, missed]).permutation(40)[:missed]] = False
        frame = predictions.table(
            [f"{number:02}" for number in range(40)],
            splits=[split] * 40,
            labels=[["a", "b"] if both else ["a"] for both in present[:, 1]],
            groups=range(40),
            probabilities=predicted * 0.8 + 0.1,
            class_names=("a", "b"),
        )
        return predictions.Predictions(frame, ("a", "b"), kind="multilabel")

    tables = {
        split: {
            name: {seed: several(missed, split, seed) for seed in range(3)}
            for name, missed in {"tuned-1": 10, UNTUNED: 20}.items()
        }
        for split in ("val", "test")
    }
    chosen = [Candidate("tuned-1", {"x": 1}, 0.5), Candidate(UNTUNED, {}, None)]
    verdict = retraining.judge(chosen, tables["val"], tables["test"], metric="macro_f1")
    assert verdict.winner.name == "tuned-1" and verdict.val["tuned-1"].value > 0.8
    assert verdict.table.loc["test macro F1 (95 %)", UNTUNED].startswith("6")


STUDY = """
[shared]
data = "{data}"
[[stage]]
name = "clean"
notebook = "1_clean"
[[stage]]
name = "tune"
notebook = "4_tune"
after = ["clean"]
[stage.arms.small]
method = "random"
num_trials = 2
at_once = 1
space = {{learning_rate = [0.001, 0.01], batch_size = [8, 16, 32]}}
base = {{preset = "triage", filters = [4], summary = "average"}}
"""


def test_a_study_tunes_from_a_folder_to_a_verdict_and_repeats_nothing(tmp_path):
    import cv2

    for kind in ("photo", "text"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(20):
            drawn = cv2.cvtColor(synthetic.picture(kind, seed=number), cv2.COLOR_RGB2BGR)
            (tmp_path / "pictures" / kind / f"{number:02}.png").write_bytes(
                cv2.imencode(".png", drawn)[1].tobytes()
            )
    (tmp_path / "search.toml").write_text(STUDY.format(data=tmp_path / "pictures"))
    words = [sys.executable, "-m", "lib.cli", "run", str(tmp_path / "search.toml"), "--tiny"]
    environment = {**os.environ, "DARKROOM_HOME": str(tmp_path)}
    first, second = (
        subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.returncode == 0 and "2 runs had finished before" in second.stdout
    folder = tmp_path / "logs" / "search+tiny" / "tune" / "small"
    result = json.loads((folder / "result.json").read_text())
    assert (
        result["metrics"]["trials"] == 2
        and result["states"]["finished"] == 2
        and result["complete"]
    )
    assert {"search_score", "retrained_val_accuracy", "test_accuracy"} <= set(result["metrics"])
    table = pandas.read_csv(folder / "trials.csv")
    assert sorted(table["epoch"]) == [1, 1, 2, 2] and set(table["learning_rate"]) <= {0.001, 0.01}
    arm = tomllib.loads((folder / "winner.toml").read_text())["stage"]["arms"]["tuned"]
    assert arm["filters"] == [4] and set(arm) <= set(notebooks.find("3_train").parameters)
    opened = (
        (tmp_path / "datasets" / "pictures+tiny" / "test_openings.jsonl").read_text().splitlines()
    )
    roles = [json.loads(line)["role"] for line in opened]
    # The search and candidates times seeds, tuned on and then tested.
    assert sorted(roles) == ["test"] * 4 + ["tuning"] * 5
    assert arm["tuned_on"] == json.loads(opened[0])["split"]
    assert len(list((folder / "figures").glob("*.png"))) == 3
    assert len(list((folder / "trials").glob("*/events.out.tfevents*"))) >= 2
