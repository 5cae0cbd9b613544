import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from lib.cleaning import perceptual_hash
from lib.cleaning.duplicates import Comparer, CopyVerifier, common, detail, group, stars
from lib.cleaning.perceptual_hash import orient, perceptual_hashes


def small(pixels):
    return cv2.resize(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA
    )


@pytest.fixture(scope="module")
def photographs():
    """Twelve unlike pieces of two real photographs, uint8 (213, 213, 3)."""
    return [
        np.ascontiguousarray(image[top : top + 213, left : left + 213])
        for image in load_sample_images().images
        for top in (0, 213)
        for left in (0, 213, 426)
    ]


def edited(pixels):
    side = len(pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), 2, 1)
    return {
        "jpeg": np.asarray(Image.open(buffer)),
        "half": cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "lighter": np.clip(pixels * 1.15, 0, 255).astype(np.uint8),
        "darker": (pixels * 0.85).astype(np.uint8),
        "cropped": pixels[4:, 4:],
        "turned": cv2.warpAffine(pixels, turn, (side, side), borderMode=cv2.BORDER_REFLECT),
        "mirrored": pixels[:, ::-1],
        "quarter": np.rot90(pixels),
        "upside": np.rot90(pixels, 2),
    }


def scanned(pictures):
    thumbs = [small(np.ascontiguousarray(picture)) for picture in pictures]
    return pd.DataFrame(
        {
            "path": [f"{number:03d}" for number in range(len(pictures))],
            "problem": pd.Series([None] * len(pictures), dtype="str"),
            "pixels": [f"p{number}" for number in range(len(pictures))],
            "width": 213,
            "height": 213,
            "contrast": 0.8,
            "hashes": [perceptual_hashes(thumb).tobytes() for thumb in thumbs],
            "thumb": range(len(thumbs)),
        }
    ), np.stack(thumbs)


def test_hashes_of_all_orientations_are_those_of_the_turned_picture(photographs):
    thumb = small(photographs[1])
    hashes = perceptual_hashes(thumb)
    for turn in range(8):
        own = perceptual_hashes(np.ascontiguousarray(orient(thumb, turn)))[0]
        assert int(np.bitwise_count(own ^ hashes[turn])) <= 1  # but for rounding


@pytest.mark.parametrize(
    "columns, workers, few", [(1, 1, 20_000), (8, 2, 20_000), (1, 1, 0), (8, 2, 0)]
)
def test_the_search_finds_exactly_what_brute_force_finds(columns, workers, few, monkeypatch):
    monkeypatch.setattr(perceptual_hash, "MAX_ALL_PAIRS", few)  # 0: by parts, also for these few
    monkeypatch.setattr(perceptual_hash, "ROWS", 5)
    monkeypatch.setattr(perceptual_hash, "COLUMNS", 7)  # so that blocks have edges
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (600, columns), dtype=np.uint64)
    for copy in range(0, 600, 3):  # plant neighbours at every distance around the limit
        for bit in random.choice(64, copy % 15, replace=False):
            hashes[copy, -1] ^= np.uint64(1) << np.uint64(bit)
        hashes[copy, -1] = hashes[copy - 1, 0] ^ np.uint64(
            random.integers(0, 2 ** (copy % 15), dtype=np.uint64)
        )
    expected = {
        (i, j, turn, int(bits))
        for turn in range(columns)
        for i in range(600)
        for j, bits in enumerate(np.bitwise_count(hashes[i, 0] ^ hashes[:, turn]))
        if j > i and bits <= 10
    }
    found = perceptual_hash.pairs(hashes, distance=10, workers=workers)
    assert {tuple(row) for row in found.tolist()} == expected and len(found) == len(expected) > 50


