"""The Flask application: its pages, and what all templates know."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import bokeh
from flask import Flask, Response, abort, redirect, request

from lib import errors
from lib.reporting import report, text
from lib.web import classify_page, data_page, guard, label_page, map_page, runs_page
from lib.web.guard import DEFAULT_HOST

_BOKEH = Path(bokeh.__file__).parent / "server" / "static" / "js"
_SCRIPTS = ("bokeh.min.js",)


def create(*, hosts: tuple[str, ...] | None = None) -> Flask:
    """Returns the site as a WSGI application; it answers only to `hosts`, by default to this
    machine's own names.
    """
    app = Flask(
        "lib.web", template_folder="templates", static_folder="static", static_url_path="/static"
    )
    app.json.sort_keys = False
    app.jinja_options = {**app.jinja_options, "finalize": errors.visible}
    # Sorted keys would tear Bokeh's references from what they name.
    app.jinja_env.policies["json.dumps_kwargs"] = {}
    app.jinja_env.filters["percent"] = text.percent
    guard.protect(app, hosts=hosts or guard.local_hosts(DEFAULT_HOST))
    for part in (
        runs_page.pages,
        data_page.pages,
        label_page.pages,
        map_page.pages,
        map_page.api,
        classify_page.pages,
    ):
        app.register_blueprint(part)
    app.add_url_rule("/", view_func=lambda: redirect("/runs"), endpoint="home")
    app.add_url_rule(
        "/favicon.ico",
        view_func=lambda: Response(report.ICON_SVG, mimetype="image/svg+xml"),
        endpoint="icon",
    )
    app.add_url_rule("/scripts/<name>", view_func=_script, endpoint="script")
    return app


def warm() -> None:
    """Loads and makes what the first map would wait for."""
    import pyarrow.parquet  # noqa: F401  tables of points are read by it

    for name in map_page.MAPS:
        map_page.figure(name)
    for name in _SCRIPTS:
        _packed(name)


def _script(name: str) -> Response:
    if name not in _SCRIPTS:
        abort(404)
    content = _packed(name)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        response = Response(gzip.decompress(content), mimetype="text/javascript")
    else:
        response = Response(
            content, mimetype="text/javascript", headers={"Content-Encoding": "gzip"}
        )
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "max-age=86400"
    return response


@functools.cache
def _packed(name: str) -> bytes:
    return gzip.compress((_BOKEH / name).read_bytes(), 6)
