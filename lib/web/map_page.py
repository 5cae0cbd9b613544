"""The map page of feature spaces, and its API.

A hundred thousand points must be on the screen within seconds, so places and colours travel as
plain arrays, and the details of a point only on request.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from flask import Blueprint, Response, g, jsonify, render_template, request

from lib import files, hashing
from lib.data import dataset as datasets
from lib.data.dataset import Dataset
from lib.embeddings import label_columns, map_record
from lib.embeddings.map_record import TITLES, Record
from lib.embeddings.plots import PALETTE, REST, SEQUENCE
from lib.errors import DarkroomError
from lib.web import finished_runs, http
from lib.web.finished_runs import Run
from lib.web.http import body, checked, matching, plain_label

MOST_ROWS = 200
"""Points described in one answer."""
MOST_CLASSES = 250
THUMBNAIL = 128
_JUDGED = ("verdict", "predicted", "split", "confidence")
_ORDERS = {"split": ("train", "val", "test"), "verdict": ("right", "wrong")}
_BLOCK = 8_192

pages = Blueprint("map_page", __name__)
api = Blueprint("map_api", __name__, url_prefix="/api/maps/<study>/<stage>/<unit>")
_BY = "map page"
MAPS = ("map-a", "map-b")
"""The page's two maps, by the names of their elements."""


@pages.get("/maps")
def every() -> str:
    """All runs of features, the newest first."""
    return render_template("maps.html", found=finished_runs.runs_of_stage("features"), page="maps")


@pages.get("/maps/<study>/<stage>/<unit>")
def one(study: str, stage: str, unit: str) -> str:
    """One run's maps."""
    trained = finished_runs.run(study, stage, unit)
    shown = load(trained)
    account = shown.account
    spaces = [
        {**space, "title": TITLES.get(space["name"], space["name"])} for space in account["spaces"]
    ]
    about = {
        "id": trained.id,
        "points": len(shown),
        "size": _size(len(shown)),
        "columns": shown.columns,
        "target": account["target"],
        "spaces": spaces,
        "methods": account["methods"],
        "palette": PALETTE,
        "rest": REST,
        "sequence": SEQUENCE,
        "items": [figure(name) for name in MAPS],
    }
    return render_template(
        "map.html", found=trained, account=account, shown=shown, about=about, page="maps"
    )


def _size(num: int) -> int:
    # Pixels across a point: few may be large, a hundred thousand must not hide each other.
    return (8, 6, 4, 3)[int(np.searchsorted([2_000, 10_000, 40_000], num))]


@functools.cache
def figure(name: str) -> dict[str, Any]:
    """Returns the frame of a map as Bokeh's JSON: ranges, and the tools of the mouse.

    The points are not Bokeh's, which would keep five copies of each and redraw them all for
    every movement; the page's script draws them below. `name` is that of its element and of its
    models.
    """
    from bokeh.core.validation import silence
    from bokeh.core.validation.warnings import MISSING_RENDERERS
    from bokeh.embed import json_item
    from bokeh.models import LassoSelectTool, PanTool, Range1d, WheelZoomTool
    from bokeh.plotting import figure as make

    wheel, pan = WheelZoomTool(zoom_on_axis=False), PanTool(name=f"{name}-pan")
    lasso = LassoSelectTool(name=f"{name}-lasso", continuous=False, renderers=[])
    plot = make(
        x_range=Range1d(-0.05, 1.05),
        y_range=Range1d(-0.05, 1.05),
        sizing_mode="stretch_both",
        toolbar_location=None,
        tools=[pan, wheel, lasso],
        name=f"{name}-plot",
        min_border=0,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
    )
    plot.axis.visible = False
    plot.grid.visible = False
    plot.toolbar.active_scroll, plot.toolbar.active_drag = wheel, pan
    silence(MISSING_RENDERERS)
    return json.loads(json.dumps(json_item(plot, name)))


@api.get("/places")
def places() -> Response:
    """The map of a space by a method, as float32."""
    space, method = request.args.get("space", ""), request.args.get("method", "")
    return _array(g.map.places(space, method), space, method)


@api.get("/columns/<int:index>")
def codes(index: int) -> Response:
    """One column for colouring, as uint8 codes or float32 numbers."""
    return _array(g.map.codes(index), "column", index)


@api.post("/points")
def points() -> Response:
    """Returns the details of some points."""
    return jsonify(g.map.described(body("rows", list)))


