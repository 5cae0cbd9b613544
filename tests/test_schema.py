"""The parameters of the notebooks: one table, and the same refusals at every door."""

import ast
import json

import pytest

from lib import notebooks, parameter_table, parameter_types, paths, runs
from lib.errors import DarkroomError
from lib.runs import run as opened
from tools import parameter_cells

TRAIN = parameter_table.find("3_train")


@pytest.mark.parametrize("name", parameter_table.NOTEBOOKS)
def test_the_parameters_cell_is_the_schema_s(name):
    path = paths.checkout() / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [source] = [
        "".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])
    ]
    assert source == parameter_cells.source(parameter_table.find(name)), (
        "run python -m tools.parameter_cells"
    )
    assert max(map(len, source.splitlines())) <= parameter_cells.CELL_WIDTH
    assert notebooks.find(name).defaults() == parameter_table.find(name).defaults()


def test_the_cell_of_a_training_holds_what_people_change():
    assert 10 <= sum(row.in_cell for row in TRAIN.parameters.values()) <= 20


def test_a_name_means_the_same_in_every_notebook():
    known = {}
    for table in parameter_table.NOTEBOOKS.values():
        for row in table.parameters.values():
            meaning = (row.type.removesuffix(" | None"), row.allows, row.options)
            assert known.setdefault(row.name, meaning) == meaning or row.name == "architecture"


@pytest.mark.parametrize("table", parameter_table.NOTEBOOKS.values(), ids=lambda table: table.name)
def test_every_default_is_allowed(table):
    given = {name: value for name, value in table.defaults().items() if value is not None}
    assert given.items() <= notebooks.of_schema(table.name).complete({}).items()


