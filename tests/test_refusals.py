"""What no parameter of any notebook may be is refused in one sentence in all three ways to run one: `runs.check`
in JupyterLab and plain papermill, the papermill engine, and a study.
"""

import copy
import math
import re

import nbformat
import pytest

from lib import notebooks, parameter_table, parameter_types, paths, runs
from lib.batch import papermill_engine, parameter_grid
from lib.errors import DarkroomError

OF_ANOTHER_TYPE = {
    "int": ["many", 1.5, [1], None],
    "float": ["much", [0.5], {"a": 1}, math.nan, math.inf, -math.inf],
    "bool": ["perhaps", 2, [True]],
    "str": [["a"], {"a": 1}, True],
    "dict": [[1], 3, "no table", {"a": math.nan}, {"nosuch": 1}],
}
NO_FOLDER = ("CON", "nul.txt", "com1", "a.", ".hidden", "a/b", "../x", "x" * 101, "a b")
TEXTS = (" ", " a", "a ", "a\x1b[2J", "a\nb", "a\x00b")
FOLDERS = {"study", "arm", "name", "stage", "stages", "explained", "trained", "tuned_on"}


def wrong_values(row):
    """Values that the parameter `row` cannot have."""
    item = row.kind.removeprefix("list[").removesuffix("]")
    values = list(OF_ANOTHER_TYPE[item])
    if item == "str" and row.name != "separator":
        values += TEXTS
    if item == "str" and row.choices:
        values += ["nosuch"]
    if row.name in FOLDERS:
        values += [name for name in NO_FOLDER if row.name != "trained" or "/" not in name]
    if row.is_path or row.name == "data":
        values += ["../nosuch/folder", "/nosuch", "~/nosuch/folder"]
    for word, limit in row.limits:
        step = (1 if item == "int" else 1e-3) * (-1 if word in ("at least", "above") else 1)
        edge = limit + step if word in ("at least", "at most") else limit
        values.append(int(edge) if item == "int" else edge)
    if item != row.kind:
        values = [[value] for value in values] + [7, {"a": 1}]
    is_needed = row.choices or row.pattern and not re.fullmatch(row.pattern, "")
    if row.kind == "str" and (row.not_empty or is_needed):
        values.append("")
    if row.kind != item and row.not_empty:
        values.append([])
    if row.type.endswith("None"):
        values = [value for value in values if value is not None]
    return values


def by_hand(notebook, given):
    declared = notebook.parameters
    namespace = {key: row.default for key, row in declared.items() if row.in_cell}
    namespace |= {"options": {}} if parameter_types.has_options(declared) else {}
    runs.check(notebook.name, {**namespace, **given})


def by_engine(notebook, given):
    nb = copy.deepcopy(DOCUMENTS[notebook.name])
    nb.metadata["papermill"] = {"parameters": given}
    papermill_engine._typed(nb, "python3")


def by_study(notebook, wrong):
    declared = notebook.parameters
    table = {"name": "stage", "parameters": wrong}
    table |= {"arms": {"a": {}}} if {"arm", "seed"} <= declared.keys() else {}
    general = parameter_grid.General("s", {}, {}, {"stage": {}}, None, False)
    parameter_grid.expand(table, notebook, general, where="stage 'stage'")


DOCUMENTS = {
    name: nbformat.read(paths.checkout() / "notebooks" / f"{name}.ipynb", as_version=4)
    for name in parameter_table.NOTEBOOKS
}


@pytest.mark.parametrize("name", parameter_table.NOTEBOOKS)
def test_what_no_parameter_may_be_is_refused_by_every_door(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    notebook = notebooks.find(name)
    accepted = []
    for row in notebook.parameters.values():
        for value in wrong_values(row):
            wrong = {row.name: value}
            given = parameter_types.cell_values(wrong, notebook.parameters)
            doors = {"hand": (by_hand, given), "engine": (by_engine, given)}
            if row.name not in parameter_grid.RESERVED:
                doors["study"] = by_study, wrong
            for door, (enter, what) in doors.items():
                try:
                    enter(notebook, what)
                except DarkroomError as error:
                    if "\n" in str(error):
                        accepted.append((door, wrong, "in several lines", str(error)))
                else:
                    accepted.append((door, wrong))
    assert accepted == []


@pytest.mark.parametrize("name", NO_FOLDER)
def test_a_study_cannot_be_called_what_no_folder_can(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    with pytest.raises(DarkroomError, match="The name of a study must"):
        paths.run(name, "train", "a")
