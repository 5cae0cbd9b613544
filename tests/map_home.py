"""A root folder with a data set of hostile names and one finished run of features over it, for
tests of the site.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from lib import files, hashing
from lib.cleaning import clean
from lib.data import dataset as datasets
from lib.data import intake, thumbnails
from lib.embeddings import map_record, reduction

CLASSES = ("<img src=x onerror=alert(1)>", "=1+1 \"quoted\" & 'odd'", "写真 🎨")
UNIT = ("odd@pictures", "features", "one-s0")
PLACE = "/".join(UNIT)
MODEL = "odd@pictures/train/tiny-s0"


def build(root: Path, *, each: int = 20) -> Path:
    """Writes the home below `root`, of which DARKROOM_HOME must already be set, and returns the
    folder of the run.
    """
    folder = root / "came" / "pictures"
    generator = np.random.default_rng(0)
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            coarse[..., kind] //= 3
            file = (
                folder
                / name
                / (f"=cmd|'{number}.png" if number % 2 else f"<b onclick=x>{number}.png")
            )
            Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(file)
    dataset = intake.bring(str(folder))
    clean.clean(dataset, verdicts={}, workers=1)
    table = dataset.manifest().sort_values("path", ignore_index=True)
    kind = table["label"].map({name: index for index, name in enumerate(CLASSES)}).to_numpy()
    num = len(table)
    table["attr_year"] = np.arange(num) + 1850
    table["split"] = np.array(["train", "train", "val", "test"])[np.arange(num) % 4]
    table["predicted"] = np.array(CLASSES, dtype=object)[
        np.where(np.arange(num) % 5 == 0, (kind + 1) % 3, kind)
    ]
    table["confidence"] = np.linspace(0.3, 1, num)
    table["verdict"] = np.where(table["predicted"] == table["label"], "right", "wrong")
    centres = generator.normal(0, 3, (3, 16))
    features = (centres[kind] + generator.normal(size=(num, 16))).astype(np.float16)
    spaces, maps = {}, {}
    for name, values in {
        "trained": features,
        "untrained": generator.normal(size=(num, 16)).astype(np.float16),
    }.items():
        place = dataset.folder / "features" / f"pool-{name}"
        place.mkdir(parents=True)
        np.save(place / "features.npy", values)
        spaces[name] = SimpleNamespace(name=name, folder=place, features=values, layer="pool")
        turned = reduction.reduce(values[:, ::-1], "pca")
        maps[name] = {"pca": reduction.reduce(values, "pca"), "tsne": turned}
    qualities = {
        name: reduction.measure(features, each.places) for name, each in maps["trained"].items()
    }
    kept = table.drop(columns=["reasons"])
    origin = SimpleNamespace(
        table=kept, target="label", parameters={"architecture": "custom"}, model_path=None
    )
    run = root / "logs" / Path(*UNIT)
    (run / "figures").mkdir(parents=True)
    Image.new("RGB", (40, 30), "white").save(run / "figures" / "maps.png")
    said = [f"The trained network separates {CLASSES[0]}."]
    map_record.write(
        run,
        dataset=dataset,
        origin=origin,
        spaces=spaces,
        maps=maps,
        qualities=qualities,
        sentences=said,
    )
    told = {
        "study": UNIT[0],
        "stage": UNIT[1],
        "unit": UNIT[2],
        "data": dataset.name,
        "figures": ["maps.png"],
        "metrics": {},
        "sentences": said,
        "key": {"parameters": {"note": "<script>alert(2)</script>"}},
    }
    (run / "key.json").write_text("{}")
    files.write_json(run / "result.json", told)
    (root / "secret.txt").write_text("the secret")
    return run


def train(root: Path) -> Path:
    """Writes a run with a network of a few weights over the same images, whose features a second
    run of features shows.
    """
    from lib import models
    from lib.evaluation import predictions
    from lib.models import predictor, serialization

    dataset = datasets.load("pictures")
    study, stage, unit = MODEL.split("/")
    model = models.build(
        "custom", class_names=sorted(CLASSES), image_side=16, filters=(4, 8), pool_after=(1, 2)
    )
    path = root / "checkpoints" / study / stage / unit / "model.keras"
    path.parent.mkdir(parents=True)
    serialization.save(model, path, card={"parameters": {"resize": "stretch"}})
    table = dataset.manifest().sort_values("path", ignore_index=True)
    split = np.array(["train", "train", "val", "test"])[np.arange(len(table)) % 4]
    kind = (
        table["label"].map({name: index for index, name in enumerate(sorted(CLASSES))}).to_numpy()
    )
    said = np.where(np.arange(len(table)) % 5 == 0, (kind + 1) % 3, kind)
    frame = predictions.table(
        table["path"],
        splits=split,
        labels=table["label"],
        groups=np.arange(len(table)),
        probabilities=np.eye(3)[said] * 0.7 + 0.1,
        class_names=sorted(CLASSES),
    )
    run = root / "logs" / study / stage / unit
    run.mkdir(parents=True)
    predictions.write(
        run / "predictions.parquet",
        frame,
        {"class_names": sorted(CLASSES), "data_hash": "h", "run": MODEL},
    )
    told = {
        "study": study,
        "stage": stage,
        "unit": unit,
        "data": dataset.name,
        "figures": [],
        "model_sha256": hashing.file(path),
        "class_names": sorted(CLASSES),
        "metrics": {"accuracy": 0.8, "val_accuracy": 0.8, "num_images": 15},
    }
    (run / "key.json").write_text("{}")
    files.write_json(run / "parameters.json", {"resize": "stretch"})
    files.write_json(run / "result.json", told)
    pictures = np.stack([thumbnails.of(dataset, each, side=16) for each in table["path"]])
    features = predictor.features(model, pictures, dtype="float16")
    place = dataset.folder / "features" / "pool-model"
    place.mkdir()
    np.save(place / "features.npy", features)
    space = SimpleNamespace(name="trained", folder=place, features=features, layer="pool")
    origin = SimpleNamespace(
        table=table.drop(columns=["reasons"]).assign(split=split),
        target="label",
        parameters={},
        model_path=path,
    )
    shown = root / "logs" / study / "features" / "tiny-s0"
    shown.mkdir(parents=True)
    map_record.write(
        shown,
        dataset=dataset,
        origin=origin,
        spaces={"trained": space},
        maps={"trained": {"pca": reduction.reduce(features, "pca")}},
        qualities={},
        sentences=[],
    )
    (shown / "key.json").write_text("{}")
    files.write_json(shown / "result.json", {"data": dataset.name, "figures": [], "metrics": {}})
    return path


def train_thumbnails(root: Path) -> str:
    """Writes a run with a linear model of 4 × 4 pixels, whose classes differ in how bright the left
    half is.

    Returns its place in `logs/`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from lib.baselines import data
    from lib.baselines import model as thumbnails
    from lib.evaluation import predictions

    names, num = sorted(CLASSES), 60
    kind = np.arange(num) % 3
    pictures = np.random.default_rng(0).integers(40, 80, (num, 4, 4, 3)).astype(np.uint8)
    pictures[:, :, :2] = np.array([60, 220, 140], np.uint8)[kind][:, None, None, None]
    pipeline = make_pipeline(LogisticRegression()).fit(data.flatten(pictures), kind)
    made = thumbnails.Model("logistic", pipeline, tuple(names), (4, 4))
    place = "odd@pictures/thumbnails/logistic-s0"
    path = root / "checkpoints" / place / thumbnails.NAME
    path.parent.mkdir(parents=True)
    thumbnails.save(made, path)
    split = np.array(["train", "val", "test"])[np.arange(num) // 3 % 3]
    frame = predictions.table(
        [f"{row}.png" for row in range(num)],
        splits=split,
        labels=np.array(names, object)[kind],
        groups=np.arange(num),
        probabilities=made.predict_proba(pictures),
        class_names=names,
    )
    run = root / "logs" / place
    run.mkdir(parents=True)
    predictions.write(
        run / "predictions.parquet", frame, {"class_names": names, "data_hash": "h", "run": place}
    )
    (run / "key.json").write_text("{}")
    told = {
        "figures": [],
        "metrics": {"accuracy": 1.0},
        "model_sha256": hashing.file(path),
        "class_names": names,
    }
    files.write_json(run / "result.json", told)
    return place
