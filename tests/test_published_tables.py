"""What the sources printed: reproduced where their own numbers allow it, and contradicted where
they contradict themselves.
"""

import pandas as pd
import pytest

from lib.errors import DarkroomError
from lib.evaluation import checks, published_tables

# The Simpsons source: precision, recall, F1 and support of its 19 characters, by transfer learning
# and by its own network.
TRANSFER = """
0.96 0.97 0.97 112 | 1.00 0.98 0.99 55 | 0.91 0.95 0.93 171 | 0.94 0.91 0.92 144 | 0.93 0.98 0.95 130 | 0.94 0.94 0.94 48
1.00 0.80 0.89 41 | 0.95 0.93 0.94 322 | 0.95 0.97 0.96 37 | 0.97 0.96 0.97 160 | 0.92 0.71 0.80 17 | 0.97 0.94 0.95 166
0.92 1.00 0.96 159 | 0.96 0.94 0.95 111 | 0.97 0.92 0.94 199 | 0.95 0.98 0.96 186 | 0.83 0.79 0.81 19 | 0.92 0.96 0.94 136
0.94 0.99 0.97 113
"""
OWN = """
0.00 0.00 0.00 108 | 0.67 0.03 0.06 67 | 1.00 0.01 0.01 144 | 0.19 0.62 0.29 159 | 0.44 0.11 0.17 113 | 0.25 0.02 0.04 46
0.50 0.14 0.22 42 | 0.41 0.49 0.45 301 | 0.15 0.48 0.23 46 | 0.32 0.81 0.46 149 | 0.00 0.00 0.00 15 | 0.24 0.69 0.35 170
0.70 0.15 0.24 176 | 0.34 0.74 0.46 117 | 0.25 0.11 0.15 194 | 0.00 0.00 0.00 175 | 0.00 0.00 0.00 20 | 0.33 0.01 0.01 177
1.00 0.03 0.05 107
"""


def report(text) -> pd.DataFrame:
    rows = [map(float, row.split()) for row in text.replace("\n", "|").split("|") if row.strip()]
    return pd.DataFrame(rows, columns=list(published_tables.COLUMNS))


def test_the_overall_figures_of_the_transfer_report_follow_from_its_classes():
    told = {
        "num_images": 2326,
        "accuracy": 0.95,
        "macro_precision": 0.94,
        "macro_recall": 0.93,
        "macro_f1": 0.93,
        "weighted_precision": 0.95,
        "weighted_recall": 0.95,
        "weighted_f1": 0.95,
    }
    assert published_tables.contradictions(report(TRANSFER), told) == []
    assert published_tables.kappa(report(TRANSFER)) == pytest.approx(
        0.9430, abs=0.006
    )  # printed: 0.9430295


def test_the_accuracy_that_evaluate_gave_next_to_it_is_of_other_images():
    (told,) = published_tables.contradictions(report(TRANSFER), {"accuracy": 0.9592})
    assert told == "The classes allow accuracy 0.943 to 0.953, the report says 0.9592."


def test_the_report_of_the_own_network_goes_with_its_kappa_and_not_with_its_accuracy():
    own = report(OWN)
    told = {
        "num_images": 2326,
        "accuracy": 0.29,
        "macro_precision": 0.36,
        "weighted_precision": 0.39,
    }
    assert published_tables.contradictions(own, told) == []
    assert published_tables.kappa(own) == pytest.approx(0.2297, abs=0.012)
    (told,) = published_tables.contradictions(own, {"accuracy": 0.7158})
    assert told.endswith("the report says 0.7158.")
    for support in (own["support"], [50] * 19):  # of the 2,326 images as of the 950
        found = checks.published_figures(accuracy=0.7158, kappa=0.2297, support=support)
        assert found["outcome"] == "stops"
        assert "the two numbers come from different predictions" in found["message"]
    low, high = published_tables.kappa_range(0.7158, [50] * 19)
    assert (round(low, 3), round(high, 3)) == (0.7, 0.7)
    assert (
        checks.published_figures(accuracy=0.29, kappa=0.2297, support=own["support"], digits=2)[
            "outcome"
        ]
        == "held"
    )


def test_bounds_by_hand_and_a_table_that_is_none():
    two = pd.DataFrame(
        {"precision": [1, 0.5], "recall": [0.5, 1], "f1": [0.67, 0.67], "support": [20, 10]}
    )
    low, high = published_tables.overall(two)["accuracy"]
    assert (low, high) == pytest.approx((20 / 30 - 0.005, 20 / 30 + 0.005))
    assert published_tables.kappa(two) == pytest.approx(
        (2 / 3 - 4 / 9) / (1 - 4 / 9)
    )  # predicted 10 and 20: expected 4/9
    assert published_tables.contradictions(two, {"num_images": 31}) == [
        "The classes have 30 images, the report says 31."
    ]
    with pytest.raises(DarkroomError, match="without support"):
        published_tables.overall(two.drop(columns="support"))
