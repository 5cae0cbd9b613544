import json
import subprocess
import sys

import pytest

from lib import parameter_types
from lib.errors import DarkroomError

CELL = """
epochs: int = 12  # 1 to 1000: passes over the train split at most
rate: float = 1e-3  # above 0, at most 1: step of the optimizer
architecture: str = "custom"  # one of custom, resnet101v2: the network
fast: bool = True  # whether to hurry
sides: list[int] = [32, 64]  # at least 16: image sides
words: list[str] = []  # tags of the run
note: str = ""  # e.g. 5 words: shown in the report
"""


@pytest.fixture
def declared():
    return parameter_types.declared(CELL, where="t.ipynb")


def test_declaration_is_read_from_the_cell(declared):
    assert list(declared) == ["epochs", "rate", "architecture", "fast", "sides", "words", "note"]
    assert declared["epochs"].help == "passes over the train split at most"
    assert declared["epochs"].allowed() == "1 to 1000"
    assert declared["rate"].allowed() == "above 0, at most 1"
    assert declared["architecture"].choices == ("custom", "resnet101v2")
    assert (
        declared["note"].help == "e.g. 5 words: shown in the report"
        and declared["note"].allowed() == ""
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("rate", "1", 1.0),
        ("rate", "1e-4", 1e-4),
        ("fast", "no", False),
        ("sides", "16,32", [16, 32]),
        ("sides", "[20]", [20]),
        ("words", "a, ü 日", ["a", "ü 日"]),
        ("note", "3", "3"),
    ],
)
def test_parse_types_what_was_typed(declared, name, text, value):
    parsed = declared[name].parse(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("epochs", 0, r"`epochs` must be 1 to 1000. Received: 0"),
        ("epochs", 1.5, r"`epochs` must be a whole number.*Received: 1.5"),
        ("epochs", True, r"a whole number"),
        ("rate", 0.0, r"above 0, at most 1"),
        ("rate", float("nan"), r"a number"),
        (
            "architecture",
            "resnet101",
            r"one of custom, resnet101v2. Received: 'resnet101'. Did you mean 'resnet101v2'",
        ),
        ("sides", [32, 8], r"at least 16. Received: 8"),
        ("sides", 32, r"a list, each a whole number"),
    ],
)
def test_wrong_values_are_refused(declared, name, value, told):
    with pytest.raises(DarkroomError, match=told):
        declared[name].check(value)


def test_unknown_names_are_refused_with_a_suggestion(declared):
    with pytest.raises(DarkroomError, match="no parameter `epoch`. Did you mean 'epochs'"):
        parameter_types.check({"epoch": 3}, declared, where="arm a")
    with pytest.raises(DarkroomError, match="a whole number, such as 12. Received: 'many'"):
        declared["epochs"].parse("many")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("epochs = 12  # passes", "must hold only lines such as"),
        ("epochs: int = 2 * 6  # passes", "must be a literal"),
        ("epochs: int = 0  # 1 to 10: passes", "must be 1 to 10. Received: 0"),
        ("epochs: int = 5  # 1 to many: passes", "cannot be read: '1 to many'"),
        ("epochs: str = 'few'  # 1 to 20: passes", "cannot be read: '1 to 20'"),
        ("epochs: int = 5  # passes (= rounds)", "must not hold '='"),
        ("epochs: int = ", "is not Python"),
    ],
)
def test_unreadable_declarations_are_refused(line, told):
    with pytest.raises(DarkroomError, match=told):
        parameter_types.declared(line, where="t.ipynb")


def test_numbers_may_be_one_of_a_few():
    (side,) = parameter_types.declared(
        "side: int = 64  # one of 32, 64: pixels", where="t.ipynb"
    ).values()
    assert side.choices == (32, 64) and side.parse("32") == 32
    with pytest.raises(DarkroomError, match="must be one of 32, 64. Received: 48"):
        side.check(48)
    with pytest.raises(DarkroomError, match="cannot be read: 'one of few, many'"):
        parameter_types.declared("side: int = 64  # one of few, many: pixels", where="t.ipynb")


def test_papermill_shows_every_parameter_with_type_and_meaning(tmp_path, declared):
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["parameters"]},
        "source": CELL,
        "outputs": [],
        "execution_count": None,
    }
    about = {"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}}
    notebook = {"cells": [cell], "metadata": about, "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "t.ipynb").write_text(json.dumps(notebook))
    asked = [sys.executable, "-m", "papermill", "--help-notebook", "t.ipynb"]
    shown = subprocess.run(
        asked, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=True
    ).stdout
    for parameter in declared.values():
        assert (
            f"  {parameter.name}: {parameter.type} (default " in shown and parameter.help in shown
        )
