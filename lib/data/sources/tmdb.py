"""Collects film posters by genre from The Movie Database, with TMDB's permission.

`collect` fills `datasets/<name>/raw/` with posters/<film>.jpg and the table posters.csv; from then
on it is a data set with a table like any other. Nothing is fetched twice: pages and posters that
are there stay, so a stopped run continues.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import io
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lib import files, paths
from lib.data import dataset as datasets
from lib.data import decode, sources, targets
from lib.data.dataset import Dataset
from lib.data.sources import source_checks
from lib.errors import DarkroomError, check_choice

MAX_BYTES = 64 << 20
_TIMEOUT_S, _ATTEMPTS, _MAX_WAIT_S = 30, 6, 120
_BUSY = (429, 500, 502, 503, 504)
_AGENT = "darkroom (image-classification experiments)"
_CHUNK = 1 << 16

TOKEN, KEY = "TMDB_TOKEN", "TMDB_API_KEY"  # noqa: S105  names of environment variables
POSTERS = "posters"
COLUMNS = ("image", "genre", "genres", "title", "year", "vote", "votes", "tmdb_id")


def film(entry: Mapping[str, Any], genre: str, names: Mapping[int, str]) -> dict[str, Any] | None:
    """Returns the row of the table for a film of a page of answers, and the address of its
    `poster`; None where it has none.

    `genre` is the one that it is collected for, `genres` all of them by name.
    """
    if not entry.get("poster_path") or type(entry.get("id")) is not int:
        return None
    year = str(entry.get("release_date") or "")[:4]
    genres = [names[number] for number in entry.get("genre_ids", []) if number in names]
    return {
        "image": f"{POSTERS}/{entry['id']}.jpg",
        "genre": genre,
        "genres": targets.SEPARATOR.join(genres or [genre]),
        "title": str(entry.get("title") or ""),
        "year": int(year) if year.isdigit() else None,
        "vote": entry.get("vote_average"),
        "votes": entry.get("vote_count"),
        "tmdb_id": entry["id"],
        "poster": str(entry["poster_path"]),
    }


class Server:
    """TMDB's API: what it is asked, with the key in the header or the query."""

    def __init__(self, api: str, client: Client) -> None:
        self._api, self._client = api.rstrip("/"), client
        self._token, self._key = os.environ.get(TOKEN, ""), os.environ.get(KEY, "")
        if not (self._token or self._key):
            raise DarkroomError(
                "TMDB asks for a key: get one in your account's settings there and put the read "
                f"access token into the environment variable {TOKEN} (or the older key into {KEY})."
            )

    def ask(self, path: str, **query: Any) -> dict[str, Any]:
        """Returns the JSON object at `path`."""
        if not self._token:
            query["api_key"] = self._key
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        address = f"{self._api}{path}?{urllib.parse.urlencode(query)}"
        try:
            body = self._client.get(address, headers=headers, check=_json_problem)
        except Refused as error:
            if error.status in (401, 403):
                raise DarkroomError(
                    f"TMDB refuses the key in {TOKEN if self._token else KEY} (HTTP "
                    f"{error.status})."
                ) from None
            raise
        return json.loads(body)

    def poster(self, address: str) -> bytes:
        """Returns the picture at an address; no key is sent there."""
        return self._client.get(address, check=_picture_problem)


def _json_problem(kind: str, body: bytes) -> str | None:
    try:
        return None if isinstance(json.loads(body), dict) else "the answer is no JSON object"
    except ValueError:
        return f"the answer is {kind} and no JSON"


def _picture_problem(kind: str, body: bytes) -> str | None:
    if not kind.startswith("image/") and kind != "application/octet-stream":
        return f"a poster came as {kind}"
    try:
        decode.decode(body)
    except decode.ImageError as error:
        return f"a poster is {error.reason}"
    return None


