import json

import numpy as np
import pytest

from lib import notebooks, runs
from lib.batch import study as studies
from lib.errors import DarkroomError
from lib.training.settings import Settings
from lib.tuning import config, cost_estimate, plots, results, search, space, trials
from lib.tuning.search import Plan


def values(**changes):
    return {**notebooks.find("4_tune").defaults(), "base": {}, "data": "d", **changes}


def planned(table, **changes):
    return config.make_plan(values(space=table, **changes)).space


def test_the_notebook_searches_by_its_defaults():
    config.check(notebooks.find("4_tune").defaults())


def test_keys_get_the_types_and_conditions_of_the_training_they_are_of():
    found = planned(
        {
            "momentum": {"low": 0, "high": 0.9},
            "optimizer": ["adam", "sgd"],
            "filters": [[8], [16, 16]],
            "focal_gamma": [1, 2],
            "loss": ["focal", "cross_entropy"],
            "weight_decay": {"low": 0.0, "high": 0.1},
        }
    )
    assert found["momentum"].kind == "float" and found["momentum"].when == {"optimizer": ("sgd",)}
    assert found["focal_gamma"].choices == (1.0, 2.0) and found["focal_gamma"].when == {
        "loss": ("focal",)
    }
    assert found["weight_decay"].when == {
        "optimizer": ("sgd",)
    }  # of adamw and sgd only sgd is searched
    assert found["filters"].when == {}  # the architecture is not searched, and is the custom one
    assert (
        planned({"weight_decay": [0.1, 0.2], "optimizer": ["sgd", "adamw"]})["weight_decay"].when
        == {}
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [("elpv", "elpv"), ("/some/my pictures", "my_pictures"), ("../cats.tar.gz", "cats")],
)
def test_trials_know_a_folder_by_the_name_that_it_was_brought_in_under(data, name):
    assert config.make_plan(values(data=data)).settings["base"]["data"] == name


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        ({"optimizer": 7}, {"base": {"momentum": 0.5}}, "momentum"),  # found by a fuzzer
        (
            {"learning_rat": [0.1, 0.2]},
            {},
            "has no parameter `learning_rat`. Did you mean 'learning_rate'",
        ),
        ({"learning_rate": [0.1, 20.0]}, {}, "`learning_rate` must be above 0, at most 10"),
        ({"batch_size": {"low": 0, "high": 8}}, {}, "`batch_size` must be 1 to 4096"),
        ({"optimizer": ["adam", "rmsprop"]}, {}, "`optimizer` must be one of adam, adamw, sgd"),
        (
            {"momentum": [0.8, 0.9]},
            {},
            "`momentum` of 4_tune would have no effect: it is active only with optimizer = 'sgd'",
        ),
        (
            {"momentum": [0.8, 0.9], "optimizer": ["adam", "adamw"]},
            {},
            "`momentum` of 4_tune would have no effect",
        ),
        (
            {"kernel_size": [3, 5]},
            {"base": {"architecture": "mobilenet"}},
            "`kernel_size` of 4_tune would have no effect",
        ),
        ({"epochs": [5, 10]}, {}, "`epochs` of 4_tune cannot be searched: the method decides"),
        ({"seed": [1, 2]}, {}, "`seed` of 4_tune cannot be searched: the suite sets it"),
        ({"split_seed": [1, 2]}, {}, "trials on different images cannot be compared"),
        (
            {"kernel_size": [3, 5]},
            {"base": {"epochs": 3}},
            "`base` of 4_tune must not set `epochs`",
        ),
        (
            {"kernel_size": [3, 5]},
            {"base": {"momentum": 0.5}},
            "`momentum` acts only with optimizer = 'sgd'",
        ),
        (
            {"kernel_size": [3, 5]},
            {"goals": ["accuracy"]},
            "`goals` of 4_tune must be among val_accuracy, val_loss",
        ),
        ({"kernel_size": [3, 5, 7]}, {}, "has 3 combinations, and Hyperband with 9 epochs"),
        (
            {"kernel_size": [3, 5, 7]},
            {"method": "tpe", "retrain_seeds": [0]},
            "none of them the search",
        ),
    ],
)
def test_what_would_be_no_search_is_refused_before_anything_runs(table, changes, message):
    with pytest.raises(DarkroomError, match=message):
        config.check(values(space=table, **changes))


def test_a_trial_has_the_defaults_of_what_cannot_act_in_it():
    shared = config.base_parameters(
        values(space={"optimizer": ["adam", "sgd"]}, base={"momentum": 0.5})
    )
    assert config.trial_parameters(shared, {"optimizer": "sgd"})["momentum"] == 0.5
    assert config.trial_parameters(shared, {"optimizer": "adam"})["momentum"] == 0.9


