"""The feature space: label columns, probes, maps and their quality, held to values that can be
checked by hand.
"""

import numpy as np
import pandas as pd
import pytest

from lib.embeddings import label_columns, probes, reduction
from lib.errors import DarkroomError


def clumps(num=240, length=24, kinds=3, *, apart=4.0, seed=0):
    generator = np.random.default_rng(seed)
    kind = np.arange(num) % kinds
    return (
        generator.normal(0, apart, (kinds, length))[kind] + generator.normal(size=(num, length))
    ).astype(np.float16), kind


def divided(num):
    return np.array(["train", "train", "val", "test"])[np.arange(num) // 3 % 4]


def test_years_become_bands_and_rare_classes_are_left_out():
    years = pd.Series([*range(1800, 1900), None])
    bands = label_columns.classes(years)
    assert bands.nunique() == 5
    assert bands.iloc[0] == "1800–1819"
    assert pd.isna(bands.iloc[-1])
    styles = pd.Series(["a"] * 6 + ["b"] * 5 + [" ", None])
    assert label_columns.classes(styles).tolist()[:6] == ["a"] * 6
    assert label_columns.classes(styles)[6:].isna().all()


def test_columns_with_one_class_are_no_question():
    table = pd.DataFrame(
        {
            "label": ["a"] * 6 + ["b"] * 6,
            "attr_one": "same",
            "attr_kind": ["x", "y"] * 6,
            "path": range(12),
        }
    )
    assert label_columns.names(table) == ["label", "attr_kind"]
    assert label_columns.title("attr_module_type") == "module type"


def test_a_probe_finds_clumps_and_not_chance():
    features, kind = clumps(num=720, kinds=6)
    split = np.array(["train", "train", "val", "test"])[np.arange(720) // 6 % 4]
    found = probes.fit_probe(features, kind, splits=split, num_permutations=99)
    assert found.accuracy == 1.0 and found.is_significant
    assert found.p == 0.01  # none of 99 shuffles does as well
    assert found.majority == pytest.approx(1 / 6)
    assert found.permuted == pytest.approx(1 / 6, abs=0.08)
    luck = probes.fit_probe(
        features, np.random.default_rng(1).permutation(kind), splits=split, num_permutations=99
    )
    assert not luck.is_significant


def test_a_probe_of_more_features_than_images_is_the_same_ridge_regression():
    features, kind = clumps(num=48, length=100)
    split = np.where(np.arange(48) < 36, "train", "test")
    found = probes.fit_probe(features, kind, splits=split, num_permutations=19)
    rows = features[:36].astype(np.float64)
    scaled = (features.astype(np.float64) - rows.mean(axis=0)) / rows.std(axis=0)
    known, wanted = scaled[:36], np.eye(3)[kind[:36]] - 1 / 3
    gram = known.T @ known
    values = np.linalg.eigvalsh(gram)
    strength = 0.1 * values[values > values.max() * 1e-6].mean()  # without val
    weights = np.linalg.solve(gram + strength * np.eye(100), known.T @ wanted)
    np.testing.assert_array_equal(
        found.is_correct, (scaled[36:] @ weights).argmax(axis=1) == kind[36:]
    )


def test_a_probe_needs_something_held_out():
    features, kind = clumps(num=24)
    with pytest.raises(DarkroomError, match="0 test rows"):
        probes.fit_probe(features, kind, splits=["train"] * 24)


def test_features_that_are_all_the_same_are_refused_and_tiny_ones_are_not():
    features, kind = clumps()
    split = divided(240)
    with pytest.raises(DarkroomError, match="needs features that differ"):
        probes.fit_probe(np.zeros_like(features), kind, splits=split)
    whole = probes.fit_probe(features, kind, splits=split, num_permutations=1)
    tiny = probes.fit_probe(
        features.astype(np.float32) * 2.0**-30, kind, splits=split, num_permutations=1
    )
    assert tiny.accuracy == whole.accuracy and (tiny.is_correct == whole.is_correct).all()
    table = pd.DataFrame(
        {"label": np.array(["a", "b", "c"])[kind], "split": split, "group": range(240)}
    )
    asked = probes.probe_table(
        {"trained": features, "untrained": np.zeros_like(features)}, table, num_permutations=19
    )
    assert asked["column"].tolist() == ["label", "split"] and "before" not in asked


def test_near_duplicates_widen_the_interval():
    values = np.tile([0.0, 1.0], 50)
    alone = probes.mean_interval(values, np.arange(100))
    together = probes.mean_interval(np.sort(values), np.arange(100) // 10)
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_quality_is_what_scikit_learn_says_and_1_for_the_space_itself():
    from sklearn.manifold import trustworthiness

    features, _ = clumps(num=90)
    places = features[:, :2].astype(np.float32)
    found = reduction.measure(features, places, neighbours=7).means()
    wide, flat = features.astype(np.float64), places.astype(np.float64)
    assert found["trustworthiness"] == pytest.approx(
        trustworthiness(wide, flat, n_neighbors=7), abs=2e-3
    )
    assert found["continuity"] == pytest.approx(
        trustworthiness(flat, wide, n_neighbors=7), abs=2e-3
    )
    assert reduction.measure(places, places, neighbours=7).means() == dict.fromkeys(
        reduction.MEASURES, 1.0
    )


def test_quality_of_five_on_a_line_by_hand():
    line = np.array([[0.0], [1.1], [2.3], [3.6], [5.0]])
    swapped = np.array(
        [[3.6, 0], [1.1, 0], [2.3, 0], [0.0, 0], [5.0, 0]]
    )  # images 0 and 3 change places
    found = reduction.measure(line, swapped, neighbours=1)
    # The nearest before: 1 0 1 2 3; on the map: 2 3 1 1 0. Kept: that of image 2 alone.
    assert found.preservation.tolist() == [0, 0, 1, 0, 0]
    # Ranks before of those on the map: 2 3 1 3 4, each less 1; the norm is 2 / (1 · (2·5 - 3·1 -
    # 1)).
    np.testing.assert_allclose(found.trustworthiness, 1 - np.array([1, 2, 0, 2, 3]) / 3, atol=1e-6)


def test_a_better_map_is_called_better_only_where_the_interval_says_so():
    features, _ = clumps(num=120)
    good = reduction.reduce(features, "pca").places
    bad = np.random.default_rng(0).normal(size=good.shape)
    found = {"pca": reduction.measure(features, good), "umap": reduction.measure(features, bad)}
    [told] = probes.map_sentences(found, {"pca": "PCA", "umap": "UMAP"})
    assert told.startswith("UMAP against PCA: trustworthiness") and told.count("(worse") == 3
    same = reduction.compare({"a": found["pca"], "b": found["pca"]}, first="a", second="b")
    assert all(row.low == row.value == row.high == 0 for row in same)


def test_principal_axes_are_those_of_the_covariance_with_fixed_signs():
    for shape in ((40, 12), (12, 40)):
        rows = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
        mean, axes = reduction.principal(rows, 3)
        expected = np.linalg.svd(rows - rows.mean(axis=0))[2][:3].T
        np.testing.assert_allclose(np.abs((expected * axes).sum(axis=0)), 1, atol=1e-4)
        assert (axes[np.abs(axes).argmax(axis=0), range(3)] > 0).all()


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_a_map_is_seeded_kept_and_takes_new_images(method, tmp_path, monkeypatch):
    features, kind = clumps(num=150)
    first = reduction.reduce(features[:120], method, seed=1, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(reduction, "_computed", None)  # a second time nothing is computed
        stored = reduction.reduce(features[:120], method, seed=1, folder=tmp_path)
    np.testing.assert_array_equal(stored.places, first.places)
    new = stored.place(features[120:])
    nearest = ((new[:, None] - first.places) ** 2).sum(axis=2).argmin(axis=1)
    assert (kind[nearest] == kind[120:]).mean() > 0.9
    [file] = tmp_path.glob("*.npz")
    file.write_bytes(
        file.read_bytes()[:200]
    )  # damaged: computed again, and the same seed gives the same map
    np.testing.assert_array_equal(
        reduction.reduce(features[:120], method, seed=1, folder=tmp_path).places, first.places
    )


def test_invalid_requestes_are_refused():
    features, _ = clumps(num=24)
    with pytest.raises(DarkroomError, match="Did you mean 'umap'"):
        reduction.reduce(features, "umop")
    with pytest.raises(DarkroomError, match="`option` must be one of perplexity"):
        reduction.reduce(features, "tsne", neighbours=3)
    with pytest.raises(DarkroomError, match="at least 12 images"):
        reduction.reduce(features[:5], "pca")
    with pytest.raises(DarkroomError, match="length 24"):
        reduction.reduce(features, "pca").place(features[:, :3])
    features[0, 0] = np.nan
    with pytest.raises(DarkroomError, match="finite"):
        reduction.reduce(features, "pca")


def test_a_map_whose_package_is_missing_is_left_out_or_refused(monkeypatch, capsys):
    monkeypatch.setattr(reduction.importlib.util, "find_spec", lambda name: None)
    assert reduction.installed(["pca", "umap", "tsne"]) == ["pca", "tsne"]
    assert capsys.readouterr().out == "Left out: UMAP. It needs: python -m pip install umap-learn\n"
    with pytest.raises(DarkroomError, match="no method that is installed"):
        reduction.installed(["umap"])
    with pytest.raises(DarkroomError, match="'umap' needs a package .* pip install umap-learn"):
        reduction.reduce(clumps(num=24)[0], "umap")


def test_every_column_is_asked_about_in_words_made_from_numbers():
    features, kind = clumps(num=480, kinds=6)
    noise = np.random.default_rng(0).normal(size=features.shape).astype(np.float16)
    other = np.random.default_rng(1).integers(2, size=480)
    labels = {"label": kind.astype(str), "attr_artist": other.astype(str)}
    table = pd.DataFrame({**labels, "split": divided(480), "group": range(480)})
    asked = probes.probe_table(
        {"trained": features, "untrained": noise}, table, num_permutations=39
    )
    assert asked["column"].tolist() == ["label", "attr_artist", "split"]
    assert asked["is_significant"].tolist() == [True, False, False]
    assert asked["trained_on"].tolist() == [True, False, False]
    assert not probes.probe_table({"frozen": features}, table, num_permutations=19)[
        "trained_on"
    ].any()
    first, second, third = probes.sentences(asked)
    assert first.startswith(
        "The trained network separates class (6 classes, which it was trained on): probe accuracy"
    )
    assert "more than the untrained network" in first
    assert second.startswith("The trained network does not significantly separate artist")
    assert third.startswith("Train and test images do not differ significantly")


def test_unrelated_labels_of_whole_groups_are_not_called_separated():
    """A coin for each of 32 groups of alike images: 5 % by chance, 20 % without the groups."""
    splits, group = (
        np.where(np.arange(32) % 4 == 0, "test", "train").repeat(8),
        np.arange(32).repeat(8),
    )
    significant = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        places = rng.normal(size=(32, 6)).repeat(8, axis=0) + 0.1 * rng.normal(size=(256, 6))
        coins = rng.integers(0, 2, 32).repeat(8)
        found = probes.measure_separation(places, coins, splits=splits, groups=group, shuffles=60)
        significant += found.is_significant
    assert significant <= 4


def test_labels_are_permuted_by_group():
    """Two images a group with one label: groups exchange labels and never split them."""
    codes = np.repeat([0, 1, 1, 0, 1], 2)
    groups = np.repeat([7, 3, 9, 1, 5], 2)
    for seed in range(5):
        permuted = probes.permute_by_group(codes, groups, np.random.default_rng(seed))
        assert sorted(permuted) == sorted(codes)
        assert all(len(set(permuted[groups == group])) == 1 for group in groups)
    alone = probes.permute_by_group(codes, np.arange(10), np.random.default_rng(0))
    assert sorted(alone) == sorted(codes) and alone.tolist() != codes.tolist()


def test_unrelated_labels_of_groups_are_rarely_separated():
    """Forty groups of ten equal images each; labels belong to groups and mean nothing."""
    rng, significant = np.random.default_rng(0), 0
    for trial in range(40):
        features = np.repeat(rng.normal(size=(40, 12)), 10, axis=0).astype(np.float32)
        labels = np.repeat(rng.integers(2, size=40), 10).astype(str)
        groups = np.repeat(np.arange(40), 10)
        splits = np.where(groups < 28, "train", "test")
        probe = probes.fit_probe(
            features, labels, splits=splits, groups=groups, num_permutations=39, seed=trial
        )
        significant += probe.p < 0.05
    assert significant <= 6  # 40 draws at 5 %: more than 6 has a probability of 0.4 %
