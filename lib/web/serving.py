"""Serving the site: waitress, one process, on this machine's own address unless told otherwise."""

from __future__ import annotations

import sys
import threading
from typing import Any

from lib.errors import DarkroomError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8050
_THREADS = 8


def serve(
    *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, names: tuple[str, ...] = ()
) -> int:
    """Serves until it is stopped. `names` are further host names under which the site may be asked
    for.

    Raises DarkroomError when the port is taken or the address is not this machine's.
    """
    server = listen(host=host, port=port, names=names)
    threading.Thread(target=_warm, daemon=True).start()
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host  # noqa: S104  only compared
    print(
        f"The site is at http://{shown}:{server.effective_port}/ until you press Ctrl-C.",
        flush=True,
    )
    if host not in ("localhost", "127.0.0.1", "::1"):
        print(
            "Whoever reaches this address can see it and change the ledger; there is no password.",
            file=sys.stderr,
        )
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0


def _warm() -> None:
    from lib.web import site

    site.warm()


def listen(*, host: str = DEFAULT_HOST, port: int = 0, names: tuple[str, ...] = ()) -> Any:
    """Returns waitress with the site in it, listening but not yet serving: `run()` serves,
    `effective_port` tells the port.

    Raises DarkroomError when the port is taken or the address is not this machine's.
    """
    import waitress

    from lib.web import guard, site

    host = (
        DEFAULT_HOST if host == "localhost" else host
    )  # the name may stand for two addresses, and one is enough
    app = site.create(hosts=(*guard.local_hosts(host), *names))
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=_THREADS,
            max_request_body_size=guard.MAX_BODY,
            ident=None,
            channel_timeout=30,
            clear_untrusted_proxy_headers=True,
        )
    except (OSError, ValueError) as error:
        raise DarkroomError(
            f"The site cannot be served on {host}, port {port} ({error}). Choose another with "
            "--port, or stop what uses it."
        ) from None
