import numpy as np
import pandas
import pytest

from lib.data import splits, targets
from lib.errors import DarkroomError


class Fixed:
    """A data set whose accepted rows are given."""

    name = "fixed"

    def __init__(self, folder, rows):
        self.folder = folder
        self.rows = rows

    def accepted(self):
        return self.rows.copy()


def rows(per_class: dict[str, int], *, group_size: int = 1) -> pandas.DataFrame:
    labels = [label for label, count in per_class.items() for _ in range(count)]
    return pandas.DataFrame(
        {
            "path": [f"{label}/{number:04}.png" for number, label in enumerate(labels)],
            "label": labels,
            "group": [number // group_size for number in range(len(labels))],
            "pixels": [f"{number:x}" for number in range(len(labels))],
            "source_split": None,
            "attr_type": ["mono" if number % 2 else "poly" for number in range(len(labels))],
        }
    )


def test_fractions_are_final_and_hold_in_each_class(tmp_path):
    split = splits.ensure(Fixed(tmp_path, rows({"a": 100, "b": 40})), fractions=(0.6, 0.15, 0.25))
    assert split.counts().to_numpy().tolist() == [[60, 15, 25], [24, 6, 10]]


def test_no_group_straddles_two_splits_whereas_random_lets_it(tmp_path):
    data = Fixed(tmp_path, rows({"a": 120, "b": 120}, group_size=4))
    grouped = splits.ensure(data, method="grouped").frame
    assert grouped.groupby("group")["split"].nunique().max() == 1
    random = splits.ensure(data, method="random").frame
    assert random.groupby("group")["split"].nunique().max() > 1


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tmp_path):
    data = Fixed(tmp_path / "one", rows({"a": 50, "b": 50}))
    again = Fixed(tmp_path / "two", rows({"a": 50, "b": 50}).sample(frac=1, random_state=1))
    first, second = splits.ensure(data, seed=1), splits.ensure(again, seed=1)
    assert first.frame.equals(second.frame)
    assert first.id == second.id
    assert first.data_hash() == second.data_hash()
    assert splits.ensure(data, seed=2).data_hash() != first.data_hash()


def test_a_stored_split_is_read_and_never_made_again(tmp_path):
    data = Fixed(tmp_path, rows({"a": 50, "b": 50}))
    first = splits.ensure(data)
    stored = tmp_path / "splits" / f"{first.id}.parquet"
    before = stored.stat().st_mtime_ns
    assert splits.ensure(data).frame.equals(first.frame)
    assert stored.stat().st_mtime_ns == before


def test_other_images_make_another_split(tmp_path):
    table = rows({"a": 50, "b": 50})
    first = splits.ensure(Fixed(tmp_path, table))
    assert splits.ensure(Fixed(tmp_path, table.iloc[1:])).id != first.id


def test_the_sources_own_test_images_stay_test(tmp_path):
    table = rows({"a": 50, "b": 50})
    table["source_split"] = ["test" if number % 5 == 0 else "train" for number in range(100)]
    split = splits.ensure(Fixed(tmp_path, table), method="source", fractions=(0.64, 0.16, 0.2))
    assert set(split.of("test")["path"]) == set(table["path"][::5])
    assert split.counts().to_numpy().tolist() == [[32, 8, 10], [32, 8, 10]]
    # Ten images of a class are two of the source's test and eight others.
    few = splits.ensure(Fixed(tmp_path, table), method="source", limit_per_class=10)
    assert few.counts()["test"].tolist() == [2, 2] and few.counts().sum(axis=1).tolist() == [10, 10]


def test_rows_in_proportion_begin_with_every_group():
    table = pandas.DataFrame({"label": ["a"] * 10, "split": ["train"] * 8 + [None] * 2})
    ordered = splits.in_proportion(table, ["label", "split"])
    assert ordered["split"].head(5).isna().sum() == 1 and ordered["split"].isna().sum() == 2


def test_a_source_split_that_is_not_used_is_reported(tmp_path):
    table = rows({"a": 50, "b": 50})
    table["source_split"] = ["test" if number % 5 == 0 else "train" for number in range(100)]
    data = Fixed(tmp_path, table)
    split = splits.ensure(data)
    trained = int((split.frame["split"] == "train")[::5].sum())
    note = f"(train 80, test 20), which is not used: {trained} of its 20 test images are trained on"
    assert note in split.source_note and split.sentence().endswith(split.source_note)
    assert splits.ensure(data, method="source").source_note == ""


def test_images_without_a_split_of_the_source_are_not_taken_for_train(tmp_path):
    table = rows({"a": 50, "b": 50})
    table["source_split"] = ["test" if i % 5 == 0 else "train" for i in range(90)] + [None] * 10
    with pytest.raises(DarkroomError, match="10 images have none, such as b/0090.png"):
        splits.ensure(Fixed(tmp_path, table), method="source")


def test_folds_hold_each_image_once_in_test(tmp_path):
    data = Fixed(tmp_path, rows({"a": 60, "b": 40}, group_size=2))
    tests = [
        set(splits.ensure(data, method=f"fold {fold} of 5").of("test")["path"])
        for fold in range(1, 6)
    ]
    assert sum(map(len, tests)) == 100
    assert len(set().union(*tests)) == 100


def test_the_seed_walks_through_the_folds_and_then_divides_again(tmp_path):
    data = Fixed(tmp_path, rows({"a": 60, "b": 40}))
    made = [splits.ensure(data, method="folds of 3", seed=seed) for seed in range(6)]
    assert [split.method for split in made[:3]] == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    tests = [set(split.of("test")["path"]) for split in made]
    for first in (0, 3):
        assert (
            sum(map(len, tests[first : first + 3]))
            == len(set().union(*tests[first : first + 3]))
            == 100
        )
    assert tests[0] != tests[3]
    assert made[0].frame.equals(splits.ensure(data, method="fold 1 of 3", seed=0).frame)


