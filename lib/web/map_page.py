"""The map page of feature spaces, and its API."""

from __future__ import annotations

import functools
import json
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request

from lib.embeddings.plots import PALETTE, REST, SEQUENCE
from lib.embeddings.record import TITLES
from lib.errors import DarkroomError
from lib.web import archive, maps
from lib.web.archive import Run
from lib.web.http import body, plain_label
from lib.web.maps import MapRun

pages = Blueprint("map_page", __name__)
api = Blueprint("map_api", __name__, url_prefix="/api/maps/<study>/<stage>/<unit>")
_BY = "map page"
MAPS = ("map-a", "map-b")
"""The page's two maps, by the names of their elements."""


@pages.get("/maps")
def every() -> str:
    """All runs of features, the newest first."""
    return render_template("maps.html", found=archive.runs_of_stage("features"), page="maps")


@pages.get("/maps/<study>/<stage>/<unit>")
def one(study: str, stage: str, unit: str) -> str:
    """One run's maps."""
    trained = archive.run(study, stage, unit)
    shown = maps.load(trained)
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
    return next(
        size
        for most, size in ((2_000, 8), (10_000, 6), (40_000, 4), (float("inf"), 3))
        if num <= most
    )


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
def places(study: str, stage: str, unit: str) -> Response:
    """The map of a space by a method, as float32."""
    trained, shown = _found(study, stage, unit)
    space, method = request.args.get("space", ""), request.args.get("method", "")
    return _array(trained, shown.places(space, method), space, method)


@api.get("/columns/<int:index>")
def codes(study: str, stage: str, unit: str, index: int) -> Response:
    """One column for colouring, as uint8 codes or float32 numbers."""
    trained, shown = _found(study, stage, unit)
    return _array(trained, shown.codes(index), "column", index)


@api.post("/points")
def points(study: str, stage: str, unit: str) -> Response:
    """Returns the details of some points."""
    return jsonify(_found(study, stage, unit)[1].described(body("rows", list)))


@api.get("/thumbnails/<int:row>")
def thumbnail(study: str, stage: str, unit: str, row: int) -> Response:
    """A small picture of one point."""
    trained, shown = _found(study, stage, unit)
    response = Response(
        shown.thumbnail(row, side=320 if "large" in request.args else maps.THUMBNAIL),
        mimetype="image/jpeg",
    )
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


@api.get("/nearest/<int:row>")
def nearest(study: str, stage: str, unit: str, row: int) -> Response:
    """The nearest images of one in the feature space."""
    shown = _found(study, stage, unit)[1]
    near = shown.nearest(row, space=request.args.get("space", ""))
    words = {image["row"]: image for image in shown.described([image["row"] for image in near])}
    return jsonify([{**words[image["row"]], "distance": image["distance"]} for image in near])


@api.get("/search")
def search(study: str, stage: str, unit: str) -> Response:
    """The points whose path or labels hold some words."""
    rows = _found(study, stage, unit)[1].search(request.args.get("text", "")[:200])
    return jsonify(rows=rows)


@api.get("/selections")
def kept(study: str, stage: str, unit: str) -> Response:
    """The named selections of the data set, as rows of this map."""
    shown = _found(study, stage, unit)[1]
    row_of = {path: row for row, path in enumerate(shown.points["path"])}
    return jsonify(
        [
            {
                "name": name,
                "saved": selection["saved"],
                "rows": [row_of[path] for path in selection["paths"] if path in row_of],
            }
            for name, selection in maps.selections(shown.dataset).items()
        ]
    )


@api.post("/selections")
def keep(study: str, stage: str, unit: str) -> Response:
    """Keeps some points under a name."""
    shown = _found(study, stage, unit)[1]
    rows = shown.checked(body("rows", list), most=len(shown))
    maps.save_selection(
        shown.dataset, body("name", str), [str(path) for path in shown.points["path"].iloc[rows]]
    )
    return jsonify(ok=True)


@api.delete("/selections")
def forget(study: str, stage: str, unit: str) -> Response:
    """Forgets a named selection."""
    maps.delete_selection(_found(study, stage, unit)[1].dataset, body("name", str))
    return jsonify(ok=True)


@api.post("/csv")
def csv(study: str, stage: str, unit: str) -> Response:
    """Some points as a table."""
    text = _found(study, stage, unit)[1].csv(body("rows", list))
    headers = {"Content-Disposition": "attachment; filename=selection.csv"}
    return Response(text, mimetype="text/csv", headers=headers)


@api.post("/ledger")
def ledger(study: str, stage: str, unit: str) -> Response:
    """Sends points to the cleaning ledger: `action` is keep, review, reject, or relabel with a
    `label`.
    """
    from lib.cleaning import clean

    shown = _found(study, stage, unit)[1]
    rows = shown.checked(body("rows", list), most=len(shown))
    named = [str(path) for path in shown.points["path"].iloc[rows]]
    action = body("action", str)
    if action == "relabel":
        clean.relabel(shown.dataset, named, label=plain_label(body("label", str)), by=_BY)
    elif action in ("keep", "review", "reject"):
        clean.decide(shown.dataset, named, verdict=action, by=_BY)
    else:
        raise DarkroomError("The ledger takes keep, review, reject or relabel.")
    return jsonify(ok=True, files=len(named))


@api.post("/ledger/undo")
def undo(study: str, stage: str, unit: str) -> Response:
    """Takes back the last act of the ledger, if a map page made it."""
    from lib.cleaning import clean
    from lib.cleaning import ledger as acts

    dataset = _found(study, stage, unit)[1].dataset
    standing = acts.standing(acts.read(dataset.folder))
    if not standing or standing[-1]["by"] != _BY:
        raise DarkroomError(
            "The last act of the ledger was not made here; take it back with `darkroom clean "
            "--undo`."
        )
    clean.undo(dataset)
    return jsonify(ok=True, files=len(standing[-1]["changes"]))


def _found(study: str, stage: str, unit: str) -> tuple[Run, MapRun]:
    trained = archive.run(study, stage, unit)
    return trained, maps.load(trained)


def _array(trained: Run, content: bytes, *parts: object) -> Response:
    response = Response(content, mimetype="application/octet-stream")
    response.set_etag(maps.etag(trained, *parts))
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)
