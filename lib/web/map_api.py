"""What the map page's script asks for: arrays, words, thumbnails, neighbours, selections, and acts
for the cleaning ledger.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from lib.errors import DarkroomError
from lib.web import archive, maps, selections
from lib.web.archive import Run
from lib.web.maps import MapRun

api = Blueprint("map_api", __name__, url_prefix="/api/maps/<study>/<stage>/<unit>")
_BY = "map page"


@api.get("/places")
def places(study: str, stage: str, unit: str) -> Response:
    """The map of a space by a method, as float32."""
    found, shown = _found(study, stage, unit)
    space, method = request.args.get("space", ""), request.args.get("method", "")
    return _array(found, shown.places(space, method), space, method)


@api.get("/columns/<int:index>")
def codes(study: str, stage: str, unit: str, index: int) -> Response:
    """One column for colouring, as uint8 codes or float32 numbers."""
    found, shown = _found(study, stage, unit)
    return _array(found, shown.codes(index), "column", index)


@api.post("/points")
def points(study: str, stage: str, unit: str) -> Response:
    """What is known of some points."""
    return jsonify(_found(study, stage, unit)[1].described(_body("rows", list)))


@api.get("/thumbnails/<int:row>")
def thumbnail(study: str, stage: str, unit: str, row: int) -> Response:
    """A small picture of one point."""
    found, shown = _found(study, stage, unit)
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
    words = {each["row"]: each for each in shown.described([each["row"] for each in near])}
    return jsonify([{**words[each["row"]], "distance": each["distance"]} for each in near])


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
                "saved": each["saved"],
                "rows": [row_of[path] for path in each["paths"] if path in row_of],
            }
            for name, each in selections.read(shown.dataset).items()
        ]
    )


@api.post("/selections")
def keep(study: str, stage: str, unit: str) -> Response:
    """Keeps some points under a name."""
    shown = _found(study, stage, unit)[1]
    rows = shown.checked(_body("rows", list), most=len(shown))
    selections.save(
        shown.dataset, _body("name", str), [str(path) for path in shown.points["path"].iloc[rows]]
    )
    return jsonify(ok=True)


@api.delete("/selections")
def forget(study: str, stage: str, unit: str) -> Response:
    """Forgets a named selection."""
    selections.delete(_found(study, stage, unit)[1].dataset, _body("name", str))
    return jsonify(ok=True)


@api.post("/csv")
def csv(study: str, stage: str, unit: str) -> Response:
    """Some points as a table."""
    text = _found(study, stage, unit)[1].csv(_body("rows", list))
    headers = {"Content-Disposition": "attachment; filename=selection.csv"}
    return Response(text, mimetype="text/csv", headers=headers)


@api.post("/ledger")
def ledger(study: str, stage: str, unit: str) -> Response:
    """Sends points to the cleaning ledger: `action` is keep, review, reject, or relabel with a
    `label`.
    """
    from lib.cleaning import clean

    shown = _found(study, stage, unit)[1]
    rows = shown.checked(_body("rows", list), most=len(shown))
    named = [str(path) for path in shown.points["path"].iloc[rows]]
    action = _body("action", str)
    if action == "relabel":
        label = " ".join(_body("label", str).split())
        if not label or len(label) > 200 or not label.isprintable():
            raise DarkroomError("A label is one line of 1 to 200 characters.")
        clean.relabel(shown.dataset, named, label=label, by=_BY)
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
    found = archive.run(study, stage, unit)
    return found, maps.load(found)


def _array(found: Run, content: bytes, *parts: object) -> Response:
    response = Response(content, mimetype="application/octet-stream")
    response.set_etag(maps.etag(found, *parts))
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)


def _body(name: str, kind: type) -> Any:
    try:
        content = json.loads(request.get_data()) if request.is_json else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        abort(400, "This takes JSON: an object.")
    if not isinstance(content.get(name), kind):
        abort(400, f"`{name}` is missing or of another type than {kind.__name__}.")
    return content[name]
