"""Serves the site by waitress, on this machine's own address by default."""

from __future__ import annotations

import sys
import threading
from typing import Any

from lib.errors import DarkroomError
from lib.web import guard, site
from lib.web.guard import DEFAULT_HOST, DEFAULT_PORT

_THREADS = 8
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
    threading.Thread(target=site.warm, daemon=True).start()
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

    if host == "localhost":  # may stand for two addresses, and one is enough
        host = DEFAULT_HOST
    app = site.create(hosts=(*guard.local_hosts(host), *names))
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=_THREADS,
            max_request_body_size=guard.MAX_BODY,
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
