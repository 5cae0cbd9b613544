"""One data set of tiny pictures, cleaned and split, and one healthy run on it: what the mistakes
are made with.
"""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from lib import models, notebooks, runs
from lib.cleaning import clean as cleaning
from lib.data import augmentation, intake, pixel_cache, splits
from lib.training import finalise, strategies
from lib.training.fit import Settings

TINTS = {
    "leaf": (0, 110, 0),
    "sea": (0, 0, 110),
    "brick": (110, 0, 0),
}  # not in the order of their names
SETTINGS = Settings(
    epochs=6,
    batch_size=16,
    learning_rate=0.01,
    augmentation="flip",
    class_weights="balanced",
    seed=3,
)


def picture(seed, tint, *, shift=0):
    """32 px of blobs unlike any other seed's, tinted as the class is; `shift` makes the next frame
    of the same film.
    """
    blobs = np.random.default_rng(seed).integers(0, 140, (7, 7, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(blobs).resize((32, 32), Image.Resampling.BICUBIC))
    return np.clip(large.astype(int) + tint + shift, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("DARKROOM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def raw(home):
    """A folder a class of 26 pictures, the last six of them three frames of two films; and what
    goes wrong in folders.
    """
    folder = home / "pictures"
    for place, (name, tint) in enumerate(TINTS.items()):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(picture(100 * place + number, tint)).save(
                folder / name / f"{number:02}.png"
            )
        for frame in range(6):
            same = picture(100 * place + 50 + frame // 3, tint, shift=2 * (frame % 3))
            Image.fromarray(same).save(folder / name / f"film {frame // 3} frame {frame % 3}.png")
    both = Image.fromarray(picture(900, TINTS["sea"]))
    both.save(folder / "sea" / "poster.png")
    both.save(folder / "leaf" / "poster.png")  # one film, two genres
    (folder / "sea" / "torn.jpg").write_bytes(b"\xff\xd8\xff half a picture")
    Image.fromarray(picture(901, TINTS["brick"])).save(
        folder / "brick" / "named wrongly.jpg", "PNG"
    )
    return folder


@pytest.fixture(scope="session")
def cleaned(raw):
    return cleaning.clean(intake.bring(str(raw)), workers=1)


@pytest.fixture(scope="session")
def dataset(cleaned):
    return cleaned.dataset


@pytest.fixture(scope="session")
def split(dataset):
    return splits.ensure(dataset, fractions=(0.5, 0.2, 0.3))


@pytest.fixture(scope="session")
def material(dataset, split):
    return strategies.TrainingData(
        pixel_cache.cache(dataset, side=16), split, dataset.folder / "features"
    )


def network(class_names):
    keras.utils.set_random_seed(1)
    return models.build(
        "custom", class_names=class_names, image_side=16, dropout=0.0, preset="triage", filters=(8,)
    )


@pytest.fixture(scope="session")
def healthy(dataset, split, material):
    """A whole run: `trained`, `predictions`, `result`, and the bytes of every picture that was
    augmented.
    """
    augmented, augment = set(), augmentation.augment

    def noted(images, *rest):
        augmented.update(image.tobytes() for image in images)
        return augment(images, *rest)

    given = notebooks.find("3_train").defaults()
    run = runs.start(
        "3_train",
        given | {"study": "mistakes", "arm": "healthy", "data": dataset.name},
        data=dataset,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "augment", noted)
        trained = strategies.train(
            "scratch", network(split.class_names), material, settings=SETTINGS, run=run
        )
    found = finalise.score(trained, material, run=run)
    result = finalise.conclude(trained, split, found, dataset=dataset, run=run)
    return SimpleNamespace(
        trained=trained, predictions=found, result=result, augmented=augmented, run=run
    )


@pytest.fixture
def another_run(healthy, tmp_path):
    (tmp_path / "logs").mkdir()
    return dataclasses.replace(
        healthy.run, folder=tmp_path / "logs", checkpoint_folder=tmp_path / "checkpoints"
    )
