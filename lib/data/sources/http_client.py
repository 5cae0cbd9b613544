"""Asking a server over HTTP as a guest: no faster than agreed, patient when it is busy, and
distrustful of what comes.
"""

from __future__ import annotations

import email.message
import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

from lib.errors import DarkroomError

MOST_BYTES = 64 << 20
_TIMEOUT_S, _TRIES, _LONGEST_S = 30, 6, 120
_AGENT = "darkroom (image-classification experiments)"


class Refused(DarkroomError):
    """The server answered, and the answer is no: there is no such thing, or no permission for it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Guest:
    """Asks for addresses, at most `per_second` of them over all threads, each at most six times.

    Busy servers (429, 5xx), broken connections and bodies that end early are asked again, after
    what `Retry-After` says or after 1, 2, 4, … seconds. `pause` waits; tests give another.
    """

    def __init__(
        self, *, per_second: float, pause: Callable[[float], None] = time.sleep, tries: int = _TRIES
    ) -> None:
        self._gap, self._pause, self._tries = 1 / per_second, pause, tries
        self._lock, self._next = threading.Lock(), 0.0

    def get(
        self,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept: Callable[[str, bytes], str | None],
    ) -> bytes:
        """Returns the body. `accept(content type, body)` says what is wrong with it, or None; what
        is wrong is asked for again.

        Raises `Refused` for an answer of 4xx, DarkroomError when all tries failed. No message holds
        the address's query or the headers, where keys are.
        """
        where = urllib.parse.urlsplit(address)._replace(query="", fragment="").geturl()
        problem = ""
        for attempt in range(self._tries):
            self._wait_for_turn()
            wait = min(_LONGEST_S, 2.0**attempt)
            try:
                kind, body = self._once(address, headers or {})
                problem = accept(kind, body) or ""
                if not problem:
                    return body
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"HTTP {error.code}"
                if error.code != 429 and error.code < 500:
                    raise Refused(f"{where} answered {problem}.", error.code) from None
                wait = _asked_to_wait(error.headers, wait)
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                problem = str(getattr(error, "reason", "") or type(error).__name__)
            if attempt + 1 < self._tries:
                self._pause(wait)
        raise DarkroomError(
            f"{where} did not answer as expected in {self._tries} tries; the last problem: "
            f"{problem}."
        )

    def _wait_for_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._pause(turn - now)

    def _once(self, address: str, headers: Mapping[str, str]) -> tuple[str, bytes]:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise DarkroomError("Only http and https addresses are asked.")
        request = urllib.request.Request(address, headers={"User-Agent": _AGENT, **headers})  # noqa: S310  checked above
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read(MOST_BYTES + 1)
            if len(body) > MOST_BYTES:
                raise http.client.HTTPException("more than 64 MiB")
            expected = answer.headers.get("Content-Length")
            if expected is not None and expected.isdigit() and int(expected) != len(body):
                raise http.client.IncompleteRead(body, int(expected) - len(body))
            return answer.headers.get_content_type(), body


def _asked_to_wait(headers: email.message.Message | None, otherwise: float) -> float:
    text = (headers or {}).get("Retry-After") or ""
    return min(_LONGEST_S, float(text)) if text.isdigit() else otherwise
