"""TMDB's API: requests and films. The key is sent to the API only, in the header if possible."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib.data import decode, targets
from lib.data.sources.http_client import Client, Refused
from lib.errors import DarkroomError

TOKEN, KEY = "TMDB_TOKEN", "TMDB_API_KEY"  # noqa: S105  names of environment variables
POSTERS = "posters"
COLUMNS = ("image", "genre", "genres", "title", "year", "vote", "votes", "tmdb_id")


@dataclass(frozen=True)
class Film:
    """A film with a poster: `genre` is the one that it was collected for, `genres` all of them by
    name.
    """

    id: int
    genre: str
    genres: tuple[str, ...]
    title: str
    year: int | None
    vote: float | None
    votes: int | None
    poster: str

    def row(self) -> dict[str, Any]:
        """Returns the film's row of the table."""
        every = targets.SEPARATOR.join(self.genres)
        return dict(
            zip(
                COLUMNS,
                (
                    f"{POSTERS}/{self.id}.jpg",
                    self.genre,
                    every,
                    self.title,
                    self.year,
                    self.vote,
                    self.votes,
                    self.id,
                ),
                strict=True,
            )
        )


def film(entry: Mapping[str, Any], genre: str, names: Mapping[int, str]) -> Film | None:
    """Returns a film of a page of answers, collected for `genre`; None where it has no poster."""
    if not entry.get("poster_path") or type(entry.get("id")) is not int:
        return None
    year = str(entry.get("release_date") or "")[:4]
    every = tuple(names[number] for number in entry.get("genre_ids", []) if number in names) or (
        genre,
    )
    return Film(
        entry["id"],
        genre,
        every,
        str(entry.get("title") or ""),
        int(year) if year.isdigit() else None,
        entry.get("vote_average"),
        entry.get("vote_count"),
        str(entry["poster_path"]),
    )


class Server:
    """TMDB's API: what it is asked, with the key in the header or the query."""

    def __init__(self, api: str, client: Client) -> None:
        self._api, self._client = api.rstrip("/"), client
        self._token, self._key = os.environ.get(TOKEN, ""), os.environ.get(KEY, "")
        if not (self._token or self._key):
            raise DarkroomError(
                "TMDB asks for a key: get one in your account's settings there and put the read "
                "access token into the "
                f"environment variable {TOKEN} (or the older key into {KEY})."
            )

    def ask(self, path: str, **query: Any) -> dict[str, Any]:
        """Returns the JSON object at `path`."""
        if not self._token:
            query["api_key"] = self._key
        headers = {"Accept": "application/json"} | (
            {"Authorization": f"Bearer {self._token}"} if self._token else {}
        )
        try:
            body = self._client.get(
                f"{self._api}{path}?{urllib.parse.urlencode(query)}",
                headers=headers,
                check=_json_problem,
            )
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
