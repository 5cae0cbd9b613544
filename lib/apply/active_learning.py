"""Active learning: which new pictures to label first, their labels, and the data set they join.

`9_apply` leaves a table of answers for pictures without labels. Somebody labels the most useful
ones in the browser; `join` makes a data set of the old images and the newly labelled ones, with the
old test images still in the test split, so that `gain` can say what the new labels are worth.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import files, paths
from lib.data import dataset as datasets
from lib.data import intake
from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.evaluation.predictions import Predictions

FILE = "labelled.jsonl"
"""In the data set's folder: one line for every label given, the later over the earlier."""
POOL = 400
"""The most uncertain pictures among which diversity is looked at."""
_FOLDER = "labelled"
_Z = 1.959964


def order(
    probabilities: np.ndarray, features: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Returns the rows of `probabilities` (n, classes), the most useful to label first, int64 (n,).

    Among the `POOL` most uncertain pictures (by entropy) the next is always the one whose
    uncertainty times its distance to all those before it is largest; the others follow by
    uncertainty.

    Args:
        probabilities: calibrated, rows sum to 1.
        features: gives float (k, d) for some rows, in which similar pictures are close;
            without it only the probabilities tell how alike two pictures are.

    Source: Zhdanov 2019, Diverse mini-batch active learning; Sener and Savarese 2018, Active
    learning for convolutional neural networks: a core-set approach (farthest-first traversal).
    """
    shares = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1)
    entropy = -(shares * np.log(shares)).sum(axis=1) / np.log(max(2, shares.shape[1]))
    by_entropy = np.argsort(-entropy, kind="stable")
    pool, rest = by_entropy[:POOL], by_entropy[POOL:]
    if len(pool) < 3:
        return by_entropy
    places = np.sqrt(shares[pool])  # Euclidean distance of these is Hellinger's
    if features is not None:
        looks = np.asarray(features(pool), np.float64)
        looks = looks - looks.mean(axis=0)
        spread = np.sqrt((looks**2).sum(axis=1).mean())
        places = np.hstack([places, looks / max(spread, 1e-9)])
    chosen = [0]
    nearest = np.linalg.norm(places - places[0], axis=1)
    for _ in range(1, len(pool)):
        score = entropy[pool] * nearest
        score[chosen] = -1
        best = int(score.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(places - places[best], axis=1))
    return np.concatenate([pool[chosen], rest])


def read(dataset: Dataset, folder: Path) -> dict[str, dict[str, Any]]:
    """Returns path -> the last line about it, for the pictures of one folder.

    A line holds `path` (relative to `folder`), `label` (None for a picture that was skipped or
    whose label was taken back) and `skipped`.
    """
    known: dict[str, dict[str, Any]] = {}
    for line in _lines(dataset):
        if line["folder"] == str(folder):
            known[line["path"]] = line
    return known


def append(
    dataset: Dataset, folder: Path, path: str, *, label: str | None, skipped: bool = False
) -> None:
    """Notes a label, flushed to the disk before this returns. A label of None takes it back."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": at, "folder": str(folder), "path": path, "label": label, "skipped": skipped}
    file = dataset.folder / FILE
    if file.is_file() and not file.read_bytes().endswith(b"\n"):  # torn by a full disk
        with file.open("ab") as torn:
            torn.write(b"\n")
    files.append_line(file, json.dumps(line, ensure_ascii=False))


def labelled(dataset: Dataset) -> list[dict[str, Any]]:
    """Returns the standing labels of all folders, one a picture, by folder and path."""
    last = {(line["folder"], line["path"]): line for line in _lines(dataset)}
    return [last[key] for key in sorted(last) if last[key]["label"] is not None]