@api.get("/thumbnails/<int:row>")
def thumbnail(row: int) -> Response:
    """A small picture of one point."""
    response = Response(
        g.map.thumbnail(row, side=320 if "large" in request.args else THUMBNAIL),
        mimetype="image/jpeg",
    )
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


@api.get("/nearest/<int:row>")
def nearest(row: int) -> Response:
    """The nearest images of one in the feature space."""
    near = g.map.nearest(row, space=request.args.get("space", ""))
    words = {image["row"]: image for image in g.map.described([image["row"] for image in near])}
    return jsonify([{**words[image["row"]], "distance": image["distance"]} for image in near])


@api.get("/search")
def search() -> Response:
    """The points whose path or labels hold some words."""
    rows = g.map.search(request.args.get("text", "")[:200])
    return jsonify(rows=rows)


@api.get("/selections")
def kept() -> Response:
    """The named selections of the data set, as rows of this map."""
    row_of = {path: row for row, path in enumerate(g.map.points["path"])}
    return jsonify(
        [
            {
                "name": name,
                "saved": selection["saved"],
                "rows": [row_of[path] for path in selection["paths"] if path in row_of],
            }
            for name, selection in selections(g.map.dataset).items()
        ]
    )


@api.post("/selections")
def keep() -> Response:
    """Keeps some points under a name."""
    rows = g.map.checked(body("rows", list), most=len(g.map))
    save_selection(
        g.map.dataset, body("name", str), [str(path) for path in g.map.points["path"].iloc[rows]]
    )
    return jsonify(ok=True)


@api.delete("/selections")
def forget() -> Response:
    """Forgets a named selection."""
    delete_selection(g.map.dataset, body("name", str))
    return jsonify(ok=True)


@api.post("/csv")
def csv() -> Response:
    """Some points as a table."""
    text = g.map.csv(body("rows", list))
    headers = {"Content-Disposition": "attachment; filename=selection.csv"}
    return Response(text, mimetype="text/csv", headers=headers)


@api.post("/ledger")
def ledger() -> Response:
    """Sends points to the cleaning ledger: `action` is keep, review, reject, or relabel with a
    `label`.
    """
    from lib.cleaning import clean

    rows = g.map.checked(body("rows", list), most=len(g.map))
    named = [str(path) for path in g.map.points["path"].iloc[rows]]
    action = body("action", str)
    if action == "relabel":
        clean.relabel(g.map.dataset, named, label=plain_label(body("label", str)), by=_BY)
    elif action in ("keep", "review", "reject"):
        clean.decide(g.map.dataset, named, verdict=action, by=_BY)
    else:
        raise DarkroomError("The ledger takes keep, review, reject or relabel.")
    return jsonify(ok=True, files=len(named))


@api.post("/ledger/undo")
def undo() -> Response:
    """Takes back the last act of the ledger, if a map page made it."""
    from lib.cleaning import clean
    from lib.cleaning import ledger as acts

    dataset = g.map.dataset
    standing = acts.standing(acts.read(dataset.folder))
    if not standing or standing[-1]["by"] != _BY:
        raise DarkroomError(
            "The last act of the ledger was not made here; take it back with `darkroom clean "
            "--undo`."
        )
    clean.undo(dataset)
    return jsonify(ok=True, files=len(standing[-1]["changes"]))


@api.before_request
def _open() -> None:
    place = [request.view_args.pop(name) for name in ("study", "stage", "unit")]
    g.run, g.map = _found(*place)


def _found(study: str, stage: str, unit: str) -> tuple[Run, MapRun]:
    trained = finished_runs.run(study, stage, unit)
    return trained, load(trained)


def _array(content: bytes, *parts: object) -> Response:
    response = Response(content, mimetype="application/octet-stream")
    response.set_etag(etag(g.run, *parts))
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


SELECTIONS, MOST_SELECTIONS = "selections.json", 500


