"""The prediction table of a run, from which all metrics, figures and verdicts are computed.

One row an image: `path`, `split`, `label` (the true class by name; for multilabel the list of
names), `group` (near-duplicates share one) and one float32 column `p_<class name>` a class. The
table says its own kind, classes and data hash, so that rows of different data never meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lib import files
from lib.errors import DarkroomError, check_choice, few, suggest

if TYPE_CHECKING:
    import pyarrow

KINDS = ("probability", "multilabel", "score")
SPLITS = ("train", "val", "test")
COLUMNS = ("path", "split", "label", "group")
"""Every table has these, and one column a class."""
TOLERANCE = 1e-4
"""Largest difference of a row's sum from 1 (float16 softmax stays well within it)."""

THRESHOLD = 0.5
"""Least probability of a present label, unless validation sets another."""

_BLOCK = 65_536  # rows looked at together, so that a million rows of 200 classes never exist twice


@dataclass(frozen=True)
class Predictions:
    """A checked prediction table; `truth` and `predicted` are indices into `class_names`.

    `evaluated` holds what Keras' own evaluate said of the test images, by metric; the audit holds
    it against the table. `thresholds` are those of the whole table in one of its splits.
    """

    frame: pd.DataFrame
    class_names: tuple[str, ...]
    kind: str = "probability"
    data_hash: str = ""
    run: str = ""
    target: str = "label"
    evaluated: Mapping[str, float] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def split(self, name: str) -> Predictions:
        """The rows of one split ("train", "val" or "test"). Raises DarkroomError when there are
        none.
        """
        if name not in SPLITS:
            raise DarkroomError(f"A split is one of {', '.join(SPLITS)}. Received: {name!r}.")
        if name not in self._parts:
            rows = self.frame[(self.frame["split"] == name).to_numpy()].reset_index(drop=True)
            if rows.empty:
                raise DarkroomError(
                    f"The predictions of {self.run or 'this run'} hold no rows of split {name!r}."
                )
            thresholds = self.label_thresholds if self.kind == "multilabel" else ()
            self._parts[name] = replace(self, frame=rows, thresholds=thresholds)
        return self._parts[name]

    @cached_property
    def _parts(self) -> dict[str, Predictions]:
        return {}  # a split is asked for again and again, and keeps what it has computed

    @property
    def splits(self) -> list[str]:
        """The splits that have rows, in the order train, val, test."""
        present = set(self.frame["split"].unique())
        return [name for name in SPLITS if name in present]

    @cached_property
    def truth(self) -> np.ndarray:
        """int64 (n,): the index of each image's true class."""
        self._refuse_multilabel()
        codes = pd.Index(self.class_names).get_indexer(self.frame["label"])
        return codes.astype(np.int64)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 (n, classes), columns in the order of `class_names`; a view of the table where
        pandas allows it.
        """
        return self.frame[probability_columns(self.class_names)].to_numpy(
            dtype=np.float32, copy=False
        )

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 (n,): the class of the highest probability; the first one of equals."""
        self._refuse_multilabel()
        return _by_block(self.probabilities, lambda block: block.argmax(axis=1)).astype(np.int64)

    @cached_property
    def confidence(self) -> np.ndarray:
        """float32 (n,): the probability of the predicted class."""
        return _by_block(self.probabilities, lambda block: block.max(axis=1))

    @cached_property
    def truths(self) -> np.ndarray:
        """bool (n, classes): which classes each image bears; exactly one but for multilabel."""
        if self.kind != "multilabel":
            return self.truth[:, None] == np.arange(len(self.class_names))
        place = {name: index for index, name in enumerate(self.class_names)}
        borne = np.zeros((len(self), len(place)), dtype=bool)
        for row, names in enumerate(self.frame["label"]):
            borne[row, [place[name] for name in names]] = True
        return borne

    @cached_property
    def label_thresholds(self) -> tuple[float, ...]:
        """For each class of a multilabel table the threshold with the highest F1 on validation.

        It lies halfway to the next lower probability. It is `THRESHOLD` without validation rows and
        for a class that none of them has.
        """
        if self.thresholds:
            return self.thresholds
        val = replace(self, frame=self.frame[(self.frame["split"] == "val").to_numpy()])
        pairs = zip(val.probabilities.T, val.truths.T, strict=True)
        return tuple(_best_f1_threshold(column, truth) for column, truth in pairs)

    @cached_property
    def present(self) -> np.ndarray:
        """bool (n, classes): the classes of each image of a multilabel table by its thresholds."""
        return self.probabilities >= np.asarray(self.label_thresholds)

    @property
    def groups(self) -> np.ndarray:
        """int64 (n,): the near-duplicate group of each image."""
        return self.frame["group"].to_numpy()

    def _refuse_multilabel(self) -> None:
        if self.kind == "multilabel":
            raise DarkroomError(
                f"{self.run or 'This table'} is multilabel: an image has no single class."
            )