@pytest.mark.parametrize(
    ("fractions", "told"),
    [((0.64, 0.16, 0.15), "their sum is 1.*sum is 0.95"), ((0.8, 0.2, 0.0), "each above 0")],
)
def test_fractions_that_do_not_sum_to_one_are_refused(tmp_path, fractions, told):
    with pytest.raises(DarkroomError, match=told):
        splits.ensure(Fixed(tmp_path, rows({"a": 50, "b": 50})), fractions=fractions)


def test_a_class_that_is_one_group_is_refused_by_name(tmp_path):
    table = rows({"a": 50, "b": 6})
    table.loc[table["label"] == "b", "group"] = 1000
    with pytest.raises(DarkroomError, match="'b' cannot be divided.*6 images form 1 group"):
        splits.ensure(Fixed(tmp_path, table))


def groups_of_each_class(frame, split=None):
    rows = frame.explode("label")
    rows = rows if split is None else rows[rows["split"] == split]
    return rows.drop_duplicates(["label", "group"])["label"].value_counts()


def test_a_thousand_classes_of_six_groups_are_in_all_three_splits(tmp_path):
    table = rows(dict.fromkeys((f"c{number:03}" for number in range(1000)), 6))
    split = splits.ensure(Fixed(tmp_path, table), fractions=(0.6, 0.2, 0.2))
    counts = split.counts()
    assert counts.to_numpy().min() == 1 and counts["train"].between(3, 4).all()
    assert (counts.sum() / 6000).round(2).tolist() == [0.6, 0.2, 0.2]


def test_six_groups_that_every_class_shares_are_divided_four_one_one(tmp_path):
    table = rows({"a": 6, "b": 6, "c": 6})
    table["group"] = table.index % 6
    split = splits.ensure(Fixed(tmp_path, table), fractions=(0.6, 0.2, 0.2))
    assert split.counts().to_numpy().tolist() == [[4, 1, 1]] * 3


@pytest.mark.parametrize("seed", range(24))
def test_a_class_of_three_groups_is_in_all_three_splits_whatever_the_shape(tmp_path, seed):
    rng = np.random.default_rng(seed)
    sizes = {f"c{number:02}": int(rng.integers(4, 16)) for number in range(rng.integers(2, 12))}
    table = rows(sizes)
    if seed % 3 == 0:  # groups span classes
        table["group"] = rng.integers(0, 5 + len(table) // 4, len(table))
    else:  # of one to five images of a class
        table["group"] = table["label"] + "-" + rng.integers(0, 6, len(table)).astype(str)
    enough = groups_of_each_class(table)
    table = table[table["label"].map(enough) >= 3].reset_index(drop=True)
    assert table["label"].nunique() > 1
    frame = splits.ensure(Fixed(tmp_path, table), fractions=(0.6, 0.2, 0.2)).frame
    assert frame.groupby("group")["split"].nunique().max() == 1
    for name in splits.NAMES:
        assert set(groups_of_each_class(frame, name).index) == set(frame["label"])


def test_a_divided_group_is_reported(tmp_path):
    data = Fixed(tmp_path, rows({"a": 120, "b": 120}, group_size=4))
    grouped, random = (splits.ensure(data, method=name) for name in ("grouped", "random"))
    train = set(random.of("train")["group"])
    leaking = sum(group in train for group in random.of("test")["group"])
    assert f"{leaking} test images are in a group with training images" in random.sentence()
    assert "in a group with" not in grouped.sentence()


def test_an_unknown_method_is_refused(tmp_path):
    with pytest.raises(
        DarkroomError,
        match="one of grouped, random, source, source_val, 'runs of N', 'fold K of N' or .*'gruped'",
    ):
        splits.ensure(Fixed(tmp_path, rows({"a": 50, "b": 50})), method="gruped")


def test_a_limit_takes_so_many_images_a_class(tmp_path):
    split = splits.ensure(Fixed(tmp_path, rows({"a": 200, "b": 50, "c": 10})), limit_per_class=20)
    assert split.frame["label"].value_counts().to_dict() == {"a": 20, "b": 20, "c": 10}


def test_one_class_against_the_rest(tmp_path):
    table = rows({"Photo": 30, "Text": 30, "Sketch": 30})
    split = splits.ensure(Fixed(tmp_path, table), target="label:Photo")
    assert split.class_names == ["Photo", "rest"]
    assert split.counts().sum(axis=1).to_dict() == {"Photo": 30, "rest": 60}
    whole = splits.ensure(
        Fixed(tmp_path, table)
    )  # both tell on the same images, so that they can be compared
    assert split.frame["split"].equals(whole.frame["split"])


def test_another_label_column_can_be_the_target(tmp_path):
    assert splits.ensure(
        Fixed(tmp_path, rows({"a": 50, "b": 50})), target="attr_type"
    ).class_names == ["mono", "poly"]


def test_targets_that_cannot_be_learnt_are_refused():
    with pytest.raises(DarkroomError, match="Received: 'atr_type'. Did you mean 'attr_type'"):
        targets.truth(rows({"a": 5, "b": 5}), "atr_type")
    with pytest.raises(DarkroomError, match="at least two classes. Received 1: a"):
        targets.truth(rows({"a": 5}))
    with pytest.raises(DarkroomError, match="'c' is no class of label; its classes: a, b"):
        targets.truth(rows({"a": 5, "b": 5}), "label:c")
