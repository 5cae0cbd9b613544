"""The results of a search, one row a model that was fitted: kept line by line, so that a search
that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas

from lib import files, hashing
from lib.baselines.data import Material, Part, Size, told
from lib.baselines.fitting import Fit, log_loss, outputs, right, temperature
from lib.evaluation import analytic
from lib.reporting import text

JOURNAL = "trials.jsonl"
COLUMNS = {
    "kind": "string",
    "seed": "int64",
    "n": "int64",
    "split": "string",
    "height": "int64",
    "width": "int64",
    "categories": "string",
    "parameters": "string",
    "train_accuracy": "float64",
    "train_low": "float64",
    "train_high": "float64",
    "val_accuracy": "float64",
    "val_low": "float64",
    "val_high": "float64",
    "val_log_loss": "float64",
    "seconds": "float64",
    "converged": "bool",
}
"""Columns of the results table with their types. `n` counts train images, `categories` and
`parameters` are JSON; accuracies have Wilson's 95 % interval; for several classes an image accuracy
is the share with every class right.
"""


class Journal:
    """The rows that are known, by what they depend on; with a folder they are on the disk before
    anything follows from them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / JOURNAL
        self.rows: dict[str, dict[str, Any]] = {}
        if self._path is not None and self._path.is_file():
            for line in self._path.read_bytes().split(b"\n"):
                _take(line, self.rows)
            whole = "".join(json.dumps([key, row]) + "\n" for key, row in self.rows.items())
            files.write_text(
                self._path, whole
            )  # what a dying disk left of a last line would spoil the next

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Notes a row under its key."""
        if self._path is not None:
            files.append_line(self._path, json.dumps([key, row]))
        self.rows[key] = row


def _take(line: bytes, rows: dict[str, dict[str, Any]]) -> None:
    try:
        key, row = json.loads(line)
    except ValueError:
        return
    rows[key] = row


def key(
    kind: str,
    size: Size,
    parameters: Mapping[str, Any],
    material: Material,
    seed: int,
    *,
    share: float,
) -> str:
    """Returns what a row depends on, as a digest: model, size, values, seed, data and the share of
    train images.
    """
    values = json.dumps(parameters, sort_keys=True)
    return hashing.digest(
        kind, told(size), values, str(seed), str(share), material.resize, material.data_hash()
    )


def row(fit: Fit, kind: str, size: Size, train: Part, val: Part, *, seed: int) -> dict[str, Any]:
    """Returns the numbers of one fitted model, without what is the same for all of a search."""
    found: dict[str, Any] = {
        "kind": kind,
        "seed": seed,
        "n": len(train.X),
        "height": size[0],
        "width": size[1],
    }
    found["parameters"] = json.dumps(fit.parameters, sort_keys=True)
    for name, part in (("train", train), ("val", val)):
        said = outputs(fit.pipeline, part.X)
        correct = right(said, part.y)
        low, high = analytic.wilson(int(correct.sum()), len(correct))
        found |= {
            f"{name}_accuracy": float(correct.mean()),
            f"{name}_low": low,
            f"{name}_high": high,
        }
    found["val_log_loss"] = log_loss(said, val.y, temperature(fit.pipeline, val))
    return found | {"seconds": fit.seconds, "converged": fit.converged}


def frame(rows: Iterable[Mapping[str, Any]], material: Material) -> pandas.DataFrame:
    """Returns the results table in its columns and types, those of all train images first, the best
    on validation on top.
    """
    categories = json.dumps(material.class_names, ensure_ascii=False)
    whole = [{**row, "split": material.split.id, "categories": categories} for row in rows]
    found = pandas.DataFrame(whole, columns=list(COLUMNS)).astype(COLUMNS)
    order = {"n": False, "val_accuracy": False, "val_log_loss": True}
    return found.sort_values(
        list(order), ascending=list(order.values()), kind="stable", ignore_index=True
    )


def write(folder: Path, found: pandas.DataFrame) -> Path:
    """Writes `trials.csv` into a run's folder and returns its path."""
    path = Path(folder) / "trials.csv"
    files.write_text(path, found.to_csv(index=False, lineterminator="\n"))
    return path


def varied(found: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the values of each row that are not the same in all rows, a column each; of one row
    alone, all its values.
    """
    values = pandas.DataFrame([json.loads(text) for text in found["parameters"]], index=found.index)
    if len(found) == 1:
        return values
    return values[[name for name in values if values[name].map(json.dumps).nunique() > 1]]


def brief(found: pandas.DataFrame, *, measure: str = "accuracy") -> pandas.DataFrame:
    """Returns the results table for reading: what differs among its rows, and their numbers with
    intervals.
    """
    shown = pandas.DataFrame(
        {"pixels": [f"{row.height} × {row.width}" for row in found.itertuples()]}, index=found.index
    )
    if found["n"].nunique() > 1:
        shown["train images"] = found["n"]
    shown = shown.join(varied(found))
    for name, title in (("train", "train"), ("val", "validation")):
        numbers = zip(
            found[f"{name}_accuracy"], found[f"{name}_low"], found[f"{name}_high"], strict=True
        )
        told = [text.interval("accuracy", *each) for each in numbers]
        shown[f"{measure}, {title} (95 %)"] = told
    shown["validation log loss"] = found["val_log_loss"].round(3)
    shown["seconds"] = found["seconds"].round(2)
    return shown if found["converged"].all() else shown.assign(converged=found["converged"])


def verdict(found: pandas.DataFrame, *, measure: str = "accuracy") -> str:
    """Returns in words what was chosen, how many others validation cannot tell from it, and which
    value lies at an edge.
    """
    best = found.iloc[0]
    found = found[found["n"] == best["n"]]
    near = int((found["val_accuracy"].iloc[1:] >= best["val_low"]).sum())
    values = "".join(
        f"{name} {value}, " for name, value in varied(found).astype(object).iloc[0].items()
    )
    told = (
        f"The best of {len(found)} on validation: {best['height']} x {best['width']} pixels, "
        f"{values}{measure} "
        f"{100 * best['val_accuracy']:.1f} % (95 % {100 * best['val_low']:.1f} % to "
        f"{100 * best['val_high']:.1f} %)."
    )
    if near:
        told += f" {near} other{'s lie' if near > 1 else ' lies'} within that interval: these images do not tell them apart."
    values = pandas.DataFrame([json.loads(text) for text in found["parameters"]])
    for name in values:
        tried = values[name].unique() if pandas.api.types.is_numeric_dtype(values[name]) else []
        if len(tried) > 2 and values[name].iloc[0] in (min(tried), max(tried)):
            edge = "least" if values[name].iloc[0] == min(tried) else "greatest"
            told += f" Its {name} is the {edge} that was tried: try more."
    return told