@pytest.mark.parametrize("number", [21_000, 100_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("distance", [0, 3, 10, 14])
def test_two_near_hashes_agree_in_a_part_but_for_its_allowance(number, distance):
    found = perceptual_hash.parts(number, distance)
    bits = np.concatenate([part for part, _ in found])
    assert len(set(bits.tolist())) == len(bits) and bits.max() < 64  # no bit is in two parts
    assert (
        sum(allowance + 1 for _, allowance in found) > distance
    )  # to be apart in all takes more than that


def test_nothing_to_search():
    assert perceptual_hash.pairs(np.empty((0, 8), np.uint64), distance=10).shape == (0, 4)


def test_edited_copies_join_and_others_do_not(photographs):
    pictures, subject = [], []
    for number, photograph in enumerate(photographs):
        for picture in (photograph, *edited(photograph).values()):
            pictures.append(picture)
            subject.append(number)
    table = group(*scanned(pictures)).assign(subject=subject)
    assert (table.groupby("group")["subject"].nunique() == 1).all()  # no group of distinct pictures
    joined = (
        table.groupby("subject")["group"].agg(lambda groups: groups.value_counts().iloc[0]).sum()
    )
    assert joined / len(pictures) >= 0.97
    assert table["likeness"].between(0.85, 1.0001).all()


def test_what_all_pictures_share_does_not_make_them_alike():
    random = np.random.default_rng(0)
    layout = np.full((64, 64), 150.0)
    layout[::16] = 20  # bars, as on every solar cell
    layout[:, :3] = 240
    marks = [cv2.GaussianBlur(random.normal(0, 75, (64, 64)), (0, 0), 1.5) for _ in range(150)]
    thumbs = np.stack([np.clip(layout + mark, 0, 255).astype(np.uint8) for mark in marks])
    a, b = detail(thumbs[0]), detail(thumbs[1])
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.85  # plain correlation calls them the same
    comparer = Comparer(thumbs)
    assert comparer.likeness(0, 1, 0) < 0.5
    again = np.clip(layout + marks[0] + random.normal(0, 2, (64, 64)), 0, 255).astype(np.uint8)
    assert Comparer(np.concatenate([thumbs, again[None]])).likeness(0, 150, 0) > 0.85


def test_a_picture_with_nothing_of_its_own_is_like_no_other():
    random = np.random.default_rng(1)
    layout = np.full((64, 64), 150.0)
    layout[::16] = 20
    thumbs = np.stack(
        [
            np.clip(layout + random.normal(0, 2, (64, 64)), 0, 255).astype(np.uint8)
            for _ in range(120)
        ]
    )
    assert Comparer(thumbs).likeness(0, 1, 0) == 0.0


def test_few_pictures_share_nothing_that_could_be_known():
    assert common(np.zeros((99, 64, 64), np.uint8), side=64).shape[1] == 0


def test_there_is_no_chaining():
    pairs, scores = np.array([[0, 1], [1, 2], [2, 3], [3, 4]]), np.array([0.9, 0.95, 0.9, 0.9])
    leader, likeness = stars(6, pairs, scores)
    assert leader.tolist() == [
        1,
        1,
        1,
        3,
        3,
        5,
    ]  # 1 and 2 tie at two partners each; 1 has the likest with the lower number
    assert likeness.tolist() == [0.9, 1.0, 0.95, 1.0, 0.9, 1.0]


def test_small_and_flat_pictures_join_only_by_their_pixels(photographs):
    table, thumbs = scanned([photographs[0], photographs[0], photographs[0]])
    assert group(table, thumbs)["group"].tolist() == [0, 0, 0]
    assert group(table.assign(width=20), thumbs)["group"].tolist() == [0, 1, 2]
    assert group(table.assign(contrast=0.01), thumbs)["group"].tolist() == [0, 1, 2]
    assert group(table.assign(width=20, pixels=["x", "y", "x"]), thumbs)["group"].tolist() == [
        0,
        1,
        0,
    ]


def grey(pixels):
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize("edit", ["jpeg", "half", "lighter", "darker", "cropped", "turned"])
def test_an_edited_photograph_is_a_copy(photographs, edit):
    pictures = [grey(photographs[4]), grey(edited(photographs[4])[edit])]
    assert CopyVerifier(pictures.__getitem__).compare(0, 1, 0)[0]


@pytest.mark.parametrize("turn", range(8))
def test_a_copy_is_recognised_in_every_orientation(photographs, turn):
    picture = grey(photographs[7])
    turned = [np.ascontiguousarray(orient(picture, each)) for each in range(8)]
    found = [
        each
        for each in range(8)
        if CopyVerifier([picture, turned[turn]].__getitem__).compare(0, 1, each)[0]
    ]
    assert len(found) == 1 and np.array_equal(orient(turned[turn], found[0]), picture)


def photographed(scene, *, seed):
    """The same scene taken once more: it hardly moved, but the grain of the film is another."""
    random = np.random.default_rng(seed)
    return np.clip(scene + random.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def smooth():
    blobs = [
        cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 900, (240, 240)), (0, 0), 6)
        for seed in range(3)
    ]
    return [np.clip(128 + blob, 0, 255) for blob in blobs]


def test_two_photographs_of_one_thing_are_no_copies(smooth):
    one, other = photographed(smooth[0], seed=1), photographed(smooth[0], seed=2)
    small = [
        cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA) for picture in (one, other)
    ]
    assert Comparer(np.stack(small)).likeness(0, 1, 0) > 0.95  # at 64 px there is no difference
    assert not CopyVerifier([one, other].__getitem__).compare(0, 1, 0)[0]
    packed = cv2.imdecode(
        cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_GRAYSCALE
    )
    assert CopyVerifier([one, packed].__getitem__).compare(0, 1, 0)[0]


def test_look_alikes_are_named_and_grouped_only_if_asked(smooth):
    pictures = [
        photographed(smooth[0], seed=1),
        photographed(smooth[0], seed=2),
        photographed(smooth[1], seed=3),
    ]
    pictures.append((pictures[0] * 0.9).astype(np.uint8))
    table, thumbs = scanned([np.repeat(picture[..., None], 3, axis=2) for picture in pictures])
    read = dict(zip(table["path"], pictures, strict=True)).get
    found = group(table, thumbs, read=read)
    assert found["group"].tolist() == [0, 1, 2, 0] and found["look_alike"].notna().sum() >= 1
    assert set(found["look_alike"].dropna()) <= {"000", "001", "003"}
    assert group(table, thumbs, read=read, grouping="look_alikes")["group"].tolist() == [0, 0, 1, 0]


def test_a_picture_that_has_gone_has_no_copy(photographs):
    assert not CopyVerifier([grey(photographs[0]), None].__getitem__).compare(0, 1, 0)[0]
