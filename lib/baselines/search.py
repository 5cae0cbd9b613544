"""The search for a baseline's parameters: candidates are fitted on train and judged on validation.

Rows are on disk line by line, so a search that was stopped continues. Test images are not used.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas
import psutil
import threadpoolctl

from lib import files, hashing, processes
from lib.baselines import estimators
from lib.baselines.data import Part, Size, ThumbnailData, format_size, parse_size
from lib.baselines.estimators import Fit
from lib.batch import machine
from lib.errors import check_choice
from lib.evaluation import formatting, statistics

METHODS = ("grid", "refined", "halving", "genetic")
"""`grid` fits every combination; the others are `lib.tuning`'s."""
LOG = "trials.jsonl"
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
    "time": "float64",
}
"""Columns of the results table with their types.

`n` is the number of train images, `categories` and `parameters` are JSON, `time` is the Unix time
of the fit. Accuracies have Wilson's 95 % interval; if multilabel, they are exact matches.
"""

Candidate = tuple[Size, dict[str, Any], float]
"""Size, parameters, and the share of the train images to fit on."""
_MEMORY_SHARE = 0.5
_SIZE = "size"  # methods search the thumbnail's size like a parameter
_FACTOR, _RUNGS = 3, 3


class ResultLog:
    """Known rows by their key; with a folder, each row is on disk before anything follows."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / LOG
        self.rows: dict[str, dict[str, Any]] = {}
        if self._path is not None and self._path.is_file():
            for line in self._path.read_bytes().split(b"\n"):
                try:
                    key, row = json.loads(line)
                except ValueError:  # a torn line
                    continue
                self.rows[key] = row
            whole = "".join(json.dumps([key, row]) + "\n" for key, row in self.rows.items())
            files.write_text(self._path, whole)  # a torn last line would spoil the next one

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Records a row."""
        if self._path is not None:
            files.append_line(self._path, json.dumps([key, row]))
        self.rows[key] = row


