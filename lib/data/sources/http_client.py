"""An HTTP client: `requests` with a rate limit, retries, and checks of the response."""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lib.errors import DarkroomError

MAX_BYTES = 64 << 20
_TIMEOUT_S, _ATTEMPTS, _MAX_WAIT_S = 30, 6, 120
_BUSY = (429, 500, 502, 503, 504)
_AGENT = "darkroom (image-classification experiments)"
_CHUNK = 1 << 16


class Refused(DarkroomError):
    """The server's answer is no: there is no such thing, or no permission for it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Requests addresses, at most `per_second` of them over all threads.

    Busy servers (429, 5xx) and broken connections are retried by `urllib3.Retry`, after what
    `Retry-After` says or 1, 2, 4, … seconds; so are bodies that end early or are not accepted. A
    redirect to another host gets no `Authorization` header.
    """

    def __init__(
        self,
        *,
        per_second: float,
        attempts: int = _ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap, self._sleep, self._attempts = 1 / per_second, sleep, attempts
        self._lock, self._next = threading.Lock(), 0.0
        self._session = requests.Session()
        self._session.headers["User-Agent"] = _AGENT
        retries = _retries(attempts, sleep)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def get(
        self,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        check: Callable[[str, bytes], str | None],
    ) -> bytes:
        """Returns the body; `check(content type, body)` says what is wrong with it, or None.

        Raises `Refused` for a status of 4xx, DarkroomError when all attempts failed. No message
        contains the query or the headers, which hold keys.
        """
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https"):
            raise DarkroomError("Only http and https addresses can be requested.")
        where, problem = parts._replace(query="", fragment="").geturl(), ""
        for attempt in range(self._attempts):
            self._wait_for_turn()
            try:
                kind, body = self._request(address, headers or {}, where)
                problem = check(kind, body) or ""
                if not problem:
                    return body
            except requests.RequestException as error:
                problem = _reason(error)
                if isinstance(error, requests.exceptions.RetryError):
                    break  # urllib3 has used all attempts
            if attempt + 1 < self._attempts:
                self._sleep(min(_MAX_WAIT_S, 2.0**attempt))
        raise DarkroomError(
            f"{where} did not answer as expected in {self._attempts} attempts; the last problem: "
            f"{problem}."
        )

    def _request(self, address: str, headers: Mapping[str, str], where: str) -> tuple[str, bytes]:
        options = {"headers": headers, "timeout": _TIMEOUT_S, "stream": True, "auth": _keep_auth}
        with self._session.get(address, **options) as response:
            if response.status_code >= 400:
                status = response.status_code
                raise Refused(f"{where} answered HTTP {status}.", status)
            body = bytearray()
            for chunk in response.iter_content(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise requests.exceptions.ContentDecodingError(
                        f"more than {MAX_BYTES >> 20} MiB"
                    )
            kind = response.headers.get("Content-Type", "application/octet-stream")
            return kind.partition(";")[0].strip().lower(), bytes(body)

    def _wait_for_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)


def _retries(attempts: int, sleep: Callable[[float], None]) -> Retry:
    class SleepingRetry(Retry):
        """Waits by the client's `sleep`."""

        def sleep(self, response: object = None) -> None:
            wait = self.get_retry_after(response) if response is not None else None
            seconds = self.get_backoff_time() if wait is None else wait
            if seconds:
                sleep(min(_MAX_WAIT_S, seconds))

    return SleepingRetry(
        total=attempts - 1,
        backoff_factor=1,
        backoff_max=_MAX_WAIT_S,
        status_forcelist=_BUSY,
        allowed_methods=("GET",),
    )


def _reason(error: requests.RequestException) -> str:
    """The reason without the address, in which keys may be."""
    inner: BaseException = error
    cause: object = error
    while isinstance(cause, BaseException):
        inner, cause = cause, getattr(cause, "reason", None) or (cause.args or [None])[0]
    text = str(inner) if type(inner).__module__.startswith("urllib3") else ""
    if "too many" in text and "error responses" in text:
        return "HTTP " + "".join(character for character in text if character.isdigit())
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return str(error)
    return type(inner).__name__


def _keep_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from replacing our header by one of ~/.netrc."""
    return request