def test_batch_refuses_a_space_that_changes_nothing_and_names_the_arm(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        '[[stage]]\nname = "tune"\nnotebook = "4_tune"\n[stage.arms.one]\nspace = {momentum = [0.8, 0.9]}\nmethod = "grid"\n'
    )
    with pytest.raises(
        DarkroomError,
        match="arm 'one' of stage 'tune' of study.toml: `momentum` of 4_tune would have",
    ):
        studies.read(str(path))


@pytest.mark.parametrize("name", ["triage_search", "cars_search"])
def test_the_studies_that_search_are_read_and_every_key_acts(name):
    study = studies.read(name)
    for unit in study.stage("tune").runs:
        config.check(unit.parameters)
        wanted, rng = config.make_plan(unit.parameters), np.random.default_rng(0)
        for _ in range(50):  # no trial is refused by its training
            Settings.of(
                {
                    **config.trial_parameters(wanted.settings["base"], wanted.space.sample(rng)),
                    "epochs": wanted.epochs,
                }
            )


def test_the_cars_source_is_searched_whole():
    """The list of the journal, day 1 and 2, word for word but for what PyTorch calls otherwise."""
    [unit, *_] = studies.read("cars_search").stage("tune").runs
    found = config.make_plan(unit.parameters).space
    wanted = {
        "batch_size": (16, 32, 64, 128),
        "learning_rate": (0.0001, 0.001),
        "optimizer": ("adam", "sgd"),
        "schedule": ("step", "plateau"),
        "class_weights": ("none", "balanced"),
        "normalization": ("none", "imagenet", "zscore"),
        "image_side": (224, 256, 512, 672),
        "loss": ("cross_entropy", "one_vs_rest", "focal"),
    }
    assert {name: found[name].choices for name in wanted} == wanted
    assert set(found["augmentation"].choices) >= {
        "none",
        "flip",
        "flip_vertical",
        "rotate",
        "auto_augment",
    }
    assert found["normalization"].when == {
        "architecture": ("custom",)
    }  # a backbone's weights fit one alone


LINE = space.read({"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"]})


def plan(method, **changes):
    return Plan(LINE, method, "objectives:parabola", {"score": "max"}, **changes)


def test_the_forecast_counts_trials_epochs_and_minutes():
    # 9 epochs, factor 3: 9 × 1 + 3 × 2 + 1 × 6, 5 × 3 + 2 × 6 (width 3, so ceil(3/2 · 3) = 5), 3 ×
    # 9.
    cost = cost_estimate.cost(plan("hyperband", epochs=9))
    assert (cost.trials, cost.epochs) == (9 + 3 + 1 + 5 + 2 + 3, 9 + 6 + 6 + 15 + 12 + 27)
    assert (
        cost_estimate.cost(plan("halving", epochs=9)).trials,
        cost_estimate.cost(plan("halving", epochs=9)).epochs,
    ) == (13, 9 + 6 + 6)
    assert cost_estimate.cost(plan("tpe", epochs=4, num_trials=5)).epochs == 20
    assert cost_estimate.cost(plan("grid", epochs=2, options={"points": 3})).trials == 6
    measured = cost_estimate.TrialTime(startup_s=2.0, epoch_s=4.0)
    assert cost_estimate.minutes(
        plan("tpe", epochs=4, num_trials=6), measured, slots=2
    ) == pytest.approx(6 * (2 + 16) / 60 / 2)
    told = cost_estimate.sentence(
        plan("tpe", epochs=4, num_trials=6), measured, slots=2, budget_minutes=0.5
    )
    assert (
        "at most 6 trials, at most 24 epochs, 2 in parallel" in told
        and "not enough" in told
        and "56 %" in told
    )


@pytest.mark.parametrize("method", ["random", "hyperband"])
def test_what_a_search_proposes_is_what_was_forecast(method):
    wanted = plan(method, epochs=9, num_trials=7)
    found, cost = search.run(wanted), cost_estimate.cost(wanted)
    assert len(found.trials) == cost.trials
    done = [
        trial.epochs - (found.trials[trial.parent].epochs if trial.parent is not None else 0)
        for trial in found.trials
    ]
    assert sum(done) == cost.epochs


