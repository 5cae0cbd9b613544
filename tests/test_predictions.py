"""The prediction table: what it holds, and that it refuses what would make a number lie."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from lib.errors import DarkroomError
from lib.evaluation import predictions

CLASSES = ["café", "猫", "🐈 $x_1$"]


def small(**changes) -> pd.DataFrame:
    values = {
        "paths": ["b.png", "a.png", "c.png"],
        "splits": ["test", "train", "test"],
        "labels": ["猫", "café", "🐈 $x_1$"],
        "groups": [2, 1, 3],
        "probabilities": np.array([[0.2, 0.5, 0.3], [1, 0, 0], [0.25, 0.5, 0.25]]),
        "class_names": CLASSES,
    } | changes
    paths = values.pop("paths")
    return predictions.table(paths, **values)


def written(folder, frame, **metadata):
    path = folder / "predictions.parquet"
    predictions.write(
        path, frame, {"class_names": CLASSES, "data_hash": "abc", "run": "s/train/a-s0"} | metadata
    )
    return path


def test_a_table_comes_back_as_written(tmp_path):
    found = predictions.read(written(tmp_path, small()), class_names=CLASSES)

    assert found.frame["path"].tolist() == ["a.png", "b.png", "c.png"]
    assert found.class_names == tuple(CLASSES)
    assert (found.kind, found.data_hash, found.run, found.target) == (
        "probability",
        "abc",
        "s/train/a-s0",
        "label",
    )
    assert found.splits == ["train", "test"]
    test = found.split("test")
    assert test.truth.tolist() == [1, 2]
    assert test.predicted.tolist() == [1, 1]
    assert test.confidence.tolist() == [0.5, 0.5]
    assert test.probabilities.dtype == np.float32
    assert test.groups.tolist() == [2, 3]


def test_a_truncated_file_is_refused(tmp_path):
    path = written(tmp_path, small())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DarkroomError, match="truncated or damaged"):
        predictions.read(path)


def test_a_missing_file_and_a_foreign_table_are_refused(tmp_path):
    with pytest.raises(DarkroomError, match="There is no prediction table"):
        predictions.read(tmp_path / "none.parquet")
    small().to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(DarkroomError, match="is no prediction table"):
        predictions.read(tmp_path / "plain.parquet")


def test_other_classes_are_refused(tmp_path):
    path = written(tmp_path, small())
    with pytest.raises(DarkroomError, match="holds other classes. Expected: cat, dog"):
        predictions.read(path, class_names=["cat", "dog"])
    with pytest.raises(DarkroomError, match="columns do not fit the classes"):
        written(tmp_path, small(), class_names=["café", "猫"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"paths": ["b.png", "a.png", "b.png"]}, "row 2 holds a path that is there twice"),
        ({"paths": ["b.png", None, "c.png"]}, "row 2 has no path"),
        ({"splits": ["test", "trian", "test"]}, "row 0 names a split other than"),
        ({"labels": ["猫", "dog", "café"]}, "row 0 has a label that is no class"),
        (
            {"probabilities": np.array([[0.2, 0.5, 0.3], [1, 0, 0], [np.nan, 0.5, 0.5]])},
            r"row 2 \(c.png\) holds NaN",
        ),
        (
            {"probabilities": np.array([[0.2, 0.5, 0.3], [1, 0, 0], [0.3, 0.5, 0.3]])},
            r"row 2 \(c.png\) does not sum to 1",
        ),
        (
            {"probabilities": np.array([[0.2, 0.5, 0.3], [2, -1, 0], [0.5, 0.5, 0]])},
            "outside 0 to 1",
        ),
    ],
)
def test_a_row_that_would_make_a_number_are_is_refused(tmp_path, changes, told):
    with pytest.raises(DarkroomError, match=told):
        written(tmp_path, small(**changes))


def test_rows_that_were_spoilt_after_writing_are_refused_on_reading(tmp_path):
    path = written(tmp_path, small())
    table = pyarrow.parquet.read_table(path)
    frame = table.to_pandas()
    frame.loc[1, "p_猫"] = 0.9
    spoilt = pyarrow.Table.from_pandas(frame).replace_schema_metadata(table.schema.metadata)
    pyarrow.parquet.write_table(spoilt, path)
    with pytest.raises(
        DarkroomError, match=rf"{path}, row 1 \(b.png\) does not sum to 1; its sum is 1.4"
    ):
        predictions.read(path)


def test_scores_need_not_sum_to_one_and_a_kind_must_be_known(tmp_path):
    frame = small(probabilities=np.array([[-2, 5, 0.3], [7, 0, 0], [0.3, 0.5, 0.3]]))
    assert predictions.read(written(tmp_path, frame, kind="score")).split(
        "test"
    ).predicted.tolist() == [1, 1]
    with pytest.raises(DarkroomError, match="`kind` must be one of"):
        written(tmp_path, frame, kind="logit")


def test_lengths_and_unknown_splits_are_refused():
    with pytest.raises(DarkroomError, match=r"\(3, 3\). Received shape: \(3, 2\)"):
        small(probabilities=np.ones((3, 2)))
    with pytest.raises(DarkroomError, match="`groups` must be as long as `paths`"):
        small(groups=[1])
    held = predictions.Predictions(small(), tuple(CLASSES))
    with pytest.raises(DarkroomError, match="hold no rows of split 'val'"):
        held.split("val")
    with pytest.raises(DarkroomError, match="A split is one of train, val, test"):
        held.split("dev")


def test_the_metadata_is_readable_without_this_library(tmp_path):
    noted = pyarrow.parquet.read_schema(written(tmp_path, small())).metadata[b"darkroom"]
    assert json.loads(noted)["class_names"] == CLASSES