ABOUT = "film posters by genre from The Movie Database, with its permission alone"
LICENCE = "TMDB API terms of use: https://www.themoviedb.org/api-terms-of-use"
NOTICE = "This product uses the TMDB API but is not endorsed or certified by TMDB."
TERMS = (
    "The Movie Database allows its API and images for non-commercial use with attribution, and "
    "restricts their use for machine learning. Read "
    "https://www.themoviedb.org/api-terms-of-use, ask TMDB for permission for what you intend, and "
    'state it: permission="who gave it, when, for what". Without one use a data set of your own.'
)
API = "https://api.themoviedb.org/3"
PER_SECOND = 10.0
"""Requests a second; TMDB stops answering somewhere above 40."""

_TABLE, _PAGES, _WIDTH = "posters.csv", ".collecting", "w342"
_MOST_PAGES = 500  # TMDB's own limit


def collect(
    name: str,
    *,
    genres: Sequence[str],
    per_genre: int,
    permission: str,
    side: int = 0,
    language: str = "en",
    client: Client | None = None,
    api: str = API,
    tell: Callable[[str], None] = print,
) -> Dataset:
    """Collects posters into `datasets/<name>` and returns the data set; called again after a stop,
    it goes on.

    Args:
        name: what the data set is called here.
        genres: TMDB's names, such as ["Horror", "Animation"], or ["all"] for every genre that TMDB
            has. Each is filled alike, no film comes twice.
        per_genre: films of each genre, at most 10,000.
        permission: who allowed the use for machine learning, and when; noted with the data set.
        side: scale posters to this side in pixels on arrival; 0 keeps TMDB's width of 342.
        language: of the genres' names, such as "fr" for Horreur.
        client: how the server is asked.
        api: the API's address.
        tell: called with a line now and then.

    Raises:
        DarkroomError: no permission stated, no key in the environment, an unknown genre, a name
            that is taken, or a server that refuses or does not answer.
    """
    if not permission.strip():
        raise DarkroomError(TERMS)
    if not 2 <= per_genre <= 20 * _MOST_PAGES or (len(set(genres)) < 2 and list(genres) != ["all"]):
        raise DarkroomError(
            f"It takes two genres or more of 2 to 10,000 films each. Received: {list(genres)}, "
            f"{per_genre}."
        )
    tell(NOTICE)
    server = Server(api, client or Client(per_second=PER_SECOND))
    folder = paths.dataset(name)
    request = {"genres": list(genres), "per_genre": per_genre, "side": side}
    request |= {} if language == "en" else {"language": language}
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, name):
        _refuse_taken(folder, name, request)
        for place in (folder, folder / _PAGES, folder / "raw", folder / "raw" / POSTERS):
            files.clear_aside(place)
        listed = _genres(server, folder, language)
        films = list(_films(server, folder, genres, per_genre, listed, tell))
        failed = _posters(server, folder, films, side, tell)
        _finish(folder, [one for one in films if one["tmdb_id"] not in failed])
    there = datasets.register(name, _source(request, permission, len(films) - len(failed), failed))
    source_checks.usable(sources.rows(there), where=there.raw)
    return there


def _refuse_taken(folder: Path, name: str, request: dict[str, Any]) -> None:
    source, wish = folder / datasets.SOURCE, folder / _PAGES / "wish.json"
    known = files.read_json(wish) if wish.is_file() else request
    if source.is_file():
        known = (files.read_json(source) or {}).get("collected", {})
    if known != request:
        raise DarkroomError(
            f"The data set {name!r} is there, collected by {known or 'other means'}. Give this one "
            "another name, or the same genres, per_genre and side."
        )
    unfinished = folder / datasets.UNFINISHED
    if (folder / "raw").exists() and not unfinished.exists() and not source.exists():
        raise DarkroomError(
            f"{folder / 'raw'} is there already and is not overwritten; give this data set another "
            "name."
        )
    wish.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        unfinished.touch()
    files.write_json(wish, request)


def _genres(server: Server, folder: Path, language: str) -> dict[str, int]:
    genres = _page(server, folder, "genres", "/genre/movie/list", language=language)["genres"]
    return {genre["name"]: int(genre["id"]) for genre in genres}


