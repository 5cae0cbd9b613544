"""The images of a data set as arrays for the browser, updated with every decision by hand.

A hundred thousand images must be on the screen within a second, so that what the grid filters and
sorts by travels as one block of arrays, and text, findings and pictures only for the images that
somebody looks at.
"""

from __future__ import annotations

import functools
import re
import threading
from typing import Any

import numpy as np
import pandas as pd

from lib import hashing
from lib.cleaning import clean, ledger
from lib.cleaning.findings import DESCRIPTIONS
from lib.data import dataset as datasets
from lib.data import manifest
from lib.data.dataset import Dataset
from lib.errors import DarkroomError
from lib.web import pictures
from lib.web.http import checked, matching, packed

BY = "data page"
"""The author of the page's entries in the ledger."""
MAX_ROWS = 300
"""Images described in one answer."""
NONE = 65_535
"""The code of a missing label."""
VERDICTS = manifest.VERDICTS
SPLITS = ("train", "val", "test")
_OPINION = re.compile(r"looks like (.+) \((\d+(?:\.\d+)?) %\)$", re.DOTALL)


class ImageTable:
    """The manifest, the findings and the decisions of one data set.

    `labels` are class names in the order of their codes; `verdict` and `label` are codes, one an
    image, and change with every decision. All methods may be called from several threads.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        frame = dataset.manifest()
        self.frame = frame
        self.paths = frame["path"].astype(str).to_numpy(object)
        self.version = hashing.digest(*_summary(frame))[:16]
        self._lock = threading.RLock()
        entries = ledger.read(dataset.folder)
        self._undoable = [act["entry"] for act in ledger.standing(entries) if act["by"] == BY]
        by_hand = ledger.state(entries, by_hand=True)
        self._row_of = {path: row for row, path in enumerate(self.paths)}
        codes, names = pd.factorize(frame["label"].astype("string"), sort=True)
        self.labels: list[str] = [str(name) for name in names]
        self.label = np.where(codes < 0, NONE, codes).astype("<u2")
        self.source_label = self.label.copy()
        self.verdict = pd.Categorical(frame["verdict"], categories=VERDICTS).codes.astype(np.uint8)
        self.decided = np.zeros(len(frame), np.uint8)
        self.reasons = sorted({reason for reasons in frame["reasons"] for reason in reasons})
        for path, label in _labels_before(entries).items():
            if path in self._row_of:
                self.source_label[self._row_of[path]] = self._code(label)
        for path, after in by_hand.items():
            self._apply(path, after)

    def __len__(self) -> int:
        return len(self.paths)

    def about(self) -> dict[str, Any]:
        """Returns names and counts: all that the page needs beside the arrays."""
        source = self.dataset.source
        attributes = [name for name in self.frame.columns if name.startswith("attr_")]
        return {
            "name": self.dataset.name,
            "files": len(self),
            "version": self.version,
            "labels": self.labels,
            "verdicts": list(VERDICTS),
            "splits": list(SPLITS),
            "attributes": attributes,
            "reasons": [
                {
                    "name": name,
                    "title": DESCRIPTIONS.get(name, (name, ""))[0],
                    "meaning": DESCRIPTIONS.get(name, ("", ""))[1],
                }
                for name in self.reasons
            ],
            "licence": source.get("licence") or "",
            "citation": source.get("citation") or "",
            "label_rule": source.get("label_rule") or "",
            "undo": len(self._undoable),
        }

    def num_open(self, reason: str) -> int:
        """Returns how many kept images have a finding and no decision by hand."""
        has_reason = self.frame["reasons"].map(lambda reasons: reason in reasons).to_numpy(bool)
        return int((has_reason & (self.verdict == 0) & (self.decided == 0)).sum())

    def arrays(self) -> bytes:
        """Returns all columns as one block; see `packed`."""
        opinion, confidence, score = self._findings
        with self._lock:
            columns = {
                "verdict": self.verdict,
                "label": self.label,
                "source_label": self.source_label,
                "decided": self.decided,
                "split": _codes(self.frame["source_split"], SPLITS),
                "reasons": self._reason_bits,
                "group": self._groups,
                "opinion": opinion,
                "confidence": confidence,
                "score": score,
                "side": self.frame[["width", "height"]]
                .min(axis=1)
                .fillna(0)
                .astype(float)
                .clip(upper=65_535)
                .to_numpy("<u2"),
            }
            return packed(columns)

    def described(self, rows: list[int]) -> list[dict[str, Any]]:
        """Returns what is known of some images in words."""
        described = []
        for row in checked(rows, len(self), most=MAX_ROWS):
            image = self.frame.iloc[row]
            findings = self._details.get(self.paths[row], [])
            size = f"{image['width']} × {image['height']} px" if pd.notna(image["width"]) else ""
            attributes = {
                name.removeprefix("attr_"): str(image[name])
                for name in self.frame.columns
                if name.startswith("attr_") and pd.notna(image[name])
            }
            described.append(
                {
                    "row": row,
                    "path": self.paths[row],
                    "size": size,
                    "format": _text(image["format"]),
                    "bytes": int(image["bytes"]),
                    "findings": findings,
                    "attributes": attributes,
                }
            )
        return described

    def search(self, text: str) -> list[int]:
        """Returns the rows whose path holds every word of `text`, whatever their case."""
        return matching(self._searchable, text)

    def picture(self, row: int) -> str:
        """Returns the path of an image, relative to raw."""
        return str(self.paths[self._checked([row])[0]])

    def jpeg(self, row: int, *, side: int) -> bytes:
        """Returns an image as JPEG."""
        return pictures.of_file(self.dataset, self.picture(row), side=side)

    def act(self, rows: list[int], action: str, label: str | None) -> dict[str, Any]:
        """Decides by the name of an action: a verdict, or relabel with a label."""
        if action != "relabel" and action not in VERDICTS:
            raise DarkroomError(
                f"An action is one of {', '.join(VERDICTS)} or relabel. Received: {action[:40]!r}."
            )
        return self.decide(rows, label=label, verdict=None if action == "relabel" else action)

    def decide(
        self, rows: list[int], *, verdict: str | None = None, label: str | None = None
    ) -> dict[str, Any]:
        """Writes one decision about some images into the ledger, flushed to the disk before this
        returns.

        A relabelled image that was set aside for review is kept from then on: it has been checked
        at it.
        """
        if (verdict is None) == (label is None):
            raise ValueError("a decision is either a verdict or a label.")
        with self._lock:
            changes = []
            for row in sorted(set(self._checked(rows))):
                after = {"verdict": verdict} if label is None else {"label": label}
                if label is not None and self._is_set_aside(row):
                    after["verdict"] = "keep"
                before = {name: self._value(row, name) for name in after}
                changes.append({"path": str(self.paths[row]), "before": before, "after": after})
            action = "verdict" if label is None else "label"
            entry = ledger.append(self.dataset.folder, by=BY, action=action, changes=changes)
            self._undoable.append(entry["entry"])
            for change in changes:
                self._apply(change["path"], change["after"])
            return self._decision(
                entry["entry"], [self._row_of[change["path"]] for change in changes]
            )

    def undo(self) -> dict[str, Any]:
        """Takes back this page's last decision. Raises DarkroomError when there is none."""
        with self._lock:
            if not self._undoable:
                raise DarkroomError("There is no decision of this page to undo.")
            act = ledger.undo(self.dataset.folder, entry=self._undoable[-1])
            self._undoable.pop()
            rows = [
                self._row_of[change["path"]]
                for change in act["changes"]
                if change["path"] in self._row_of
            ]
            by_hand = ledger.state(ledger.read(self.dataset.folder), by_hand=True)
            for change in act["changes"]:
                self._apply(change["path"], change["before"])
            for row in rows:
                self.decided[row] = str(self.paths[row]) in by_hand
            return self._decision(act["entry"], rows)

    def _checked(self, rows: list[int]) -> list[int]:
        if not rows:
            raise DarkroomError("Name at least one image.")
        return checked(rows, len(self), most=len(self))

    def _decision(self, entry: int, rows: list[int]) -> dict[str, Any]:
        return {
            "entry": entry,
            "rows": rows,
            "verdicts": self.verdict[rows].tolist(),
            "labels": self.label[rows].tolist(),
            "decided": self.decided[rows].tolist(),
            "names": self.labels,
            "undo": len(self._undoable),
        }

    def _apply(self, path: str, values: dict[str, Any]) -> None:
        row = self._row_of.get(path)
        if row is None:  # a file that has gone since
            return
        self.decided[row] = 1
        if "verdict" in values:
            self.verdict[row] = VERDICTS.index(values["verdict"])
        if "label" in values:
            self.label[row] = self._code(values["label"])

    def _is_set_aside(self, row: int) -> bool:
        return VERDICTS[self.verdict[row]] == "review"

    def _code(self, label: str | None) -> int:
        if label is None:
            return NONE
        if label not in self.labels:
            if len(self.labels) >= NONE:
                raise DarkroomError(f"A data set has at most {NONE:,} classes.")
            self.labels.append(label)
        return self.labels.index(label)

    def _value(self, row: int, name: str) -> str | None:
        if name == "verdict":
            return VERDICTS[self.verdict[row]]
        code = int(self.label[row])
        return None if code == NONE else self.labels[code]

    @functools.cached_property
    def _searchable(self) -> pd.Series:
        return pd.Series(self.paths).astype("string").str.casefold()

    @functools.cached_property
    def _groups(self) -> np.ndarray:
        """The group of near-duplicates of each image, or -1 where it has none of its kind."""
        group = self.frame["group"].to_numpy(np.int64)
        sizes = np.bincount(group - group.min()) if len(group) else np.empty(0, int)
        alone = sizes[group - group.min()] < 2 if len(group) else np.empty(0, bool)
        return np.where(alone | self.frame["pixels"].isna().to_numpy(), -1, group).astype("<i4")

    @functools.cached_property
    def _reason_bits(self) -> np.ndarray:
        """uint8 (n, ceil(reasons / 8)): bit `i` of a row is set where the image has the finding
        `reasons[i]`.
        """
        place = {name: index for index, name in enumerate(self.reasons)}
        bits = np.zeros((len(self), max(1, -(-len(place) // 8))), np.uint8)
        for row, reasons in enumerate(self.frame["reasons"]):
            for reason in reasons:
                bits[row, place[reason] // 8] |= 1 << (place[reason] % 8)
        return bits

    @functools.cached_property
    def _table(self) -> pd.DataFrame:
        file = self.dataset.folder / clean.FINDINGS
        if not file.is_file():
            return pd.DataFrame(columns=["path", "reason", "score", "verdict", "detail"])
        return pd.read_parquet(file)

    @functools.cached_property
    def _details(self) -> dict[str, list[dict[str, Any]]]:
        details: dict[str, list[dict[str, Any]]] = {}
        for path, reason, score, detail in self._table[
            ["path", "reason", "score", "detail"]
        ].itertuples(index=False):
            title = DESCRIPTIONS.get(reason, (reason, ""))[0]
            details.setdefault(path, []).append(
                {"reason": reason, "title": title, "detail": detail, "score": float(score)}
            )
        return details

    @functools.cached_property
    def _findings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The class that a network suggests (code), how sure it is, and the worst finding's score,
        one an image.
        """
        opinion = np.full(len(self), NONE, "<u2")
        confidence = np.full(len(self), np.nan, "<f4")
        score = np.full(len(self), np.nan, "<f4")
        for path, reason, worst, detail in self._table[
            ["path", "reason", "score", "detail"]
        ].itertuples(index=False):
            row = self._row_of.get(path)
            if row is None:
                continue
            score[row] = np.fmin(score[row], worst)
            found = _OPINION.search(detail or "") if reason == "wrong_label" else None
            if found:
                opinion[row], confidence[row] = self._code(found[1]), float(found[2]) / 100
        return opinion, confidence, score


_opened: dict[str, tuple[tuple[int, int], ImageTable]] = {}
_opening = threading.Lock()


def load(name: str) -> ImageTable:
    """Returns the table of a data set, read again when another process has changed its manifest or
    its ledger.

    Raises DarkroomError for a data set that is not there or has not been cleaned.
    """
    dataset = datasets.load(name)
    with _opening:
        known = _opened.get(name)
        if (
            known is not None
            and known[1].dataset == dataset
            and known[0] == _state(dataset, known[1])
        ):
            return known[1]
        table = ImageTable(dataset)
        if len(_opened) >= 3:
            _opened.pop(next(iter(_opened)))
        _opened[name] = _state(dataset, table), table
        return table


def remember(table: ImageTable) -> None:
    """Notes that the ledger and the manifest are as the table knows them, after a decision or a
    replay of our own.
    """
    with _opening:
        if _opened.get(table.dataset.name, (None, None))[1] is table:
            _opened[table.dataset.name] = _state(table.dataset, table), table


def _state(dataset: Dataset, table: ImageTable) -> tuple[int, int]:
    sizes = []
    for name in (manifest.FILE, ledger.FILE):
        file = dataset.folder / name
        sizes.append(
            (file.stat().st_mtime_ns if name == manifest.FILE else file.stat().st_size)
            if file.is_file()
            else 0
        )
    return sizes[0], sizes[1]


def _labels_before(entries: list[dict[str, Any]]) -> dict[str, str | None]:
    """Path -> its label before the first standing act by hand that changed it."""
    before: dict[str, str | None] = {}
    for act in ledger.standing(entries):
        if act["by"] != ledger.MACHINE:
            for change in act["changes"]:
                if "label" in change["before"]:
                    before.setdefault(change["path"], change["before"]["label"])
    return before


def _summary(frame: pd.DataFrame) -> list[str]:
    hashed = pd.util.hash_pandas_object(frame[["path", "sha256"]].astype("string"), index=False)
    return [
        str(len(frame)),
        hashing.digest(*map(str, [hashed.sum(), np.bitwise_xor.reduce(hashed.to_numpy())])),
    ]


def _codes(values: pd.Series, names: tuple[str, ...]) -> np.ndarray:
    codes = pd.Categorical(values, categories=names).codes
    return np.where(codes < 0, 255, codes).astype(np.uint8)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)
