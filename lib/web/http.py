"""Request fields, typed labels, and pictures as responses."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, abort, request

from lib.errors import DarkroomError
from lib.web import pictures


def body(name: str, kind: type) -> Any:
    """Returns a field of the request's JSON. Answers 400 where it is missing or of another type."""
    try:
        content = json.loads(request.get_data()) if request.is_json else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        abort(400, "This takes JSON: an object.")
    if not isinstance(content.get(name), kind):
        abort(400, f"`{name}` is missing or of another type than {kind.__name__}.")
    return content[name]


def plain_label(text: str) -> str:
    """Returns a class name as it is kept. Raises DarkroomError for one that is empty, long or holds
    control characters.
    """
    label = " ".join(text.split())
    if not label or len(label) > 200 or not label.isprintable():
        raise DarkroomError("A label is one line of 1 to 200 characters.")
    return label


def asked_side() -> int:
    """Returns the side in pixels that the request asks for, one of `pictures.SIDES`."""
    side = request.args.get("side", "256")
    return (
        int(side)
        if side in map(str, pictures.SIDES)
        else abort(400, f"`side` is one of {pictures.SIDES}.")
    )


def jpeg_response(content: bytes) -> Response:
    """Returns a picture that the browser may keep; its address changes with the data set."""
    response = Response(content, mimetype="image/jpeg")
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
