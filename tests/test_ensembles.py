"""Ensembles: averages checked by hand, refusals, and their place in a comparison."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib import notebooks
from lib.batch import study
from lib.errors import DarkroomError
from lib.evaluation import comparison, run_records
from lib.evaluation.predictions import Predictions, table
from lib.evaluation.run_records import RunRecord


def record(arm, seed, of_cat, *, paths="abcd", labels="cdcd", seconds=10.0):
    names = {"c": "cat", "d": "dog"}
    frame = table(
        list(paths),
        splits=["test"] * len(paths),
        labels=[names[letter] for letter in labels],
        groups=range(len(paths)),
        probabilities=np.stack([of_cat, 1 - np.array(of_cat)], axis=1),
        class_names=["cat", "dog"],
    )
    predictions = Predictions(frame, ("cat", "dog"), data_hash=f"{paths}")
    folder = Path("logs/study/train") / f"{arm}-s{seed}"
    result = {"seconds": seconds, "num_parameters": 5}
    return RunRecord(folder, arm, seed, predictions, result)


def test_the_average_of_two_arms_is_made_for_each_seed():
    runs = [
        record("one", 0, [0.9, 0.6, 0.4, 0.1]),
        record("other", 0, [0.3, 0.2, 0.8, 0.2]),
        record("one", 1, [0.5, 0.5, 0.5, 0.5], paths="efgh"),
    ]
    (found,) = run_records.averaged(runs, {"both": ["one", "other"]})
    assert found.predictions.probabilities[:, 0] == pytest.approx([0.6, 0.4, 0.6, 0.15])
    assert (found.arm, found.seed, found.is_ensemble) == ("both", 0, True)
    assert found.result["seconds"] == 20.0 and found.result["num_parameters"] == 10
    assert found.predictions.predicted.tolist() == [0, 1, 0, 1]


def test_the_seeds_of_one_arm_are_averaged_where_they_share_a_split():
    runs = [record("one", seed, [0.1 * seed] * 4) for seed in range(3)]
    (found,) = run_records.averaged(runs, {"seeds": ["one"]})
    assert found.predictions.probabilities[:, 0] == pytest.approx([0.1] * 4)


def test_what_cannot_be_averaged_is_refused():
    one = record("one", 0, [0.5] * 4)
    with pytest.raises(
        DarkroomError, match="ensemble 'x': `arm` must be.*'onne'. Did you mean 'one'"
    ):
        run_records.averaged([one], {"x": ["onne"]})
    with pytest.raises(DarkroomError, match="'one' is an arm; give the ensemble another name"):
        run_records.averaged([one], {"one": ["one"]})
    with pytest.raises(DarkroomError, match="one has one training a split"):
        run_records.averaged([one], {"x": ["one"]})
    with pytest.raises(DarkroomError, match="one, other have no seed in common"):
        run_records.averaged([one, record("other", 1, [0.5] * 4)], {"x": ["one", "other"]})
    for changed in ({"paths": "abce"}, {"labels": "cdcc"}):
        other = record("other", 0, [0.5] * 4, **changed)
        with pytest.raises(DarkroomError, match="their images, labels or classes differ"):
            run_records.averaged([one, other], {"x": ["one", "other"]})


def test_an_ensemble_is_a_row_with_a_verdict(monkeypatch):
    generator = np.random.default_rng(0)
    paths = [f"{place:03d}" for place in range(200)]
    labels = ["cd"[place % 2] for place in range(200)]
    truth = np.array([letter == "c" for letter in labels])
    runs = {}
    for arm in ("one", "other"):
        for seed in range(3):
            shares = np.clip(np.where(truth, 0.65, 0.35) + generator.normal(0, 0.3, 200), 0, 1)
            run = record(arm, seed, shares, paths=paths, labels=labels)
            runs[run.folder] = run
    monkeypatch.setattr(run_records, "read", runs.get)
    found = comparison.comparison(list(runs), ensembles={"both": ["one", "other"]})
    plain = comparison.comparison(list(runs))
    table = found.table.set_index("arm")
    assert table.loc["both", "accuracy"] > table.loc[["one", "other"], "accuracy"].max()
    assert table.loc["both", "seconds"] == 20.0
    assert any(verdict.startswith("both is better than one") for verdict in found.verdicts)
    # The ensemble adds no degrees of freedom to the comparison of its arms.
    pair = next(one for one in found.pairs if {one.first, one.second} == {"one", "other"})
    assert pair.difference.uncertainty == plain.pairs[0].difference.uncertainty


def test_ensembles_are_lists_of_arms():
    rows = notebooks.of_schema("6_compare")
    with pytest.raises(DarkroomError, match="gives each name a list of arms"):
        rows.complete({"ensembles": {"both": "one"}})


def test_an_ensemble_of_a_study_names_arms_of_its_stages():
    trained = SimpleNamespace(arm="a", parameters={})
    values = {"stages": ["train"], "ensembles": {"both": ["a", "b"]}}
    compared = SimpleNamespace(arm=None, parameters=values)
    stages = [
        SimpleNamespace(name="train", runs=[trained]),
        SimpleNamespace(name="compare", runs=[compared]),
    ]
    with pytest.raises(
        DarkroomError, match="s.toml: .ensemble 'both'. must be one of a\\. Received: 'b'"
    ):
        study._check_compared_arms(stages, "s.toml")
    values["ensembles"] = {"both": ["a"]}
    study._check_compared_arms(stages, "s.toml")