def _films(
    server: Server,
    folder: Path,
    genres: Sequence[str],
    per_genre: int,
    listed: dict[str, int],
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Films of every genre, page by page in turn, so that a film of two genres goes now to the one
    and now to the other.
    """
    if list(genres) == ["all"]:
        genres = sorted(listed)
    for genre in genres:
        check_choice("genre", genre, listed, where="TMDB")
    names = {number: name for name, number in listed.items()}
    missing, page, seen = dict.fromkeys(genres, per_genre), dict.fromkeys(genres, 1), set()
    while open_genres := [genre for genre in genres if missing[genre] and page[genre]]:
        for genre in open_genres:
            query = {"with_genres": listed[genre], "page": page[genre]}
            query |= {"sort_by": "vote_count.desc", "include_adult": "false"}
            answer = _page(
                server, folder, f"{listed[genre]}-{page[genre]:03}", "/discover/movie", **query
            )
            for entry in answer.get("results", []):
                one = film(entry, genre, names)
                if one and one["tmdb_id"] not in seen and missing[genre]:
                    seen.add(one["tmdb_id"])
                    missing[genre] -= 1
                    yield one
            last = min(int(answer.get("total_pages", 1)), _MOST_PAGES)
            page[genre] = page[genre] + 1 if page[genre] < last else 0
    for genre, number in missing.items():
        if number:
            tell(
                f"TMDB has {per_genre - number} films with a poster for {genre}, {number} fewer "
                "than requested."
            )


def _page(server: Server, folder: Path, key: str, path: str, **query: Any) -> dict[str, Any]:
    kept = folder / _PAGES / f"{key}.json"
    if not kept.is_file():
        files.write_json(kept, server.ask(path, **query))
    return json.loads(kept.read_text(encoding="utf-8"))


def _posters(
    server: Server,
    folder: Path,
    films: Sequence[dict[str, Any]],
    side: int,
    tell: Callable[[str], None],
) -> dict[int, str]:
    """Fetches what is not there yet; returns why a film has no poster. The server's silence ends
    it, a single bad one not.
    """
    images = _page(server, folder, "configuration", "/configuration")["images"]
    base = f"{images['secure_base_url'].rstrip('/')}/{_WIDTH}"
    raw = folder / "raw"
    (raw / POSTERS).mkdir(parents=True, exist_ok=True)
    missing = [one for one in films if not (raw / one["image"]).is_file()]
    failed: dict[int, str] = {}

    def fetch(one: dict[str, Any]) -> None:
        try:
            data = server.poster(f"{base}/{one['poster'].lstrip('/')}")
            data = decode.scaled(data, side=side) if side else data
            files.write_bytes(raw / one["image"], data)
        except DarkroomError as error:
            failed[one["tmdb_id"]] = str(error)
            if len(failed) >= max(10, len(films) // 10):
                raise DarkroomError(
                    f"{len(failed)} posters could not be fetched, the last because: {error}"
                ) from None

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(fetch, one) for one in missing]
        try:
            for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                future.result()
                if number % 200 == 0:
                    tell(f"{len(films) - len(missing) + number:,} of {len(films):,} posters")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _finish(folder: Path, films: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(films)
    files.write_text(folder / "raw" / _TABLE, text.getvalue())


def _source(
    request: dict[str, Any], permission: str, num: int, failed: Mapping[int, str]
) -> dict[str, Any]:
    options = {"table": _TABLE, "image": "image", "folder": "", "ending": "", "label": "genre"}
    return {
        "kind": "table",
        "path": "raw",
        "mode": "copy",
        "about": f"{num:,} {ABOUT}",
        "licence": LICENCE,
        "citation": NOTICE,
        "permission": permission.strip(),
        "label_rule": "the genre that the film was collected for; attr_genres has all",
        "options": {**options, "separator": None, "several": "first"},
        "collected": request,
        "not_fetched": {str(film): why for film, why in failed.items()},
        "brought": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    lock = filelock.FileLock(folder / ".collecting.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DarkroomError(
            f"Another process collects into the data set {name!r} now; wait for it or give another "
            "name."
        ) from None
    try:
        yield
    finally:
        lock.release()


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