def test_choices_are_the_keys_of_the_tables():
    from lib.data.augmentation import POLICIES
    from lib.models.backbones import BACKBONES
    from lib.models.cnn import PRESETS
    from lib.training.optimizers import OPTIMIZERS

    assert parameter_table.TRAINING["architecture"].choices == ("custom", *BACKBONES)
    assert parameter_table.TRAINING["augmentation"].choices == tuple(POLICIES)
    assert parameter_table.find("2_explore").parameters["augmentation"].choices == tuple(POLICIES)
    assert parameter_table.TRAINING["preset"].choices == tuple(PRESETS)
    assert parameter_table.TRAINING["optimizer"].choices == tuple(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("tiny", "false", False),
        ("epochs", "3", 3),
        ("fractions", "[0.6,0.2,0.2]", [0.6, 0.2, 0.2]),
        ("arm", "2024", "2024"),
        ("dropout", "None", None),
        ("filters", "[8, 16]", [8, 16]),
        ("options", "{'min_delta': 0.5}", 0.5),
    ],
)
def test_text_is_read_as_the_parameter_s_type(name, text, value):
    [read] = TRAIN.check({name: text}, text=True).values()
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "has no parameter `epoch`. Did you mean 'epochs'"),
        ({"options": {"mix_alfa": 1.0}}, "has no parameter `mix_alfa`. Did you mean 'mix_alpha'"),
        ({"options": {"epochs": 3}}, "`epochs` is a parameter of 3_train itself"),
        ({"training": "full"}, "The parameter `training` of 3_train is called `strategy` now"),
        ({"epochs": "3"}, "`epochs` must be a whole number, or None. Received: '3'"),
        ({"dropout": 1.0}, "`dropout` must be at least 0, below 1, or None. Received: 1.0"),
        ({"split_method": "groupd"}, "`split_method` must be grouped, random"),
        ({"fractions": [0.6, 0.2, 0.3]}, "whose sum is 1. Received: .* whose sum is 1.1"),
        ({"momentum": 0.5}, "`momentum` acts only with optimizer = 'sgd'"),
        ({"schedule": "plateau", "patience": 2}, "stops before the rate falls"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(DarkroomError, match=message):
        notebooks.of_schema("3_train").complete(values)


def test_options_are_what_has_no_line_of_its_own():
    values = notebooks.of_schema("3_train").complete({"epochs": 3, "min_delta": 0.1})
    cell = parameter_types.cell_values(values, TRAIN.parameters)
    assert cell["epochs"] == 3 and cell["options"] == {"min_delta": 0.1}
    assert notebooks.of_schema("3_train").complete(cell) == values


def test_an_older_run_is_read_under_today_s_names():
    old = {"training": "full", "kernel": 3, "epochs": 2}
    assert parameter_table.renamed(old, "train") == {
        "strategy": "full",
        "kernel_size": 3,
        "epochs": 2,
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    yield tmp_path
    for run in list(opened._open_runs.values()):
        run.close()


def namespace(*cells, **changed):
    """The namespace of a kernel that ran the parameters cell, more cells, and now runs another."""
    source = parameter_cells.source(TRAIN)
    names = {}
    exec(source, names)
    for cell in cells:
        exec(cell, names)
    return {**names, "In": ["", source, *cells, "run = runs.start(…)"], **changed}


def test_the_notebook_gets_typed_values_back(home):
    cell = "# Parameters\ntiny = 'false'\nepochs = '3'\noptions = {'min_delta': 1}\nmonitor = 'val_accuracy'"
    names = namespace(cell)
    run = runs.start("3_train", names, data=None)
    assert (names["tiny"], names["epochs"]) == (False, 3)
    assert names["options"] == {"min_delta": 1.0, "monitor": "val_accuracy"}
    assert run.parameters["min_delta"] == 1.0 and run.parameters["monitor"] == "val_accuracy"
    assert set(run.parameters) == set(TRAIN.parameters)


def test_an_option_set_by_name_is_checked_twice_and_may_be_set_again(home):
    names = namespace("# Parameters\nmin_delta = 0.1")
    runs.check("3_train", names)  # as the first cell of the notebook does
    assert runs.start("3_train", names, data=None).parameters["min_delta"] == 0.1
    names["In"].insert(-1, "min_delta = 0.2")
    assert runs.start("3_train", names, data=None).parameters["min_delta"] == 0.2
    with pytest.raises(DarkroomError, match="sets `min_delta` twice"):
        runs.check("3_train", {**names, "options": {"min_delta": 0.3}})


@pytest.mark.parametrize(
    "cell", ["# Parameters\nepoch = 3", "epoch: int = 3", "learning_rat = 0.1"]
)
def test_a_misspelt_parameter_is_refused_in_a_notebook_too(home, cell):
    with pytest.raises(DarkroomError, match="Did you mean '(epochs|learning_rate)'"):
        runs.start("3_train", namespace(cell), data=None)
    assert not (home / "logs").exists()


def test_what_a_user_keeps_next_to_the_parameters_is_no_parameter(home):
    runs.start("3_train", namespace("x = 3", "import json\nepoch = 4"), data=None)


def test_a_corrected_parameters_cell_counts(home):
    names = namespace()
    wrong = parameter_cells.source(TRAIN).replace("batch_size: int = 32", "batch_sise: int = 3")
    names["In"] = ["", wrong, "runs.start(…)", parameter_cells.source(TRAIN), "runs.start(…)"]
    assert runs.start("3_train", names, data=None).parameters["batch_size"] == 32


def test_lib_needs_no_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "notebooks", lambda: tmp_path / "none")
    assert notebooks.of_schema("3_train").complete({"epochs": 3})["epochs"] == 3


def test_no_cell_line_holds_what_papermill_cannot_read():
    for table in parameter_table.NOTEBOOKS.values():
        for statement in ast.parse(parameter_cells.source(table)).body:
            assert isinstance(statement, ast.AnnAssign)


def filled(values):
    return parameter_table.with_strategy_defaults(notebooks.of_schema("3_train").complete(values))


def test_the_residual_preset_has_a_schedule_of_its_own():
    values = filled({"preset": "residual"})
    assert (values["epochs"], values["schedule"], values["learning_rate"]) == (30, "cosine", 1e-3)
    shorter = filled({"preset": "residual", "epochs": 5})
    assert (shorter["epochs"], shorter["schedule"]) == (5, "cosine")
    assert filled({})["epochs"] == 12
