"""What a target says, on a table small enough to check by eye."""

import pandas
import pytest

from lib.data import targets
from lib.errors import DarkroomError

# Comedy stands in four rows, Drama in three, Horror in two.
ROWS = pandas.DataFrame(
    {
        "label": ["Comedy", "Horror", "Drama", None],
        "attr_genres": ["Comedy|Drama", "Comedy | Horror|Drama", "Drama|Comedy", "Horror|Comedy"],
        "attr_empty": ["", None, "One", "One"],
    }
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("label", ["Comedy", "Horror", "Drama", None]),
        ("label:Horror", ["rest", "Horror", "rest", None]),
        ("label=Horror|Drama", [None, "Horror", "Drama", None]),
        ("attr_genres/first", ["Comedy", "Comedy", "Drama", "Horror"]),
        ("attr_genres/rarest", ["Drama", "Horror", "Drama", "Horror"]),
        ("attr_genres/first=Comedy|Horror", ["Comedy", "Comedy", None, "Horror"]),
    ],
)
def test_a_target_names_column_rule_and_classes(target, expected):
    found = targets.truth(ROWS, target)
    assert [None if value is pandas.NA else value for value in found] == expected


def test_all_classes_of_a_cell():
    assert targets.several(ROWS, "attr_genres/all").tolist() == [
        ["Comedy", "Drama"],
        ["Comedy", "Drama", "Horror"],
        ["Comedy", "Drama"],
        ["Comedy", "Horror"],
    ]
    two = targets.several(ROWS, "attr_genres/all=Drama|Horror")
    assert two.tolist() == [["Drama"], ["Drama", "Horror"], ["Drama"], ["Horror"]]
    assert targets.for_split("attr_genres/all=Drama|Horror") == "attr_genres/rarest=Drama|Horror"
    assert targets.for_split("label=A|B") == "label=A|B"


def test_the_division_of_one_class_against_the_rest_is_that_of_the_whole_column():
    assert targets.stratum("label:Horror") == "label"
    assert targets.stratum("attr_genres/first:Horror") == "attr_genres/first"
    assert targets.stratum("label=A|B") == "label=A|B"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("genre", "one of label, attr_genres.*Received: 'genre'"),
        ("label=Horror", "at least two classes"),
        ("label=Horror|Drmaa", "'Drmaa' is no class.*Did you mean 'Drama'"),
        ("attr_genres/frist", "first, rarest, all.*Did you mean 'first'"),
        ("attr_genres/all", "several classes; here it takes one. Use 'attr_genres/first'"),
        ("attr_empty/first", "at least two classes. Received 1: One"),
    ],
)
def test_what_a_target_cannot_be_is_reported(target, message):
    with pytest.raises(DarkroomError, match=message):
        targets.truth(ROWS, target)
