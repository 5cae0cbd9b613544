"""Which stored features `darkroom prune` counts as needed by nobody."""

import json
import os
import time

import map_home
import numpy as np
import pytest

from lib import files, paths
from lib.batch import prune
from lib.cleaning import clean
from lib.data import dataset as datasets
from lib.data import pixel_cache


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """The data set of `map_home`, whose only finished run shows the stores pool-trained and
    pool-untrained.
    """
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    map_home.build(tmp_path, each=6)
    return datasets.load("pictures")


def store(dataset, name, *, images="", space="", hours=2):
    folder = dataset.folder / "features" / name
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", np.zeros((12, 4), np.float16))
    files.write_json(folder / "engine.json", {"engine": "keras", "images": images})
    files.write_json(folder / "index.json", {"space": space})
    os.utime(folder, (time.time() - 3600 * hours,) * 2)
    return folder


def names(leftovers):
    return {each.path.name: each.reason for each in leftovers}


def test_what_a_map_shows_or_anybody_may_ask_for_again_stays(dataset):
    key = pixel_cache.key_of(
        dataset.accepted().sort_values("path", ignore_index=True), side=16, fit="stretch"
    )
    for name, images in (("whole", key), ("part", f"{key}-5-0123456789abcdef"), ("older", "")):
        store(dataset, name, images=images)
    store(dataset, "backbone", images=key, space="frozen")
    assert prune._stale_features(dataset) == []
    assert {path.name for path in prune._unshown_features(dataset)} == {
        "whole",
        "part",
        "older",
        "backbone",
    }  # not those of the map
    assert names(prune.find()) == {}
    assert set(names(prune.find(caches=True))) == {"whole", "part", "older", "backbone"}


def test_features_of_other_data_and_of_a_run_that_is_gone_are_counted_and_cleared(dataset, capsys):
    table = dataset.accepted().sort_values("path", ignore_index=True)
    before = pixel_cache.key_of(table, side=16, fit="stretch")
    old, part = (
        store(dataset, "old", images=before),
        store(dataset, "old-part", images=f"{before}-5-0123456789abcdef"),
    )
    clean.decide(dataset, [table["path"][0]], verdict="reject", by="test")
    gone, young = (
        store(dataset, "gone", space="trained"),
        store(dataset, "young", space="trained", hours=0.5),
    )
    assert names(prune.find()) == {
        "old": "features of data that has changed",
        "old-part": "features of data that has changed",
        "gone": "features of a network that no run shows any more",
    }
    assert prune.run(yes=True, caches=False, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["leftovers"]) == 3 and told["bytes"] > 3 * 12 * 4 * 2
    assert not old.exists() and not part.exists() and not gone.exists() and young.exists()
    shown = dataset.folder / "features" / "pool-trained"
    assert shown.exists()
    earlier = paths.logs() / ".earlier" / map_home.PLACE
    earlier.parent.mkdir(parents=True)
    files.write_json(shown / "index.json", {"space": "trained"})
    os.utime(shown, (time.time() - 7200,) * 2)
    paths.run(*map_home.UNIT).rename(
        earlier
    )  # the run was made anew, so nothing shows these features
    assert set(names(prune.find())) == {"pool-trained", earlier.name}
