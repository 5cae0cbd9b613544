import json
from collections import Counter
from types import SimpleNamespace

from lib import files, runs
from lib.batch import plan
from lib.batch import study as studies


def finish(step):
    files.write_json(step.folder() / "key.json", step.key)
    files.write_json(step.folder() / "result.json", {"key": step.key})


def verdicts(study):
    return {step.run.id: (step.action, step.reason) for step in plan.whole(study)}


def test_stages_wait_for_those_before_them(batch_home):
    study = studies.read("one")
    found = verdicts(study)
    assert found["begin/all"] == ("run", "new")
    assert found["work/plain-s0"] == ("wait", "after begin") and found["gather/all"] == (
        "wait",
        "after work",
    )
    finish(plan.decide(study.stages[0])[0])
    assert verdicts(study)["begin/all"] == ("skip", "finished")
    assert verdicts(study)["work/plain-s0"] == ("run", "new")


def test_changed_runs_are_named_with_what_changed(batch_home):
    study = studies.read("one")
    for stage in study.stages[:2]:
        for step in plan.decide(stage):
            finish(step)
    other = studies.read("one", settings={"method": "fancy"})
    assert verdicts(other)["work/double-s1"] == ("run", "changed: method 'plain' → 'fancy'")
    notebook = batch_home / "notebooks" / "ok.ipynb"
    notebook.write_text(notebook.read_text().replace("seed * factor", "seed + factor"))
    again = verdicts(studies.read("one"))
    assert again["work/double-s1"] == ("run", "changed: the notebook")


def test_interrupted_and_failed_runs_run_again(batch_home):
    study = studies.read("one")
    step = plan.decide(study.stages[0])[0]
    files.write_json(step.folder() / "key.json", step.key)
    assert verdicts(study)["begin/all"] == ("run", "was interrupted")
    files.write_json(step.folder() / "failure.json", {"exception": "KeyError"})
    assert verdicts(study)["begin/all"] == ("run", "failed before: KeyError")
    finish(step)
    assert plan.whole(study, force=True)[0].reason == "forced"


def test_an_unreadable_result_is_not_finished_and_the_run_is_repeated(batch_home):
    study = studies.read("one")
    step = plan.decide(study.stages[0])[0]
    finish(step)
    (step.folder() / "result.json").write_text("{half")
    assert verdicts(study)["begin/all"] == ("run", "its result.json is damaged")


def test_older_code_is_noted_but_not_repeated(batch_home):
    study = studies.read("one")
    step = plan.decide(study.stages[0])[0]
    finish(step)
    result = files.read_json(step.folder() / "result.json")
    result["key"]["lib"] = "of last year"
    files.write_json(step.folder() / "result.json", result)
    assert verdicts(study)["begin/all"] == ("skip", plan.OLDER_CODE)


def test_keys_survive_json_so_that_a_finished_run_is_known_again(batch_home):
    study = studies.read("one")
    for stage in study.stages[:2]:
        for step in plan.decide(stage):
            assert (
                json.loads(json.dumps(step.key))
                == step.key
                == runs.key(stage.notebook, step.run.parameters, data=None)
            )


def test_ten_thousand_runs_are_planned(batch_home):
    path = batch_home / "studies" / "one.toml"
    path.write_text(path.read_text().replace("seeds = [0, 1]", f"seeds = {list(range(5000))}"))
    study = studies.read("one")
    finish(plan.decide(study.stages[0])[0])
    for step in plan.decide(study.stages[1])[:100]:
        finish(step)
    assert Counter(step.action for step in plan.whole(study)) == {
        "skip": 101,
        "run": 9900,
        "wait": 1,
    }


def test_every_notebook_with_data_is_keyed_by_it_as_its_run_will_be(batch_home, monkeypatch):
    monkeypatch.setattr(
        "lib.data.dataset.load",
        lambda name: SimpleNamespace(name=name, digest=lambda: f"digest of {name}"),
    )
    monkeypatch.setattr("lib.cleaning.clean.sync", lambda dataset: False)
    notebook = (
        batch_home / "notebooks" / "gather.ipynb"
    )  # it reads runs, and hands its data set to runs.start all the same
    declared = 'data: str = \\"digits\\"  # the data set\\ntiny: bool'
    notebook.write_text(notebook.read_text().replace("tiny: bool", declared))
    assert plan.decide(studies.read("one").stage("gather"))[0].key["data"] == "digest of digits"


def test_a_training_whose_epochs_are_its_strategys_is_estimated_by_them(batch_home):
    from lib import parameter_table
    from lib.batch.parameter_grid import RunSpec
    from lib.batch.plan import Durations

    def run(**values):
        whole = parameter_table.find("3_train").defaults() | values
        return RunSpec("train", "a-s0", "a", 0, whole)

    Durations().note(run(epochs=6), 30.0)
    assert Durations().expected(run(epochs=None)) == 60.0  # from scratch: 12 epochs
    assert Durations().expected(run(epochs=6)) == 30.0
    assert Durations().expected(run(image_side=32)) is None