def join(dataset: Dataset, *, splits: Mapping[str, str] | None = None) -> Dataset:
    """Returns a new data set, `<name>_labelled`, of the kept images of `dataset` and all pictures
    labelled for it.

    Its files are hard links where the disk allows it and copies elsewhere; the old data set stays
    as it is. `images.csv` names the label, the split and the source of each.

    Args:
        dataset: the data set that the labels were given for.
        splits: path -> train, val or test of the old images, those of the model's run; an image
            that it lacks, and every new picture, goes to train.

    Raises:
        DarkroomError: nothing has been labelled, or a labelled picture is gone.
    """
    new = labelled(dataset)
    if not new:
        raise DarkroomError(f"Nothing has been labelled for the data set {dataset.name!r} yet.")
    name = _free_name(dataset.name)
    raw = paths.dataset(name) / "raw"
    table = dataset.accepted()[["path", "label"]].rename(columns={"path": "image"})
    division = [(splits or {}).get(path, "train") for path in table["image"]]
    rows = table.assign(split=division, source=dataset.name).to_dict("records")
    with files.directory(raw) as aside:
        for row in rows:
            _place(dataset.raw / row["image"], aside / row["image"])
        for line in new:
            file = Path(line["folder"]) / line["path"]
            if not file.is_file():
                raise DarkroomError(f"The labelled picture {str(file)!r} is gone; put it back.")
            short = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:12]
            image = f"{_FOLDER}/{short}{file.suffix.lower()}"
            _place(file, aside / image)
            source = Path(line["folder"]).name
            row = {"image": image, "label": line["label"], "split": "train", "source": source}
            rows.append(row)
        pd.DataFrame(rows).to_csv(aside / "images.csv", index=False)
    return intake.bring(str(raw / "images.csv"), name=name)


def gain(before: Sequence[Predictions], after: Sequence[Predictions]) -> dict[str, float] | None:
    """Returns how much better some models are than others on the images that both were tested on.

    `num` images, `before` and `after` (accuracies; of an image that several models were tested on,
    their mean), and `difference` with its 95 % interval over images (`low`, `high`). All are judged
    by the labels of `after`, which differ on `relabelled` images from those of `before`. It speaks
    of these trained models. None where they share no test image.

    Source: Agresti and Min 2005, Simple improved confidence intervals for comparing matched
    proportions; for means of several models, their adjustment of the sums.
    """
    sides = [[table.split("test") for table in side] for side in (before, after)]
    old, label = (_by_path([_named(part, part.truth) for part in side]).last() for side in sides)
    first, second = (_share_correct(side, label) for side in sides)
    shared = first.index.intersection(second.index)
    if shared.empty:
        return None
    first, second = first[shared], second[shared]
    num, moved = len(shared), second - first
    difference = moved.sum() / (num + 2)
    spread = np.sqrt((moved**2).sum() + 1 - (num + 2) * difference**2) / (num + 2)
    return {
        "num": num,
        "relabelled": int((old[shared] != label[shared]).sum()),
        "before": float(first.mean()),
        "after": float(second.mean()),
        "difference": float(moved.mean()),
        "low": float(difference - _Z * spread),
        "high": float(difference + _Z * spread),
    }


def _share_correct(tables: Sequence[Predictions], label: pd.Series) -> pd.Series:
    """The share of models that name an image's label, by path, of the images that have one."""
    named = [_named(table, table.predicted) for table in tables]
    known = [row[row.index.isin(label.index)] for row in named]
    return _by_path([row.eq(label[row.index]) for row in known]).mean()


def _by_path(parts: Sequence[pd.Series]) -> Any:
    return pd.concat(parts).groupby(level=0)


def _named(table: Predictions, codes: np.ndarray) -> pd.Series:
    return pd.Series(np.asarray(table.class_names, object)[codes], index=table.frame["path"])


def _lines(dataset: Dataset) -> list[dict[str, Any]]:
    file = dataset.folder / FILE
    lines = []
    for number, text in enumerate(file.read_bytes().splitlines() if file.is_file() else [], 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue  # a line that a full disk has torn
        kinds = {"folder": str, "path": str, "label": str | None}
        known = isinstance(line, dict)
        if not known or not all(isinstance(line.get(key), kinds[key]) for key in kinds):
            raise DarkroomError(f"Line {number} of {file} is damaged; restore it from a backup.")
        lines.append(line)
    return lines


def _free_name(name: str) -> str:
    base, taken = f"{name}_{_FOLDER}", datasets.names()
    numbered = (f"{base}_{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([base], numbered) if free not in taken)


def _place(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(origin, target)
