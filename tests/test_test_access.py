"""Test images are counted by image, over all splits and studies."""

import pandas as pd
import pytest

from lib.errors import DarkroomError
from lib.evaluation import test_set_log


def store(folder, name, **splits):
    """A split table: `store(folder, "s0", train="abc", test="de")`."""
    rows = [(path, split) for split, paths in splits.items() for path in paths]
    (folder / "splits").mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["path", "split"])
    frame.to_parquet(folder / "splits" / f"{name}.parquet")


def outcomes(reuse):
    return {row["check"]: row["outcome"] for row in reuse.checks()}


def test_images_that_other_splits_tested_are_counted(tmp_path):
    store(tmp_path, "s0", train="abcdef", test="ghij")
    store(tmp_path, "s1", train="cdefij", test="abgh")
    first = test_set_log.record(tmp_path, "s0", "study/train/a-s0")
    assert (first.num_test, first.num_reads, first.seen_as_test) == (4, 1, 0)
    assert outcomes(first)["test_images_reused"] == "held"
    second = test_set_log.record(tmp_path, "s1", "study/train/a-s1")
    assert (second.num_reads, second.num_other_splits, second.seen_as_test) == (1, 1, 2)
    assert outcomes(second)["test_images_reused"] == "note"
    assert "2 of the 4 test images (50 %)" in second.checks()[1]["message"]


def test_twenty_split_seeds_do_not_each_say_read_once(tmp_path):
    images = "abcdefghijklmnopqrst"
    for seed in range(20):
        turned = images[seed:] + images[:seed]
        store(tmp_path, f"s{seed}", train=turned[5:], test=turned[:5])
        reuse = test_set_log.record(tmp_path, f"s{seed}", f"study/train/a-s{seed}")
    assert (reuse.seen_as_test, reuse.num_other_splits) == (5, 8)
    assert outcomes(reuse)["test_images_reused"] == "note"


def test_one_set_under_two_names_is_one_set_of_test_images(tmp_path):
    for name, prefix in (("first", "a/"), ("second", "b/")):
        (tmp_path / name).mkdir()
        paths = [prefix + letter for letter in "abcdefgh"]
        pd.DataFrame({"path": paths, "pixels": list("ABCDEFGH")}).to_parquet(
            tmp_path / name / "manifest.parquet"
        )
        store(tmp_path / name, "s0", train=paths[:4], val=paths[4:5], test=paths[5:])
    store(tmp_path / "second", "s1", train=paths[5:], test=paths[:4])
    test_set_log.record(tmp_path / "first", "s0", "study/tune/all", role="tuning")
    test_set_log.record(tmp_path / "first", "s0", "study/train/a-s0")
    again = test_set_log.record(tmp_path / "second", "s0", "other/train/a-s0")
    assert (again.num_test, again.num_reads, again.num_other_splits) == (3, 1, 1)
    assert (again.seen_as_test, again.seen_in_tuning) == (3, 0)
    apart = test_set_log.record(tmp_path / "second", "s1", "other/train/a-s0")
    assert (apart.num_test, apart.seen_as_test, apart.seen_in_tuning) == (4, 0, 4)
    assert outcomes(apart)["test_images_tuned_on"] == "note"


def test_tuning_on_one_split_and_judging_on_another_is_flagged(tmp_path):
    store(tmp_path, "s0", train="abcd", val="ef", test="ghij")
    store(tmp_path, "s1", train="ghij", val="ab", test="cdef")
    test_set_log.record(tmp_path, "s0", "study/tune/all", role="tuning")
    own = test_set_log.record(tmp_path, "s0", "study/train/a-s0")
    assert (own.tuned_in_study, outcomes(own)["test_images_tuned_on"]) == (0, "held")
    other = test_set_log.record(tmp_path, "s1", "study/train/a-s1")
    assert (other.tuned_in_study, outcomes(other)["test_images_tuned_on"]) == (4, "flagged")
    assert "chosen on 4 of the 4 test images" in other.checks()[0]["message"]
    foreign = test_set_log.record(tmp_path, "s1", "another/train/a-s1")
    assert (foreign.seen_in_tuning, outcomes(foreign)["test_images_tuned_on"]) == (4, "note")


def test_settings_of_a_search_are_judged_on_what_it_left_untouched(tmp_path):
    store(tmp_path, "s0", train="abcd", val="ef", test="ghij")
    store(tmp_path, "s1", train="ghij", val="ab", test="cdef")
    test_set_log.refuse_tuned(tmp_path, "s0", tuned_on="s0")
    with pytest.raises(DarkroomError, match="chosen on 4 of the 4 test images .*tuned_on = 's0'"):
        test_set_log.refuse_tuned(tmp_path, "s1", tuned_on="s0")


def test_every_run_that_read_test_images_is_remembered(tmp_path):
    for run in ("study/train/a-s1", "study/train/a-s0", "study/train/a-s1"):
        test_set_log.record(tmp_path, "s0", run)
    test_set_log.record(tmp_path, "s0", "study/tune/all", role="tuning")
    assert test_set_log.runs(tmp_path) == ["study/train/a-s0", "study/train/a-s1"]


def test_torn_lines_and_missing_tables_do_not_stop_a_run(tmp_path):
    (tmp_path / test_set_log.LOG).write_bytes(
        b'{"split": "s0", "run": "study/tr\n[1]\nnull\n\xff\n'
    )
    reuse = test_set_log.record(tmp_path, "s0", "study/train/a-s0")
    assert (reuse.num_test, reuse.num_reads) == (0, 5)
    assert outcomes(reuse)["test_images_reused"] == "not_judged"


def test_an_unknown_role_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`role` must be one of test, tuning. Received: 'look'"):
        test_set_log.record(tmp_path, "s0", "study/train/a-s0", role="look")
