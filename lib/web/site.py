"""The Flask application, and waitress that serves it, on this machine's own address by default."""

from __future__ import annotations

import functools
import sys
import threading
from pathlib import Path
from typing import Any

import bokeh
from flask import Flask, Response, redirect, send_file

from lib import errors
from lib.errors import DarkroomError
from lib.evaluation import formatting
from lib.reporting import text
from lib.web import classify_page, data_page, label_page, map_page, request_security, runs_page
from lib.web.request_security import DEFAULT_HOST, DEFAULT_PORT

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
    app = create(hosts=(*request_security.local_hosts(host), *names))
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=_THREADS,
            max_request_body_size=request_security.MAX_BODY,
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
    request_security.protect(app, hosts=hosts or request_security.local_hosts(DEFAULT_HOST))
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