class MapRun:
    """A record with what is computed from it once: columns as codes, places in the unit square, a
    text to search in.
    """

    def __init__(self, stored: Record) -> None:
        self.record = stored
        self.points = stored.points
        self.account = stored.account
        self.dataset: Dataset = datasets.load(stored.account["data"])
        self._numbers: dict[str, tuple[np.ndarray, list[str]]] = {}

    def __len__(self) -> int:
        return len(self.points)

    @functools.cached_property
    def columns(self) -> list[dict[str, Any]]:
        """The columns to colour by: `name`, `title`, `kind` (classes or numbers), and the classes
        with counts.
        """
        names = [name for name in (*self.account["columns"], *_JUDGED) if name in self.points]
        return [self._column(name) for name in dict.fromkeys(names)]

    def codes(self, index: int) -> bytes:
        """Returns a column for the browser: uint8 places in its classes (255 for none), or float32
        numbers (NaN for none).
        """
        name = self._named(index)["name"]
        if self._named(index)["kind"] == "numbers":
            return pd.to_numeric(self.points[name], errors="coerce").to_numpy("<f4").tobytes()
        numbers, values = self._numbered(name)
        place = {value: code for code, value in enumerate(self._named(index)["classes"])}
        codes = [place.get(value, 255) for value in values]
        return np.array([*codes, 255], np.uint8)[numbers].tobytes()  # the last, -1, is for none

    def places(self, space: str, method: str) -> bytes:
        """Returns float32 x of all points, then y, both between 0 and 1 with the map's own
        proportions.
        """
        positions = self.record.places(space, method)
        low, high = positions.min(axis=0), positions.max(axis=0)
        span = float(max(high - low)) or 1.0
        centred = (positions - (low + high) / 2) / span + 0.5
        return np.ascontiguousarray(centred.T, "<f4").tobytes()

    def described(self, rows: list[int]) -> list[dict[str, Any]]:
        """Returns what is known of points: `row`, `path`, and the title and text of each column."""
        names = [column["name"] for column in self.columns]
        descriptions = []
        for row in self.checked(rows):
            point = self.points.iloc[row]
            known = [name for name in names if not pd.isna(point[name])]
            words = [[self._title(name), _word(point[name])] for name in known]
            descriptions.append({"row": row, "path": str(point["path"]), "words": words})
        return descriptions

    def checked(self, rows: list[int], *, most: int = MOST_ROWS) -> list[int]:
        """Returns the rows that were asked for. Raises DarkroomError for others than this map has,
        or too many of them.
        """
        return checked(rows, len(self), most=most)

    def search(self, text: str) -> list[int]:
        """Returns the rows whose path or labels hold every word of `text`, whatever their case."""
        return matching(self._searchable, text)

    def nearest(self, row: int, *, space: str, number: int = 12) -> list[dict[str, float]]:
        """Returns the images nearest to one in the feature space, not on a map: `row` and
        `distance`, the nearest first.
        """
        self.checked([row])
        features = self.features(space)
        neighbours = ranked(features, np.asarray(features[row], np.float32), number + 1)
        return [image for image in neighbours if image["row"] != row][:number]

    def features(self, space: str) -> np.ndarray:
        """Returns the features of a space, (n, d), mapped from disk. Raises DarkroomError where
        they are gone.
        """
        known = {entry["name"]: entry["features"] for entry in self.account["spaces"]}
        if space not in known:
            raise DarkroomError(f"This run has the spaces {', '.join(known)}. Received: {space!r}.")
        file = self.dataset.folder / "features" / Path(known[space]).name / "features.npy"
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise DarkroomError(
                "The features of this map are not on disk any more; run 8_features again."
            ) from None
        if len(array) != len(self):
            raise DarkroomError(
                "The features of this map are of other images; run 8_features again."
            )
        return array

    def thumbnail(self, row: int, *, side: int = THUMBNAIL) -> bytes:
        """Returns a small JPEG of an image, from its pixels alone."""
        self.checked([row])
        file = http.file_of(self.dataset, str(self.points["path"].iloc[row]))
        return http.of_path(file, side=side)

    def csv(self, rows: list[int]) -> str:
        """Returns points as a table for a spreadsheet. A cell that one would compute starts with an
        apostrophe.
        """
        names = ["path", *(column["name"] for column in self.columns)]
        table = self.points.iloc[self.checked(rows, most=len(self))][names]
        return files.harmless(table).to_csv(index=False)

    @functools.cached_property
    def _searchable(self) -> pd.Series:
        named = [column["name"] for column in self.columns if column["kind"] == "classes"]
        joined = self.points["path"].astype("string")
        for name in named:
            joined = joined + "\n" + self._text(name).fillna("")
        return joined.str.casefold()

    def _numbered(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column as numbers of its values, -1 for none, and these values."""
        if name not in self._numbers:
            numbers, values = pd.factorize(self._text(name))
            self._numbers[name] = numbers, [str(value) for value in values]
        return self._numbers[name]

    def _text(self, name: str) -> pd.Series:
        if name in self.account["columns"]:
            return label_columns.classes(self.points[name])
        return self.points[name].astype("string")

    def _title(self, name: str) -> str:
        return label_columns.title(name, self.account.get("label", "label"))

    def _named(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self.columns):
            raise DarkroomError(f"This map has {len(self.columns)} columns. Received: {index}.")
        return self.columns[index]

    def _column(self, name: str) -> dict[str, Any]:
        about = {"name": name, "title": self._title(name)}
        if name == "confidence":
            return {**about, "kind": "numbers", "low": 0.0, "high": 1.0}
        numbers, values = self._numbered(name)
        totals = np.bincount(numbers[numbers >= 0], minlength=len(values)).tolist()
        counts = dict(zip(values, totals, strict=True))
        order = _ORDERS.get(name, sorted(values, key=lambda value: -counts[value]))
        kept = {value: counts[value] for value in order[:MOST_CLASSES] if value in counts}
        return {**about, "kind": "classes", "classes": list(kept), "counts": list(kept.values())}


def ranked(features: np.ndarray, wanted: np.ndarray, number: int) -> list[dict[str, float]]:
    """Returns the rows of `features` (n, d) nearest to `wanted` (d,) by Euclidean distance, the
    nearest first.
    """
    distance = np.empty(len(features), np.float32)
    for start in range(0, len(features), _BLOCK):
        block = np.asarray(features[start : start + _BLOCK], np.float32) - wanted
        distance[start : start + _BLOCK] = np.einsum("nd,nd->n", block, block)
    best = np.argpartition(distance, min(number, len(distance)) - 1)[:number]
    best = best[np.argsort(distance[best], kind="stable")]
    return [{"row": int(row), "distance": float(np.sqrt(distance[row]))} for row in best]


def load(run: Run) -> MapRun:
    """Returns a run of features, read once as long as it stays as it is. Raises DarkroomError where
    it has no maps.
    """
    file = run.folder / map_record.POINTS
    if not file.is_file():
        raise DarkroomError(f"{run.id} has no maps; run 8_features.")
    return _read(run.folder, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=3)
def _read(folder: Path, _changed_ns: int) -> MapRun:
    return MapRun(map_record.read(folder))


def etag(run: Run, *parts: object) -> str:
    """Returns a short name of one answer about a run, which changes when the run does."""
    changed = (run.folder / map_record.POINTS).stat().st_mtime_ns
    return hashing.digest(run.id, str(changed), *map(str, parts))


def selections(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Returns the named selections of a data set's images: name to `{"paths": [...], "saved":
    when}`, the latest first.
    """
    content = files.read_json(dataset.folder / SELECTIONS)
    return content if isinstance(content, dict) else {}


def save_selection(dataset: Dataset, name: str, paths: list[str]) -> None:
    """Keeps a selection under a name; one of the same name is replaced.

    Raises DarkroomError for a name that is empty, long or holds line ends, and for an empty
    selection.
    """
    name = " ".join(name.split())
    if not name or len(name) > 100 or not name.isprintable():
        raise DarkroomError(
            f"A selection's name is one line of 1 to 100 characters. Received: {name[:120]!r}."
        )
    if not paths:
        raise DarkroomError("There is nothing in this selection; mark some points first.")
    with FileLock(dataset.folder / f".{SELECTIONS}.lock"):
        known = selections(dataset)
        known.pop(name, None)
        if len(known) >= MOST_SELECTIONS:
            message = f"There are {MOST_SELECTIONS} selections already; delete one first."
            raise DarkroomError(message)
        kept = {"paths": sorted(paths), "saved": datetime.now(UTC).isoformat(timespec="seconds")}
        files.write_json(dataset.folder / SELECTIONS, {name: kept, **known})


def delete_selection(dataset: Dataset, name: str) -> None:
    """Forgets a selection. Raises DarkroomError when there is none of that name."""
    with FileLock(dataset.folder / f".{SELECTIONS}.lock"):
        known = selections(dataset)
        if known.pop(name, None) is None:
            raise DarkroomError(f"There is no selection {name!r}.")
        files.write_json(dataset.folder / SELECTIONS, known)


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
