"""The map page of feature spaces, and its API."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
from flask import Blueprint, Response, g, jsonify, render_template, request

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
        g.map.thumbnail(row, side=320 if "large" in request.args else maps.THUMBNAIL),
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
            for name, selection in maps.selections(g.map.dataset).items()
        ]
    )


@api.post("/selections")
def keep() -> Response:
    """Keeps some points under a name."""
    rows = g.map.checked(body("rows", list), most=len(g.map))
    maps.save_selection(
        g.map.dataset, body("name", str), [str(path) for path in g.map.points["path"].iloc[rows]]
    )
    return jsonify(ok=True)


@api.delete("/selections")
def forget() -> Response:
    """Forgets a named selection."""
    maps.delete_selection(g.map.dataset, body("name", str))
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
    trained = archive.run(study, stage, unit)
    return trained, maps.load(trained)


def _array(content: bytes, *parts: object) -> Response:
    response = Response(content, mimetype="application/octet-stream")
    response.set_etag(maps.etag(g.run, *parts))
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)