def _best_f1_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        return THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    ordered, hits = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(truth) + 1) + truth.sum())
    f1[:-1][ordered[:-1] == ordered[1:]] = -1  # no threshold separates equal probabilities
    best = int(f1.argmax())
    following = ordered[best + 1] if best + 1 < len(truth) else 0.0
    return float((ordered[best] + following) / 2)


def table(
    paths: Sequence[str],
    *,
    splits: Sequence[str],
    labels: Sequence[str] | Sequence[Sequence[str]],
    groups: Sequence[int],
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """The prediction table of n images, sorted by path.

    `paths` are relative to raw, `labels` are names out of `class_names` (lists of names for
    multilabel), `probabilities` is (n, classes) in their order.

    Raises:
        DarkroomError: the lengths differ.
    """
    probabilities = np.asarray(probabilities, dtype=np.float32)
    if probabilities.ndim != 2 or probabilities.shape != (len(paths), len(class_names)):
        raise DarkroomError(
            f"`probabilities` must have one row a path and one column a class, ({len(paths)}, "
            f"{len(class_names)}). Received shape: {probabilities.shape}."
        )
    named = {"splits": splits, "labels": labels, "groups": groups}
    for name, values in named.items():
        if len(values) != len(paths):
            raise DarkroomError(
                f"`{name}` must be as long as `paths` ({len(paths)}). Received: {len(values)}."
            )
    frame = pd.DataFrame(
        {
            "path": list(paths),
            "split": list(splits),
            "label": list(labels),
            "group": np.asarray(groups, dtype=np.int64),
        }
    )
    scores = pd.DataFrame(probabilities, columns=probability_columns(class_names))
    return pd.concat([frame, scores], axis=1).sort_values("path", kind="stable", ignore_index=True)


def write(path: Path, frame: pd.DataFrame, metadata: dict[str, Any]) -> None:
    """Writes a table after the same checks that `read` makes, so that no run leaves a table that
    cannot be read.

    `metadata` holds `class_names` and `data_hash`, and may hold `kind` (default probability),
    `run`, `target` and `evaluated`.
    """
    metadata = {"kind": "probability", "run": "", "target": "label", **metadata}
    _checked(frame, metadata, str(path))
    files.write_parquet(path, frame, metadata=metadata)


def read(path: Path, *, class_names: Sequence[str] | None = None) -> Predictions:
    """The checked table of one run.

    Args:
        class_names: the classes it must have, where the caller knows them.

    Raises:
        DarkroomError: the file is missing, truncated or no prediction table; classes are others; a
            path is missing or there twice; a value is NaN; a row of kind probability does not sum
            to 1; a label is unknown.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    if not path.is_file():
        raise DarkroomError(
            f"There is no prediction table {path}: the run has not finished, or this is no run's "
            "folder."
        )
    try:
        arrow = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DarkroomError(
            f"{path} cannot be read as parquet; it is truncated or damaged. Repeat the run."
        ) from error
    noted = _noted(arrow.schema.metadata)
    if noted is None:
        raise DarkroomError(
            f"{path} is no prediction table: it does not say its kind, classes and data hash."
        )
    _check_types(arrow.schema, str(path))
    checked = _checked(arrow.to_pandas(split_blocks=False, self_destruct=True), noted, str(path))
    if class_names is not None and tuple(class_names) != checked.class_names:
        raise DarkroomError(
            f"{path} holds other classes. Expected: {few(class_names)}. Received: "
            f"{few(checked.class_names)}."
        )
    return checked


def probability_columns(class_names: Sequence[str]) -> list[str]:
    """The names of the probability columns, `p_<class name>`."""
    return [f"p_{name}" for name in class_names]


def _noted(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    try:
        noted = json.loads((metadata or {})[b"darkroom"])
    except (KeyError, ValueError, RecursionError):
        return None
    return noted if isinstance(noted, dict) else None


def _checked(frame: pd.DataFrame, metadata: dict[str, Any], where: str) -> Predictions:
    for key in ("class_names", "data_hash"):
        if key not in metadata:
            raise DarkroomError(f"{where} does not say its `{key}`.")
    _check_class_names(metadata["class_names"], where)
    class_names = tuple(metadata["class_names"])
    kind = metadata.get("kind", "probability")
    check_choice("kind", kind, KINDS, where=where)
    expected = [*COLUMNS, *probability_columns(class_names)]
    missing = [name for name in expected if name not in frame.columns]
    extra = [name for name in frame.columns if name not in expected]
    if missing or extra or len(class_names) != len(set(class_names)):
        raise DarkroomError(
            f"{where}: the columns do not fit the classes {few(class_names)}. "
            f"Missing: {few(missing)}. Not expected: {few(extra)}."
        )
    checked = Predictions(
        frame=frame,
        class_names=class_names,
        kind=kind,
        data_hash=str(metadata["data_hash"]),
        run=str(metadata.get("run", "")),
        target=str(metadata.get("target", "label")),
        evaluated=metadata.get("evaluated") or {},
    )
    _check_columns(checked, where)
    _check_values(checked, where)
    return checked


def _by_block(values: np.ndarray, of_block: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.concatenate([of_block(block) for _, block in blocks(values)])


def _check_class_names(names: object, where: str) -> None:
    """Raises DarkroomError unless these are the names of at least one class."""
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise DarkroomError(f"{where}: `class_names` must be a list of names. Received: {names!r}.")


def _check_types(schema: pyarrow.Schema, where: str) -> None:
    """Raises DarkroomError for a column of a Parquet file whose values are no texts, whole numbers
    or probabilities.
    """
    from pyarrow import types as kinds

    def is_text(kind: pyarrow.DataType) -> bool:
        plain = kind.value_type if kinds.is_dictionary(kind) else kind
        return kinds.is_string(plain) or kinds.is_large_string(plain)

    wanted = dict.fromkeys(("path", "split"), is_text) | {"group": kinds.is_integer}
    wanted["label"] = lambda kind: is_text(
        kind.value_type if kinds.is_list(kind) or kinds.is_large_list(kind) else kind
    )
    for column in schema:
        fits = wanted.get(
            column.name, kinds.is_floating if column.name.startswith("p_") else lambda kind: True
        )
        if not fits(column.type):
            raise DarkroomError(
                f"{where}: the column {column.name!r} holds values of type {column.type}, which it "
                "must not."
            )


def _check_columns(predictions: Predictions, where: str) -> None:
    """Raises DarkroomError for a row without path or group, a path that is there twice, an unknown
    split or label.
    """
    frame = predictions.frame
    if frame.empty:
        raise DarkroomError(f"{where} holds no rows.")
    bad_rows = {
        "has no path": frame["path"].isna(),
        "holds a path that is there twice": frame["path"].duplicated(),
        f"names a split other than {', '.join(SPLITS)}": ~frame["split"].isin(SPLITS),
        "has no group": frame["group"].isna(),
        "has a label that is no class": _unknown_label(predictions),
    }
    for what, bad in bad_rows.items():
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            content = frame.iloc[row][list(COLUMNS)].to_dict()
            raise DarkroomError(
                f"{where}, row {row} {what}: {content} ({int(bad.sum())} such rows)."
            )


def _check_values(predictions: Predictions, where: str) -> None:
    """Raises DarkroomError for NaN, for probabilities outside 0 to 1, and for rows that do not sum
    to 1.
    """
    for start, block in blocks(predictions.probabilities):
        problems = {"holds NaN or infinity": ~np.isfinite(block).all(axis=1)}
        if predictions.kind != "score":
            outside = ((block < 0) | (block > 1)).any(axis=1)
            problems["holds a probability outside 0 to 1"] = outside
        with np.errstate(invalid="ignore"):
            sums = block.sum(axis=1, dtype=np.float64)
        if predictions.kind == "probability":
            problems["does not sum to 1"] = np.abs(sums - 1) > TOLERANCE
        for what, bad in problems.items():
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise DarkroomError(
                    f"{where}, row {start + row} ({predictions.frame['path'].iloc[start + row]}) "
                    f"{what}; its sum is {sums[row]:.6g}."
                )


def blocks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, contiguous rows) until all rows of `values` have passed."""
    for start in range(0, len(values), _BLOCK):
        yield start, np.ascontiguousarray(values[start : start + _BLOCK])


def _unknown_label(predictions: Predictions) -> pd.Series:
    labels, known = predictions.frame["label"], set(predictions.class_names)
    if predictions.kind == "multilabel":
        return labels.map(
            lambda names: (
                isinstance(names, str) or not np.iterable(names) or not known.issuperset(names)
            )
        )
    if labels.dtype == object:  # lists, say, of which `isin` finds some by the chance of a hash
        return ~labels.map(lambda name: isinstance(name, str) and name in known)
    return ~labels.isin(known)


MARK = " folded"
"""Ends the data hash of a folded table, whose labels are no longer those that were hashed."""


def fold(
    predictions: Predictions, groups: Mapping[str, str], *, rest: str | None = None
) -> Predictions:
    """The same images with coarser classes; a group's probability is the sum of its classes'.

    Args:
        predictions: a table of kind probability.
        groups: class name to group name; the group names, sorted, are the new classes.
        rest: the group of every class that `groups` does not name; without it each must be named.

    Raises:
        DarkroomError: scores or several labels an image, an unknown class, one without a group, or
            only one group.
    """
    if predictions.kind != "probability":
        raise DarkroomError(
            f"Only probabilities can be added up. Received kind {predictions.kind!r} "
            f"({predictions.run})."
        )
    names = list(predictions.class_names)
    strange = [name for name in groups if name not in names]
    lacking = [] if rest is not None else [name for name in names if name not in groups]
    if strange or lacking:
        raise DarkroomError(
            f"Each of the classes {', '.join(names)} needs a group. "
            f"Without one: {', '.join(lacking) or 'none'}. Unknown: {', '.join(strange) or 'none'}."
            f"{suggest(strange[0], names) if strange else ''}"
        )
    owner = {name: groups.get(name, rest) for name in names}
    coarse = sorted(set(owner.values()))
    if len(coarse) < 2:
        raise DarkroomError(f"Folding must leave two groups at least. Received: {coarse}.")
    member = np.array(
        [[owner[name] == group for group in coarse] for name in names], dtype=np.float32
    )  # (classes, groups)
    summed = np.clip(predictions.probabilities @ member, 0, 1)
    frame = predictions.frame.drop(columns=probability_columns(names)).reset_index(drop=True)
    frame["label"] = frame["label"].map(owner)
    frame = pd.concat([frame, pd.DataFrame(summed, columns=probability_columns(coarse))], axis=1)
    about = {
        "data_hash": predictions.data_hash + MARK,
        "target": predictions.target + MARK,
        "evaluated": {},
    }
    return replace(predictions, frame=frame, class_names=tuple(coarse), **about)
