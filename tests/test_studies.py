import functools

import pytest

from lib.batch import status
from lib.batch import study as studies
from lib.errors import DarkroomError


def change(home, old, new):
    path = home / "studies" / "one.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_arms_times_seeds_with_every_parameter_filled_in(batch_home):
    study = studies.read("one")
    assert [unit.id for unit in study.runs()] == [
        "begin/all",
        "work/plain-s0",
        "work/double-s0",
        "work/plain-s1",
        "work/double-s1",
        "gather/all",
    ]
    assert study.stage("work").runs[3].parameters == {
        "study": "one",
        "tiny": False,
        "arm": "double",
        "seed": 1,
        "split_seed": 1,
        "seconds": 0.0,
        "factor": 2.0,
        "method": "plain",
    }
    assert study.upstream("gather") == ["begin", "work"]
    assert study.published == {"someone": {"score": 1.5}}


def test_tiny_is_a_study_of_its_own(batch_home):
    study = studies.read("one", tiny=True)
    assert study.folder == "one+tiny"
    assert [unit.name for unit in study.stage("work").runs] == ["plain-s7", "double-s7"]
    assert study.stage("work").runs[0].parameters["tiny"] is True
    assert study.stage("work").runs[0].parameters["seconds"] == 0.001


def test_settings_win_over_everything_and_are_typed(batch_home):
    units = studies.read("one", settings={"method": "fancy", "seconds": "1"}).stage("work").runs
    assert {(unit.parameters["method"], unit.parameters["seconds"]) for unit in units} == {
        ("fancy", 1.0)
    }
    with pytest.raises(DarkroomError, match="parameter `metod`. Did you mean 'method'"):
        studies.read("one", settings={"metod": "fancy"})
    with pytest.raises(DarkroomError, match="--set must not set `seed`"):
        studies.read("one", settings={"seed": "3"})
    with pytest.raises(
        DarkroomError,
        match="'double'.*same as the arm 'plain'. --set or .tiny. overrules its factor",
    ):
        studies.read("one", settings={"factor": "3"})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("factor = 2", "factr = 2", r"arm 'double'.*no parameter `factr`. Did you mean 'factor'"),
        ("factor = 2", "factor = 200", r"`factor` must be above 0, at most 100. Received: 200"),
        ("factor = 2", "factor = 1", r"arm 'double' .* is the same as the arm 'plain'"),
        ("factor = 2", "seed = 2", r"must not set `seed`"),
        ("arms.double", "arms.'a b'", r"name of a unit"),
        (
            "seconds = 0.0",
            "second = 0.0",
            r"\[shared\] of one.toml sets `second`.*Did you mean 'seconds'",
        ),
        ("seeds = [0, 1]", "seeds = [0, 0]", r"different integers"),
        ("seeds = [0, 1]", "seads = [0, 1]", r"does not know `seads`. Did you mean 'seeds'"),
        ("seeds = [0, 1]", "memory_gb = -1", r"`memory_gb` .* must be above 0"),
        (
            '["split_seed"]',
            '["split_sed"]',
            r"`seed_sets` must be one of .*Did you mean 'split_seed'",
        ),
        (
            'after = ["begin"]',
            'after = ["gather"]',
            r"`after` must be one of .*Received: 'gather'",
        ),
        ('notebook = "ok"', 'notebook = "okk"', r"no notebook 'okk'"),
        ('name = "work"', 'name = "train"', r"must be named 'work'"),
        ("[stage.arms.plain]\n[stage.arms.double]\nfactor = 2", "", r"needs arms"),
        ('question = "Does', "question = Does", r"not TOML.*line 2"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(batch_home, old, new, told):
    change(batch_home, old, new)
    with pytest.raises(DarkroomError, match=told):
        studies.read("one")


def test_another_data_set_has_a_folder_of_its_own(batch_home):
    notebook = batch_home / "notebooks" / "begin.ipynb"
    notebook.write_text(
        notebook.read_text().replace(
            "tiny: bool", 'data: str = \\"\\"  # the data set\\ntiny: bool'
        )
    )
    change(batch_home, "[shared]", '[shared]\ndata = "elpv"')
    assert studies.read("one", settings={"data": "elpv"}).folder == "one"
    assert studies.read("one", settings={"data": "flowers"}).folder == "one@flowers"
    assert (
        studies.read("one", settings={"data": "flowers"}).runs()[0].parameters["data"] == "flowers"
    )


def test_missing_study_is_named(batch_home):
    with pytest.raises(DarkroomError, match="no study 'on'. Did you mean 'one'"):
        studies.read("on")


def test_ten_thousand_runs_are_read(batch_home):
    change(batch_home, "seeds = [0, 1]", f"seeds = {list(range(5000))}")
    assert len(studies.read("one").runs()) == 10_002


def test_an_arm_that_does_not_run_may_equal_another_or_be_impossible(batch_home):
    read = functools.partial(studies.read, "one", arms=["double"])
    assert {run.arm for run in read(settings={"factor": "3"}).runs()} == {"double", None}
    with pytest.raises(DarkroomError, match="same as the arm 'plain'"):
        studies.read("one", settings={"factor": "3"}, arms=["double", "plain"])


def test_arms_that_are_left_out_keep_their_titles(batch_home):
    change(batch_home, "[stage.arms.double]", '[stage.arms.double]\ntitle = "Twice"')
    for arms in ([], ["plain"]):
        studies.write(studies.read("one", arms=arms), command="")
    assert status.read("one")["titles"]["double"] == "Twice"


def test_a_study_is_narrowed_to_some_of_its_arms(batch_home):
    narrowed = studies.read("one").narrowed(["double"])
    assert [unit.id for unit in narrowed.runs()] == [
        "begin/all",
        "work/double-s0",
        "work/double-s1",
        "gather/all",
    ]
    assert studies.read("one").narrowed([]) == studies.read("one")
    with pytest.raises(
        DarkroomError, match="`arm` must be one of plain, double. Received: 'dubble'"
    ):
        studies.read("one").narrowed(["dubble"])


def test_a_stage_whose_arms_are_not_named_is_left_out_unless_a_named_arm_needs_it(batch_home):
    notebook = batch_home / "notebooks" / "late.ipynb"
    notebook.write_text(notebook.read_text().replace('"stage": "work"', '"stage": "late"'))
    more = '[[stage]]\nname = "late"\nnotebook = "late"\nafter = ["work"]\n[stage.arms.calm]\n'
    change(batch_home, "[tiny]", f"{more}[tiny]")
    study = studies.read("one")
    assert [stage.name for stage in study.narrowed(["plain"]).stages] == ["begin", "work", "gather"]
    assert study.narrowed(["plain"]).left_out == {"late": ("calm",)}
    with pytest.raises(DarkroomError, match="--arm names none of the arms .* It has calm"):
        study.narrowed(["plain"]).stage("late")
    narrowed = study.narrowed(["calm"])
    assert [stage.name for stage in narrowed.stages] == ["begin", "work", "gather", "late"]
    assert len(narrowed.stage("work").runs) == 4


@pytest.mark.parametrize("name", studies.names())
def test_the_studies_of_the_suite_are_as_they_must_be(name):
    study = studies.read(name)
    assert f"darkroom run {name}" in study.path.read_text(encoding="utf-8").split("question =")[0]
    assert study.question.endswith("?")
    assert study.budget_minutes
    assert len(studies.read(name, tiny=True).runs()) <= len(study.runs())


def test_published_figures_of_another_data_set_are_left_out(tmp_path):
    assert list(studies.read("quickstart").published) == ["svm", "vgg19_fine_tuned"]
    assert studies.read("quickstart", settings={"data": "wikiart"}).published == {}
    assert len(studies.read("simpsons", settings={"data": str(tmp_path)}).published) == 3


def test_a_study_may_compare_its_arms_in_several_ways():
    compared = studies.read("simpsons").stage("compare").runs
    assert [unit.id for unit in compared] == [
        "compare/grouped_split",
        "compare/random_split",
        "compare/separate_folder",
    ]
    assert compared[2].parameters["only"] == ["lite0_folder", "custom_folder"]


def test_a_combination_says_so_and_is_made_of_single_changes(batch_home):
    more = "[stage.arms.fancy]\nmethod = 'fancy'\n[stage.arms.both]\nfactor = 2\nmethod = 'fancy'\n"
    change(
        batch_home, "[stage.arms.double]\nfactor = 2\n", f"[stage.arms.double]\nfactor = 2\n{more}"
    )
    change(batch_home, 'after = ["begin"]', 'after = ["begin"]\nablation_of = "plain"')
    with pytest.raises(
        DarkroomError,
        match="'both'.*changes .*in an ablation an arm changes one thing.*`combinations`",
    ):
        studies.read("one")
    change(batch_home, 'ablation_of = "plain"', 'ablation_of = "plain"\ncombinations = ["both"]')
    assert [unit.arm for unit in studies.read("one").stage("work").runs[:4]] == [
        "plain",
        "double",
        "fancy",
        "both",
    ]
    change(batch_home, '["both"]', '["both"]\nother_arms = ["other"]')
    with pytest.raises(DarkroomError, match="`other_arms` must be one of .* Received: 'other'"):
        studies.read("one")
    change(
        batch_home,
        "[stage.arms.both]",
        "[stage.arms.other]\nfactor = 7\nmethod = 'fancy'\n[stage.arms.both]",
    )
    assert len(studies.read("one").stage("work").runs) == 10  # 'other' may change two things
    change(batch_home, "factor = 2\nmethod", "factor = 3\nmethod")
    with pytest.raises(
        DarkroomError,
        match="'both'.*declared a combination and changes factor as no single arm does",
    ):
        studies.read("one")


def test_the_ablations_of_the_triage_source_change_one_thing_each():
    arms = {
        unit.arm: unit.parameters
        for unit in studies.read("ablations").stage("train").runs
        if unit.seed == 0
    }
    changed = {
        arm: {name for name, value in values.items() if value != arms["base"][name]} - {"arm"}
        for arm, values in arms.items()
    }
    assert changed == {
        "base": set(),
        "augmentation": {"augmentation"},
        "dropout": {"preset"},
        "early_stopping": {"patience"},
        "everything": {"augmentation", "preset", "patience"},
    }


TRAINING = """
[shared]
data = "digits"
[[stage]]
name = "train"
notebook = "3_train"
[stage.arms.a]
title = "Frozen"
architecture = "mobilenet"
strategy = "frozen"
"""


@pytest.fixture
def training(tmp_path, monkeypatch):
    """The study `training` beside the suite's own notebooks, from a folder of its own."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "training.toml").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_start_from_the_current_directory_and_must_exist(training):
    with pytest.raises(DarkroomError, match="`weights` names 'nosuch.h5', but there is no such"):
        studies.read("training", settings={"weights": "nosuch.h5"})
    (training / "own.keras").touch()
    study = studies.read("training", settings={"weights": "own.keras"})
    assert study.runs()[0].parameters["weights"] == str(training / "own.keras")
    assert studies.read("training").runs()[0].parameters["weights"] == "imagenet"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tiny_", "false"),
        ("limit_per_class", "-5"),
        ("learning_rate", "50"),
        ("learning_rate", "nan"),
        ("l2", "3"),
        ("filters", "[]4"),
        ("filters", "0"),
        ("devices", "-1"),
        ("fractions", "[0.6, 0.2]"),
        ("fractions", "[0.6, 0.3, 0.3]"),
        ("patience", "None"),
        ("epochs", "1.5"),
        ("batch_size", "0"),
        ("split_method", "fold 6 of 5"),
        ("image_side", "1"),
        ("dropout", "1"),
        ("split_sed", "1"),
        ("train.epoch", "1"),
        ("trian.epochs", "1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(training, name, value):
    with pytest.raises(DarkroomError):
        studies.read("training", settings={name: value})
    assert sorted(path.name for path in training.iterdir()) == ["studies"]


def test_a_setting_may_address_one_stage(batch_home):
    settings = {"seconds": "1", "work.seconds": "2"}
    study = studies.read("one", settings=settings)
    assert {unit.parameters["seconds"] for unit in study.stage("work").runs} == {2.0}
    with pytest.raises(DarkroomError, match="Received: 'wrk'. Did you mean 'work'"):
        studies.read("one", settings={"wrk.seconds": "1"})
    with pytest.raises(DarkroomError, match="stage 'work' has no parameter `sekonds`. Did you me"):
        studies.read("one", settings={"work.sekonds": "1"})


def test_a_study_extends_another(batch_home):
    (batch_home / "studies" / "two.toml").write_text(
        'extends = "one"\nquestion = "And twice?"\n'
        '[[stage]]\nname = "work"\nseeds = [5]\n'
        '[stage.arms.triple]\nfactor = 3\ntitle = "Three times"\n'
    )
    study = studies.read("two")
    assert study.question == "And twice?" and study.folder == "two"
    assert [unit.name for unit in study.stage("work").runs] == [
        "plain-s5",
        "double-s5",
        "triple-s5",
    ]
    assert study.stage("work").runs[2].title == "Three times"
    assert study.published == {"someone": {"score": 1.5}}
    (batch_home / "studies" / "one.toml").write_text('extends = "two"\n')
    with pytest.raises(DarkroomError, match="extends"):
        studies.read("two")


def test_seeds_are_given_on_the_command_line(batch_home):
    units = studies.read("one", seeds=[0, 1, 7]).stage("work").runs
    assert [unit.seed for unit in units] == [0, 0, 1, 1, 7, 7]


def test_other_data_go_to_a_folder_of_their_own(training):
    assert studies.read("training").folder == "training"
    assert studies.read("training", settings={"data": "elpv"}).folder == "training@elpv"
    without = training / "studies" / "without.toml"
    without.write_text(TRAINING.replace('[shared]\ndata = "digits"\n', ""))
    assert studies.read("without", settings={"data": "elpv"}).folder == "without@elpv"
    assert studies.read("without", settings={"train.data": "digits"}).folder == "without@digits"


def test_published_figures_that_cannot_be_are_refused(batch_home):
    change(batch_home, "someone = {score = 1.5}", "someone = {accuracy = 7}")
    with pytest.raises(DarkroomError, match="`accuracy` of .published.someone.*from 0 to 1"):
        studies.read("one")