def test_figures_say_in_words_what_they_show():
    found = search.run(plan("random", num_trials=30, epochs=2))
    best = found.best
    assert f"of trial {best.number}" in plots.history(found).alt
    assert f"x {best.values['x']:.3g}" in plots.parallel(found).alt
    table = plots.importance(found)
    assert (
        table["hyperparameter"][0] == "x"
        and table["importance"].sum() == pytest.approx(1)
        and table["importance"][0] > 0.8
    )
    assert plots.importance_bars(found).alt.startswith("Importance of the hyperparameters: x ")
    assert (
        "too few to estimate importance"
        in plots.importance_bars(search.run(plan("random", num_trials=5))).alt
    )


def test_a_search_leaves_its_table_and_says_what_limits_it(tmp_path):
    found = search.run(
        Plan(space.read({"x": [0.5, 0.6, 0.7]}), "grid", "objectives:parabola", {"score": "max"}, 2)
    )
    lines = results.write_tables(found, tmp_path).read_text().splitlines()
    assert len(lines) == 1 + 3 * 2 and lines[0].startswith(
        "trial,x,epochs,parent,state,score,seconds,failure,epoch"
    )
    assert results.warnings(found) == [
        "The best x, 0.5, is at the lowest end of its range: try lower values."
    ]
    without = search.run(
        Plan(space.read({"x": [0.0, 0.6, 0.9]}), "grid", "objectives:parabola", {"score": "max"}, 2)
    )
    without.best.values["x"] = 0.0  # as of dropout: less than none cannot be tried
    assert results.warnings(without) == []
    assert trials.space_table(LINE).to_dict("index")["x"] == {
        "values": "0 to 1",
        "active when": "always",
    }


def test_the_lines_of_a_search_name_a_trial_as_the_table_does(tmp_path, capsys):
    run = runs.Run(tmp_path, tmp_path, {}, {}, "tune", None, False, None)
    wanted = Plan(
        space.read({"x": [0.25, 0.75], "y": {"low": 0.1, "high": 0.9, "when": {"x": [0.75]}}}),
        "grid",
        "objectives:parabola",
        {"score": "max"},
        2,
        options={"points": 2},
    )
    found = search.run(wanted, on_trial_end=results.print_trials(run, wanted, expected=3))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "  1 of 3: trial 0",
        "  2 of 3: trial 1",
        "  3 of 3: trial 2",
    ]
    assert ", the best so far: x 0." in lines[0] and all(
        " after 2 epochs" in line for line in lines
    )
    alone = next(trial.number for trial in found.trials if trial.values["x"] == 0.25)
    assert lines[alone].endswith(": x 0.25")
    table = trials.display_table(found.trials)
    assert (
        list(table.columns)[:4] == ["x", "y", "epochs", "state"]
        and "failure" not in table
        and "parent" not in table
    )
    assert table.loc[alone, "y"] == "" and table.loc[alone, "x"] == "0.25"
    tell = results.print_retraining(run)
    again = trials.Trial(
        0,
        {"candidate": "tuned-1", "seed": 3},
        4,
        state="finished",
        scores={"accuracy": 0.68},
        seconds=5.2,
    )
    tell([again], again)
    assert capsys.readouterr().out == "tuned-1, seed 3: validation accuracy 0.6800, 5 s\n"


def test_kerastuner_reads_what_is_exported(tmp_path):
    import warnings

    found = search.run(plan("hyperband", epochs=3))
    results.write_tables(found, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import keras_tuner

        oracle = keras_tuner.oracles.HyperbandOracle(
            keras_tuner.Objective("score", "max"), max_epochs=3
        )
        oracle._set_project_dir(str(tmp_path), "keras_tuner")
        oracle.reload()
    best = oracle.get_best_trials(1)[0]
    assert best.score == pytest.approx(found.best.scores["score"])
    assert best.hyperparameters.values["x"] == found.best.values["x"]
    assert len(oracle.trials) == len(found.trials) and oracle.end_order == [
        f"{trial.number:04d}" for trial in found.trials
    ]
    assert json.loads((tmp_path / "keras_tuner" / "tuner0.json").read_text()) == {}


def test_a_search_of_a_value_that_is_never_read_is_stopped_at_its_second_trial(tmp_path):
    run = runs.Run(tmp_path, tmp_path, {}, {}, "tune", None, False, None)
    wanted = Plan(
        space.read({"units": [16, 32, 64], "x": [0.1, 0.2]}),
        "grid",
        "objectives:idle",
        {"score": "max"},
    )
    told = []
    with pytest.raises(DarkroomError, match="Two trials differ in units and made the same model"):
        search.run(
            wanted,
            on_trial_end=lambda *seen: (
                told.append(seen) or results.print_trials(run, wanted, expected=6)(*seen)
            ),
        )
    assert len(told) <= 4  # of six: x is read, so two trials may differ by right
