import numpy as np
import pandas as pd
import pytest

from lib.data.file_listing import ListedFile
from lib.data.sources import reading
from lib.data.sources.folders import read
from lib.data.sources.options import Options
from lib.errors import DarkroomError
from lib.evaluation import slices
from lib.evaluation.predictions import Predictions, table
from lib.reporting import dataset_figures

CARS = ["Audi S5 Coupe 2012", "Audi A5 Sedan 2008", "BMW X3 SUV 2012"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Audi S5 Coupe 2012", ("Audi", "Coupe", 2012)),
        ("Aston Martin V8 Vantage Convertible 2012", ("Aston Martin", "Convertible", 2012)),
        ("Dodge Ram Pickup 3500 Crew Cab 2010", ("Dodge", "Pickup", 2010)),
        ("Ram C-V Cargo Van Minivan 2012", ("Ram", "Minivan", 2012)),
        ("Infiniti G Coupe IPL 2012", ("Infiniti", "Coupe", 2012)),
        ("Citroën 2CV Sedan 1990", ("Citroën", "Sedan", 1990)),
        ("Buick Regal GS 2012", ("Buick", None, 2012)),
    ],
)
def test_class_names_say_make_type_and_year(name, expected):
    assert tuple(reading.name_parts(name).values()) == expected


@pytest.mark.parametrize("name", ["cat", "2012", "Apollo 2012", "Audi S5 Coupe", "room 101 1850"])
def test_other_names_say_nothing(name):
    assert reading.name_parts(name) is None


def test_folders_give_the_parts_only_where_every_class_has_them():
    files = [ListedFile(f"{name}/{n}.jpg", 1, 0) for name in CARS for n in (1, 2)]
    (rows,) = (reading.rows for reading in read(files, Options())[0])
    assert rows.loc[0, ["attr_make", "attr_type", "attr_year"]].tolist() == ["Audi", "Coupe", 2012]
    assert set(rows.loc[rows["label"] == "BMW X3 SUV 2012", "attr_type"]) == {"SUV"}
    ((others,), _) = read([*files, ListedFile("bicycle/1.jpg", 1, 0)], Options())
    assert "attr_make" not in others.rows


@pytest.fixture
def cars():
    rows = [(name, *reading.name_parts(name).values()) for name in CARS for _ in range(4)]
    frame = pd.DataFrame(rows, columns=["label", "attr_make", "attr_type", "attr_year"])
    return frame.assign(path=[f"{n}.jpg" for n in range(len(frame))], width=100, height=50)


@pytest.fixture
def predictions(cars):
    # One image of each Audi is taken for the other Audi; all BMW are right.
    shares = np.full((12, 3), 0.1, np.float32)
    names = sorted(CARS)
    said = list(cars["label"])
    said[0], said[4] = CARS[1], CARS[0]
    for row, name in enumerate(said):
        shares[row, names.index(name)] = 0.8
    about = {"splits": ["test"] * 12, "labels": cars["label"], "groups": range(12)}
    frame = table(cars["path"], probabilities=shares, class_names=names, **about)
    return Predictions(frame, tuple(names))


def test_fine_predictions_judged_by_make(cars, predictions):
    tables = slices.coarse(predictions, cars, ["attr_make", "attr_type"])
    judged = slices.judged(tables)
    assert judged["classes"].tolist() == [3, 2, 3]
    assert judged.loc["label", "accuracy"] == pytest.approx(10 / 12)
    assert judged.loc["attr_make", "accuracy"] == 1  # an Audi taken for an Audi
    assert judged.loc["attr_type", "accuracy"] == pytest.approx(10 / 12)
    assert "12 of 12 images right" in dataset_figures.coarse_confusion(tables, "attr_make").alt


def test_a_column_that_differs_within_a_class_is_no_coarser_label(cars, predictions):
    cars.loc[0, "attr_make"] = "Volvo"
    with pytest.raises(
        DarkroomError,
        match="attr_make is no coarser label: images of 'Audi S5 Coupe 2012' have 2 values",
    ):
        slices.coarse(predictions, cars, ["attr_make"])
    with pytest.raises(DarkroomError, match="Received: 'attr_maker'. Did you mean 'attr_make'"):
        slices.coarse(predictions, cars, ["attr_maker"])
    cars["attr_type"] = None
    assert set(slices.groups(cars, "attr_type", CARS).values()) == {"other"}


def test_boxes_are_measured_against_their_images(cars):
    assert not slices.has_boxes(cars)
    with pytest.raises(DarkroomError, match="No image of this data set has a box"):
        slices.box_shares(cars)
    cars = cars.assign(box_left=0, box_top=0, box_right=50, box_bottom=50.0)
    cars.loc[1, "box_right"] = np.nan
    shares = slices.box_shares(cars)
    assert len(shares) == 11 and shares.loc[0, ["image", "box", "share"]].tolist() == [
        5000,
        2500,
        0.5,
    ]
    assert "fill 50 % of the image in the median" in dataset_figures.boxes(cars).alt
    sizes = dataset_figures.size_table(cars.assign(bytes=1000))
    assert sizes.loc["share of the box", "median"] == 0.5
    assert sizes.loc["width in pixels", "median"] == 100


def test_counts_of_make_and_year(cars):
    drawing = dataset_figures.value_counts(cars, ["attr_make", "attr_year"])
    assert drawing.alt == "Images of each value; make: most Audi (8), year: most 2012 (8)."
    many = pd.DataFrame(
        {"attr_price": np.arange(100.0), "attr_owner": [f"owner {n // 2}" for n in range(100)]}
    )
    many.loc[100] = [np.nan, None]  # a picture of which the table says nothing
    told = dataset_figures.value_counts(many, ["attr_price", "attr_owner"]).alt
    assert "(5)" in told and "most 11 others (22)" in told
