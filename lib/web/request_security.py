"""Checks of every request: known host, own origin, small bodies, no foreign script."""

from __future__ import annotations

import ipaddress
import re

from flask import Flask, Response, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from lib.errors import DarkroomError

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
