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
    cells = []
    if set(given) - set(declared):  # misspelt names are found in the cells that ran
        lines = [f"{key} = {value!r}" for key, value in {**namespace, **given}.items()]
        cells = ["", "\n".join(lines), "runs.check"]
    runs.check(notebook.name, {**namespace, **given, "In": cells})


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
def test_what_no_parameter_may_be_is_refused_in_every_way(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    notebook = notebooks.find(name)
    accepted = []
    for row in notebook.parameters.values():
        for value in wrong_values(row):
            wrong = {row.name: value}
            given = parameter_types.cell_values(wrong, notebook.parameters)
            ways = {"hand": (by_hand, given), "engine": (by_engine, given)}
            if row.name not in parameter_grid.RESERVED:
                ways["study"] = by_study, wrong
            for way, (enter, what) in ways.items():
                try:
                    enter(notebook, what)
                except DarkroomError as error:
                    if "\n" in str(error):
                        accepted.append((way, wrong, "in several lines", str(error)))
                else:
                    accepted.append((way, wrong))
    assert accepted == []


WRONG = [
    ("0_tutorial", {"study": "../elsewhere"}, "name of a study"),
    ("0_tutorial", {"data": ""}, "`data` is empty"),
    ("0_tutorial", {"dat": "digits"}, "no parameter `dat`. Did you mean 'data'?"),
    ("1_clean", {"reading": {"lable": "kind"}}, "no option 'lable'"),
    ("1_clean", {"review": ["wrong_lable"]}, "Did you mean 'wrong_label'?"),
    ("1_clean", {"review": ["blurred"], "reject": ["blurred"]}, "in `review` and in `reject`"),
    ("1_clean", {"dark": 0.95}, "`dark` must be below `bright`"),
    ("1_clean", {"embedding_network": "resnet5"}, "`embedding_network` must be one of none"),
    ("2_explore", {"target": "lable"}, "`target` must be label, attr_NAME"),
    ("2_explore", {"split_method": "fold 0 of 5"}, "at least 2 folds"),
    ("2_explore", {"split_seed": 2**64}, "`split_seed` must be 0 to 4294967295"),
    ("3_train", {"arm": "a/b"}, "Received: 'a/b'"),
    ("3_train", {"architecture": "mobilenet", "weights": "nosuch.h5"}, "no such file or folder"),
    ("3_train", {"weights": "7"}, "`weights` must be one of imagenet, none"),
    ("3_train", {"strategy": "frozen"}, "needs a pretrained network"),
    ("3_train", {"filters": []}, "`filters` is empty"),
    ("3_train", {"seed": 2**32}, "`seed` must be 0 to"),
    ("3_train", {"target": "label:"}, "`target` must be"),
    ("3_train", {"tuned_on": "nosuch"}, "the split 'nosuch', which 'elpv' does not have"),
    ("3_train", {"study": "CON"}, "none of Windows' devices"),
    ("3_train", {"data": " "}, "must not begin or end with a space"),
    ("3_train", {"data": "../nosuch"}, "no such file or folder"),
    ("3_train", {"fractions": [0.6, 0.2, 0.1]}, "whose sum is 0.9"),
    ("3_train", {"split_sed": 1}, "Did you mean 'split_seed'?"),
    ("3_train", {"split_method": "fold 6 of 5"}, "at least 2 folds"),
    ("3_train", {"focal_gamma": 3.0}, "focal"),
    ("9_apply", {"classes": ["a"]}, "acts only with `copy_to`"),
    ("4_tune", {"space": {"learning_rate": [1e-3, 20]}}, "at most 10"),
    ("4_tune", {"retrain_seeds": [1, 1]}, "different seeds"),
    ("4_tune", {"method_options": {"eta": 2}}, "hyperband: `option` must be one of"),
    ("5_thumbnails", {"sizes": ["0x10"]}, "`sizes` must be height x width"),
    ("5_thumbnails", {"sizes": ["300x300"]}, "1 to 256 pixels"),
    ("5_thumbnails", {"grid": {"C": [0]}}, "`C` of svm_linear must be a finite number above 0"),
    ("6_compare", {"stages": []}, "`stages` is empty"),
    ("6_compare", {"only": ["a"], "omit": ["a"]}, "in `only` and in `omit`"),
    ("6_compare", {"stages": ["../x"]}, "`stages` must be"),
    ("7_explain", {"explain_methods": []}, "`explain_methods` is empty"),
    ("7_explain", {"coarse": ["make"]}, "`coarse` must be columns of coarser labels"),
    ("7_explain", {"explained": "../x"}, "`explained` must be the run"),
    ("8_features", {"map_methods": ["t-sne"]}, "Did you mean 'tsne'?"),
    ("8_features", {"trained": "../../x"}, "`trained` must be a finished training"),
    ("9_apply", {"model": ""}, "`model` is empty"),
    ("9_apply", {"pictures": "nosuch/folder"}, "no such file or folder"),
    ("9_apply", {"target_acuracy": 0.9}, "Did you mean 'target_accuracy'?"),
]


@pytest.mark.parametrize(("name", "wrong", "message"), WRONG)
def test_the_sentence_says_what_is_wrong_in_every_way(name, wrong, message):
    notebook = notebooks.find(name)
    known = {key: value for key, value in wrong.items() if key in notebook.parameters}
    misspelt = {key: value for key, value in wrong.items() if key not in known}
    given = {**misspelt, **parameter_types.cell_values(known, notebook.parameters)}
    ways = [(by_hand, given), (by_engine, given)]
    ways += [] if set(wrong) & set(parameter_grid.RESERVED) else [(by_study, wrong)]
    for enter, what in ways:
        with pytest.raises(DarkroomError) as refused:
            enter(notebook, what)
        assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NO_FOLDER)
def test_a_study_cannot_be_called_what_no_folder_can(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    with pytest.raises(DarkroomError, match="The name of a study must"):
        paths.run(name, "train", "a")