def run(
    name: str,
    grid: Mapping[str, Sequence[Any]],
    sizes: Sequence[Size],
    data: ThumbnailData,
    *,
    method: str = "grid",
    num_trials: int = 0,
    seed: int = 0,
    log: ResultLog | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Returns the results table, best on validation first.

    Args:
        name: a model of `estimators.MODELS`.
        grid: the values of each parameter, as `estimators.parameter_grid` returns them.
        sizes: of the thumbnails.
        data: images, labels and split.
        method: one of METHODS.
        num_trials: candidates that `genetic` fits; 0 for half of the grid.
        seed: for initial weights, the order of images and random proposals.
        log: rows of an earlier session.
        jobs: parallel fits; None for all cores, fewer if memory is short.
        progress: called with (rows done, rows in all).

    Raises:
        DarkroomError: for an unknown method.
    """
    check_choice("search", method, METHODS)
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    candidates = [(size, values, 1.0) for size in sizes for values in combinations]
    evaluate = _Evaluator(name, data, seed, ResultLog() if log is None else log, jobs, progress)
    if method == "grid" or len(candidates) == 1:
        return results_table(evaluate(candidates), data)
    num_trials = num_trials or len(candidates) // 2 or 1
    return results_table(_search(method, name, grid, sizes, evaluate, num_trials, seed), data)


def results_table(rows: Iterable[Mapping[str, Any]], data: ThumbnailData) -> pandas.DataFrame:
    """Returns the results table: fits on all train images first, best on validation first."""
    categories = json.dumps(data.class_names, ensure_ascii=False)
    whole = [{"time": 0.0, **row, "split": data.split.id, "categories": categories} for row in rows]
    table = pandas.DataFrame(whole, columns=list(COLUMNS)).astype(COLUMNS)
    ascending = {"n": False, "val_accuracy": False, "val_log_loss": True}
    if data.multilabel:  # of rare labels most images have none, so that exact matches say little
        del ascending["val_accuracy"]
    return table.sort_values(
        list(ascending), ascending=list(ascending.values()), kind="stable", ignore_index=True
    )


def write_table(folder: Path, table: pandas.DataFrame) -> Path:
    """Writes `trials.csv` into a run's folder, with time stamps in ISO 8601; returns its path."""
    path = Path(folder) / "trials.csv"
    stamps = pandas.to_datetime(table["time"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    files.write_csv(path, table.assign(time=stamps))
    return path


def varied_parameters(table: pandas.DataFrame) -> pandas.DataFrame:
    """Returns one column a parameter that varies among the rows; of a single row, all of them."""
    values = pandas.DataFrame([json.loads(cell) for cell in table["parameters"]], index=table.index)
    if len(table) == 1:
        return values
    return values[[name for name in values if values[name].map(json.dumps).nunique() > 1]]


def display_table(table: pandas.DataFrame, *, measure: str = "accuracy") -> pandas.DataFrame:
    """Returns the results table for reading: varied parameters, and numbers with intervals."""
    pixels = [f"{row.height} × {row.width}" for row in table.itertuples()]
    columns = pandas.DataFrame({"pixels": pixels}, index=table.index)
    if table["n"].nunique() > 1:
        columns["train images"] = table["n"]
    columns = columns.join(varied_parameters(table))
    for name, title in (("train", "train"), ("val", "validation")):
        parts = (table[f"{name}_{part}"] for part in ("accuracy", "low", "high"))
        columns[f"{measure}, {title} (95 %)"] = [
            formatting.interval("accuracy", *numbers) for numbers in zip(*parts, strict=True)
        ]
    columns["validation log loss"] = table["val_log_loss"].round(3)
    columns["seconds"] = table["seconds"].round(2)
    return columns if table["converged"].all() else columns.assign(converged=table["converged"])


def verdict(table: pandas.DataFrame, *, measure: str = "accuracy") -> str:
    """Returns in words the best row, how many others are as good, and values at an end."""
    best = table.iloc[0]
    table = table[table["n"] == best["n"]]
    first = varied_parameters(table).astype(object).iloc[0]
    values = "".join(f"{name} {value}, " for name, value in first.items())
    message = (
        f"The best of {len(table)} on validation: {best['height']} x {best['width']} pixels, "
        f"{values}{measure} {100 * best['val_accuracy']:.1f} % (95 % "
        f"{100 * best['val_low']:.1f} % to {100 * best['val_high']:.1f} %)."
    )
    num_near = int((table["val_accuracy"].iloc[1:] >= best["val_low"]).sum())
    if num_near:
        verb = "others are" if num_near > 1 else "other is"
        message += f" {num_near} {verb} within that interval: the difference is not significant."
    parameters = pandas.DataFrame([json.loads(row) for row in table["parameters"]])
    for name in parameters:
        column = parameters[name]
        tried = column.unique() if pandas.api.types.is_numeric_dtype(column) else []
        if len(tried) > 2 and column.iloc[0] in (min(tried), max(tried)):
            end = "lowest" if column.iloc[0] == min(tried) else "highest"
            message += f" Its {name} is the {end} value tried: extend the grid."
    return message


class _Evaluator:
    """Fits candidates in parallel, each at most once."""

    def __init__(
        self,
        name: str,
        data: ThumbnailData,
        seed: int,
        log: ResultLog,
        jobs: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._name, self._data, self._seed, self._log = name, data, seed, log
        self._jobs, self._progress = jobs, progress

    def __call__(self, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Returns the row of each candidate, in their order."""
        keys = [self._key(*candidate) for candidate in candidates]
        missing = {
            key: candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in self._log.rows
        }
        num_done = len(candidates) - len(missing)
        for key, row in self._fit(missing):
            self._log.add(key, row)
            num_done += 1
            if self._progress:
                self._progress(num_done, len(candidates))
        return [self._log.rows[key] for key in keys]

    def _key(self, size: Size, parameters: Mapping[str, Any], share: float) -> str:
        values = json.dumps(parameters, sort_keys=True)
        data = self._data
        where = (format_size(size), values, str(self._seed), str(share), data.resize)
        return hashing.digest(self._name, *where, data.data_hash())

    def _fit(self, candidates: Mapping[str, Candidate]) -> Iterator[tuple[str, dict[str, Any]]]:
        if not candidates:
            return
        jobs = min(len(candidates), self._num_cores(), self._most_in_memory(candidates.values()))
        threads = max(1, self._num_cores() // jobs)
        # Threads would run a network's Python code one after the other.
        prefer = "processes" if self._name == "mlp" and jobs > 1 else "threads"
        longest_first = sorted(candidates, key=lambda key: _cost(candidates[key]), reverse=True)
        calls = (
            joblib.delayed(_fit_candidate)(
                key, candidates[key], *self._parts(candidates[key]), self._name, self._seed, threads
            )
            for key in longest_first
        )
        parallel = joblib.Parallel(
            jobs, prefer=prefer, return_as="generator_unordered", pre_dispatch=jobs + 1
        )
        yield from parallel(calls)

    def _parts(self, candidate: Candidate) -> tuple[Part, Part]:
        size, _, share = candidate
        train, val = (self._data.part(name, size) for name in ("train", "val"))
        return train if share == 1 else train.sample(share, seed=self._seed), val

    def _num_cores(self) -> int:
        return self._jobs or processes.num_cores()

    def _most_in_memory(self, candidates: Iterable[Candidate]) -> int:
        num = len(self._data.paths("train"))
        features = max(_num_features(size) for size, *_ in candidates)
        square = 3 * 8 * num**2 if self._name == "rbf_exact" else 0
        needed = 6 * 8 * num * features + square + 200_000_000
        available = min(psutil.virtual_memory().available, machine.total_memory())
        return max(1, int(_MEMORY_SHARE * available / needed))


def _num_features(size: Size) -> int:
    return 3 * size[0] * size[1]


def _cost(candidate: Candidate) -> float:
    """An estimate of the work, to start the longest first."""
    size, parameters, share = candidate
    units = [_num_features(size), *parameters.get("hidden_layers", [1])]
    return share * parameters.get("epochs", 1) * sum(a * b for a, b in itertools.pairwise(units))


def make_row(
    fit: Fit, name: str, size: Size, train: Part, val: Part, *, seed: int
) -> dict[str, Any]:
    """Returns the numbers of one fitted model, without what all rows of a search share."""
    row: dict[str, Any] = {"kind": name, "seed": seed, "n": len(train.X)}
    row |= {"height": size[0], "width": size[1]}
    row["parameters"] = json.dumps(fit.parameters, sort_keys=True)
    for prefix, part in (("train", train), ("val", val)):
        logits = estimators.outputs(fit.pipeline, part.X)
        correct = estimators.is_correct(logits, part.y)
        low, high = statistics.wilson(int(correct.sum()), len(correct))
        row[f"{prefix}_accuracy"] = float(correct.mean())
        row |= {f"{prefix}_low": low, f"{prefix}_high": high}
    row["val_log_loss"] = estimators.log_loss(
        logits, val.y, estimators.fit_temperature(fit.pipeline, val)
    )
    return row | {"seconds": fit.seconds, "converged": fit.converged, "time": round(time.time(), 1)}


def _fit_candidate(
    key: str, candidate: Candidate, train: Part, val: Part, name: str, seed: int, threads: int
) -> tuple[str, dict[str, Any]]:
    size, parameters, _ = candidate
    # OpenMP threads are those of the boosted trees; BLAS has one thread a fit.
    with threadpoolctl.threadpool_limits(threads, user_api="openmp"):
        fit = estimators.fit(name, parameters, train, seed=seed)
        return key, make_row(fit, name, size, train, val, seed=seed)


def _search(
    method: str,
    name: str,
    grid: Mapping[str, Sequence[Any]],
    sizes: Sequence[Size],
    evaluate: _Evaluator,
    num_trials: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Fits what a method of `lib.tuning` proposes.

    Halving starts with few epochs of a network, or a part of the train images for other models.
    """
    from lib.tuning import methods
    from lib.tuning.search_method import Ended, Plan

    values = {_SIZE: [format_size(size) for size in sizes], **grid}
    budget = _FACTOR ** (_RUNGS - 1) if method == "halving" else 1
    if "epochs" in values and method == "halving":
        budget = int(max(values.pop("epochs")))
    fixed = {key: choices[0] for key, choices in values.items() if len(choices) == 1}
    searched = {key: choices for key, choices in values.items() if key not in fixed}
    space = _space(searched, ranges=method in ("refined", "genetic"))
    options = {
        "refined": {"points": max(3, *(len(choices) for choices in grid.values()))},
        "halving": {"factor": _FACTOR, "first_trials": int(min(space.size(), 81))},
    }
    plan = Plan(
        space,
        method,
        objective="",
        goals={"val_accuracy": "max"},
        epochs=budget,
        num_trials=num_trials if method == "genetic" else 0,
        seed=seed,
        options=options.get(method, {}),
    )
    searcher = methods.make(plan)
    rows: dict[str, dict[str, Any]] = {}
    while proposals := list(iter(searcher.ask, None)):
        candidates = [
            _candidate({**fixed, **proposal.values}, proposal.epochs, budget, "epochs" in grid)
            for proposal in proposals
        ]
        fitted = evaluate(candidates)
        for proposal, candidate, row in zip(proposals, candidates, fitted, strict=True):
            rows[str(candidate)] = row
            searcher.tell(Ended(proposal.number, [row["val_accuracy"]]))
    return list(rows.values())


def _space(values: Mapping[str, Sequence[Any]], *, ranges: bool) -> Any:
    """The values as a search space; with `ranges`, numbers become a range."""
    from lib.tuning import space

    table: dict[str, Any] = {}
    for name, choices in values.items():
        numeric = all(type(value) in (int, float) for value in choices)
        low, high = (min(choices), max(choices)) if numeric else (0, 0)
        log = low > 0 and high / low >= 10
        table[name] = (
            {"low": low, "high": high, "log": log} if ranges and numeric else list(choices)
        )
    return space.read(table, where="`grid`")


def _candidate(values: dict[str, Any], epochs: int, budget: int, network: bool) -> Candidate:
    rest = {name: value for name, value in values.items() if name != _SIZE}
    if network and "epochs" not in rest:
        return parse_size(values[_SIZE]), {**rest, "epochs": epochs}, 1.0
    return parse_size(values[_SIZE]), rest, epochs / budget
