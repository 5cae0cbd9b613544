"""The Flask application, the checks of every request, and waitress that serves it.

It is served on this machine's own address by default, and answers only requests with a known host,
from its own origin, with a small body; no foreign script is loaded.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import sys
import threading
from pathlib import Path
from typing import Any

import bokeh
from flask import Flask, Response, abort, jsonify, redirect, render_template, request, send_file
from werkzeug.exceptions import HTTPException

from lib import errors
from lib.errors import DarkroomError
from lib.evaluation import formatting
from lib.reporting import text
from lib.web import classify_page, data_page, label_page, map_page, runs_page

MAX_BODY = 40 << 20
"""Bytes of a request's body at most: a few dozen photographs."""
MAX_JSON = 4 << 20
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8050
SAFE = ("GET", "HEAD", "OPTIONS")

# Bokeh writes its own styles into the page; scripts come from this server's files alone, and none
# is evaluated from text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: "
    "blob:; font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri "
    "'none'; frame-ancestors 'none'"
)

SENTENCES = {
    404: "There is no page at this address.",
    405: "This address does not take such a request.",
    413: "That is more than this site takes at once.",
    500: "The site failed at this request; the terminal of `darkroom web` shows why.",
}

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


def protect(app: Flask, *, hosts: tuple[str, ...]) -> None:
    """Lets the app answer only requests that name one of `hosts`, and change something only when a
    page of its own asks.
    """
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_JSON
    app.config["MAX_FORM_PARTS"] = 200
    known = frozenset(host.lower() for host in hosts)

    @app.before_request
    def check() -> None:
        if _name(request.headers.get("Host", "")) not in known:
            abort(
                421,
                "This server does not answer to that name. Open it by the address that `darkroom "
                "web` printed.",
            )
        if request.method not in SAFE and not _is_own(
            request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        ):
            abort(403, "Only a page of this site may ask for that.")
        if request.is_json and (request.content_length or 0) > MAX_JSON:
            abort(413, "That is more than this site takes at once.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.pop("Server", None)
        return response

    @app.errorhandler(DarkroomError)
    def not_possible(error: DarkroomError) -> tuple[Response, int]:
        return _refusal(str(error), 404 if request.method in SAFE else 400)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[Response, int]:
        is_default = error.description == type(error).description
        sentence = SENTENCES.get(error.code) if is_default else None
        return _refusal(sentence or error.description or error.name, error.code or 500)


def local_hosts(host: str) -> tuple[str, ...]:
    """Returns the names under which a server bound to `host` may be asked for: its own, and
    localhost where that is meant.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return (host.lower(),) if host != "localhost" else ("localhost", "127.0.0.1", "::1")
    if address.is_loopback or address.is_unspecified:
        return ("localhost", "127.0.0.1", "::1")
    return (str(address),)


def _name(host: str) -> str:
    if not re.fullmatch(r"[\w.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", host, re.ASCII):
        return ""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def _is_own(origin: str | None, site: str | None) -> bool:
    # A browser names the page's origin with every request that may change something; other
    # programs name none.
    if site not in (None, "same-origin", "none"):
        return False
    if origin is None:
        return True
    host = request.headers.get("Host", "").lower()
    return origin.lower() in (f"http://{host}", f"https://{host}")


def _refusal(sentence: str, code: int) -> tuple[Response, int]:
    """A page for people, JSON for the pages' own scripts."""
    if request.path.startswith("/api/"):
        return jsonify(error=sentence), code
    return Response(render_template("refused.html", sentence=sentence, code=code)), code


_BOKEH = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
_THREADS = 8
_MAX_PORT = 65535
_MAX_CONNECTIONS = 900
"""More than a browser or an attack on this machine opens; `select` and most limits allow 1,024."""


def serve(
    *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, names: tuple[str, ...] = ()
) -> int:
    """Serves until it is stopped. `names` are further host names under which the site may be asked
    for.

    Raises DarkroomError when the port is taken or the address is not this machine's.
    """
    server = listen(host=host, port=port, names=names)
    threading.Thread(target=warm, daemon=True).start()
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host  # noqa: S104  only compared
    print(
        f"The site is at http://{shown}:{server.effective_port}/ until you press Ctrl-C.",
        flush=True,
    )
    if host not in ("localhost", "127.0.0.1", "::1"):
        print(
            "Everybody who reaches this address can see the site and change the ledger: there is "
            "no password.",
            file=sys.stderr,
        )
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0


def listen(*, host: str = DEFAULT_HOST, port: int = 0, names: tuple[str, ...] = ()) -> Any:
    """Returns waitress with the site in it, listening but not yet serving: `run()` serves,
    `effective_port` tells the port.

    Raises DarkroomError when the port is taken or the address is not this machine's.
    """
    import waitress

    if not 0 <= port <= _MAX_PORT:
        raise DarkroomError(f"--port must be 0 to {_MAX_PORT}. Received: {port}.")
    if host == "localhost":  # may stand for two addresses, and one is enough
        host = DEFAULT_HOST
    app = create(hosts=(*local_hosts(host), *names))
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=_THREADS,
            max_request_body_size=MAX_BODY,
            ident=None,
            connection_limit=_MAX_CONNECTIONS,
            asyncore_use_poll=True,
            channel_timeout=20,
            cleanup_interval=5,  # half-sent requests give their place back
            clear_untrusted_proxy_headers=True,
        )
    except (OSError, ValueError) as error:
        raise DarkroomError(
            f"The site cannot be served on {host}, port {port} ({error}). Choose another with "
            "--port, or stop what uses it."
        ) from None


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
    app.jinja_env.filters["percent"] = formatting.percent
    protect(app, hosts=hosts or local_hosts(DEFAULT_HOST))
    for module in (runs_page, data_page, label_page, map_page, classify_page):
        app.register_blueprint(module.pages)
    app.register_blueprint(map_page.api)
    icon = functools.partial(Response, text.ICON_SVG, mimetype="image/svg+xml")
    app.add_url_rule("/", view_func=lambda: redirect("/runs"), endpoint="home")
    app.add_url_rule("/favicon.ico", view_func=icon, endpoint="icon")
    app.add_url_rule("/scripts/bokeh.min.js", view_func=_bokeh, endpoint="script")
    return app


def warm() -> None:
    """Loads and makes what the first map would wait for."""
    import pyarrow.parquet  # noqa: F401  tables of points are read by it

    for name in map_page.MAPS:
        map_page.figure(name)


def _bokeh() -> Response:
    response = send_file(_BOKEH, mimetype="text/javascript", conditional=True)
    response.headers["Cache-Control"] = "max-age=86400"
    return response
