"""Collecting posters, from a local server that plays TMDB: its documented answers, and everything
that goes wrong on a line.
"""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from lib.data import dataset, decode, sources, targets
from lib.data.sources import tmdb
from lib.errors import DarkroomError

GENRES = {28: "Action", 16: "Animation", 27: "Horror"}
FRENCH = GENRES | {27: "Horreur"}
TOKEN = "secret-token"
PER_PAGE, PAGES = 4, 3


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((60, 90), 40).convert("RGB").save(
        buffer, "JPEG", comment=str(number).encode()
    )
    return buffer.getvalue()


class Tmdb(ThreadingHTTPServer):
    """Films 1000 and up are Action, 2000 Animation, 3000 Horror; every fourth Action film is also
    Horror.

    `trouble` maps a path to answers that come first: a status, "truncated", "text", "drop" or
    "rotten".
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked, self.keys, self.trouble = Counter(), set(), {}
        self.lock = threading.Lock()

    @property
    def api(self):
        return f"http://127.0.0.1:{self.server_port}/3"

    def page(self, genre: int, page: int) -> dict:
        first = {28: 1000, 16: 2000, 27: 3000}[genre] + (page - 1) * PER_PAGE
        results = [
            {
                "id": number,
                "title": f"Film {number}",
                "genre_ids": [genre, 27] if genre == 28 and number % 4 == 0 else [genre],
                "release_date": "1999-05-01" if number % 2 else "",
                "vote_average": 7.5,
                "vote_count": 12,
                "poster_path": None if number % PER_PAGE == 3 else f"/{number}.jpg",
            }
            for number in range(first, first + PER_PAGE)
        ]
        if genre == 27 and page == 1:
            results[1]["id"], results[1]["genre_ids"] = 1000, [28, 27]  # the same film in two lists
        return {
            "page": page,
            "results": results,
            "total_pages": PAGES,
            "total_results": PER_PAGE * PAGES,
        }


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, parts = self.server, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        with server.lock:
            server.asked[parts.path] += 1
            waiting = server.trouble.get(parts.path, [])
            trouble = waiting.pop(0) if waiting else None
        is_picture = parts.path.startswith("/img/")
        if is_picture:
            server.keys.add(("picture", self.headers.get("Authorization"), query.get("api_key")))
        elif (
            self.headers.get("Authorization") != f"Bearer {TOKEN}"
            and query.get("api_key") != "old-key"
        ):
            return self.say(
                401, {"status_code": 7, "status_message": "Invalid API key", "success": False}
            )
        if trouble == "drop":
            self.close_connection = True
            return None
        if isinstance(trouble, int):
            return self.say(
                trouble,
                {"status_code": 25, "success": False},
                {"Retry-After": "3"} if trouble == 429 else {},
            )
        if is_picture:
            body = jpeg(int(parts.path.rsplit("/")[-1].removesuffix(".jpg")))
            return self.send(
                200,
                "text/html" if trouble == "text" else "image/jpeg",
                body[:200] if trouble == "rotten" else body,
                cut=trouble == "truncated",
            )
        answers = {
            "/3/genre/movie/list": lambda: {
                "genres": [
                    {"id": number, "name": name}
                    for number, name in (FRENCH if query["language"] == "fr" else GENRES).items()
                ]
            },
            "/3/configuration": lambda: {
                "images": {"secure_base_url": f"{server.api[:-2]}/img/", "poster_sizes": ["w342"]}
            },
            "/3/discover/movie": lambda: server.page(int(query["with_genres"]), int(query["page"])),
        }
        if trouble == "text":
            return self.send(200, "text/html", b"<html>busy</html>")
        return self.say(200, answers[parts.path]())

    def say(self, status, value, headers=None):
        self.send(status, "application/json", json.dumps(value).encode(), headers)

    def send(self, status, kind, body, headers=None, cut=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    monkeypatch.setenv(tmdb.TOKEN, TOKEN)
    monkeypatch.delenv(tmdb.KEY, raising=False)
    found = Tmdb()
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def pauses():
    return []


def collect(server, pauses, **changes):
    wish = {
        "genres": ["Action", "Horror"],
        "per_genre": 5,
        "permission": "TMDB, 2026-01-05, coursework",
        "api": server.api,
    }
    client = tmdb.Client(per_second=10_000, sleep=pauses.append)
    return tmdb.collect("films", client=client, tell=lambda _: None, **{**wish, **changes})


def test_genres_are_named_in_the_language_asked_for(server, pauses):
    found = collect(server, pauses, genres=["all"], language="fr", per_genre=2)
    assert sorted(sources.rows(found)["label"].unique()) == ["Action", "Animation", "Horreur"]
    assert found.source["collected"]["language"] == "fr"
    with pytest.raises(DarkroomError, match="'films' is there, collected by"):
        collect(server, pauses, genres=["all"], per_genre=2)


def test_posters_come_by_genre_with_what_tmdb_says_of_them(server, pauses):
    told = []
    there = tmdb.collect(
        "films",
        genres=["Action", "Horror"],
        per_genre=5,
        permission="yes",
        api=server.api,
        tell=told.append,
        client=tmdb.Client(per_second=10_000),
    )
    assert told[0] == "This product uses the TMDB API but is not endorsed or certified by TMDB."
    rows = sources.rows(there).set_index("path")
    assert rows["label"].value_counts().to_dict() == {"Action": 5, "Horror": 5}
    assert rows.loc["posters/1000.jpg", "label"] == "Action"  # it is in both lists, and comes once
    assert rows.loc["posters/1000.jpg", "attr_genres"] == "Action|Horror"
    assert rows.loc["posters/1001.jpg", ["attr_title", "attr_year", "attr_vote"]].tolist() == [
        "Film 1001",
        1999,
        7.5,
    ]
    assert not rows["problem"].notna().any()
    assert "posters/1003.jpg" not in rows.index  # it has no poster
    assert targets.truth(sources.rows(there), "attr_genres/rarest").tolist().count("Horror") >= 5
    assert server.keys == {("picture", None, None)}  # the key goes to the API alone
    assert there.source["permission"] == "yes"
    assert TOKEN not in (there.folder / dataset.SOURCE).read_text()


def test_without_permission_or_key_nothing_is_asked(server, pauses, monkeypatch):
    with pytest.raises(DarkroomError, match="restricts their use for machine learning.*state it"):
        collect(server, pauses, permission=" ")
    monkeypatch.delenv(tmdb.TOKEN)
    with pytest.raises(DarkroomError, match="TMDB_TOKEN"):
        collect(server, pauses)
    assert not server.asked
    monkeypatch.setenv(tmdb.TOKEN, "wrong")
    with pytest.raises(
        DarkroomError, match=r"refuses the key in TMDB_TOKEN \(HTTP 401\)"
    ) as refused:
        collect(server, pauses)
    assert "wrong" not in str(refused.value)
    monkeypatch.delenv(tmdb.TOKEN)
    monkeypatch.setenv(tmdb.KEY, "old-key")
    assert len(sources.rows(collect(server, pauses))) == 10


def test_trouble_on_the_line_is_waited_out(server, pauses):
    server.trouble = {
        "/3/genre/movie/list": [503, "text"],
        "/3/discover/movie": [429, "drop"],
        "/3/configuration": [500],
        "/img/w342/1000.jpg": ["truncated", "text"],
        "/img/w342/1001.jpg": ["rotten", 429],
        "/img/w342/1002.jpg": ["drop", 502],
    }
    assert len(sources.rows(collect(server, pauses))) == 10
    assert pauses.count(3.0) == 2  # both 429 said Retry-After: 3
    assert 1.0 in pauses and 2.0 in pauses
    assert server.asked["/img/w342/1000.jpg"] == 3


def test_a_poster_that_never_comes_is_left_out_and_reported(server, pauses):
    server.trouble = {"/img/w342/1001.jpg": [404], "/img/w342/3000.jpg": ["text"] * 6}
    there = collect(server, pauses)
    assert len(sources.rows(there)) == 8
    assert sorted(there.source["not_fetched"]) == ["1001", "3000"]
    assert "HTTP 404" in there.source["not_fetched"]["1001"]


def test_a_server_that_is_gone_ends_it_in_words_and_the_same_call_continues(server, pauses):
    server.trouble = {"/3/discover/movie": [500] * 6}
    with pytest.raises(
        DarkroomError, match="did not answer as expected in 6 attempts; the last problem: HTTP 500"
    ):
        collect(server, pauses)
    assert "films" not in dataset.names()
    assert len(sources.rows(collect(server, pauses))) == 10
    assert server.asked["/3/genre/movie/list"] == 1
    before = sum(server.asked.values())
    collect(server, pauses)
    assert sum(server.asked.values()) == before
    with pytest.raises(DarkroomError, match="Give this one another name"):
        collect(server, pauses, per_genre=6)


@pytest.mark.parametrize(
    "point",
    [
        "28-001.json:renamed",
        "configuration.json:written",
        "posters.csv:written",
        "source.json:written",
        "1002.jpg:written",
        "3002.jpg:renamed",
    ],
)
def test_killed_at_any_write_the_same_call_ends_with_the_same_posters(
    server, pauses, point, tmp_path
):
    environment = {**os.environ, "DARKROOM_FAULT": point}
    killed = subprocess.run(
        [sys.executable, "-c", script(server)], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    whole(collect(server, pauses))


@pytest.mark.slow
def test_killed_at_25_random_moments_the_same_call_ends_with_the_same_posters(server, pauses):
    moments = random.Random(0)
    began = time.monotonic()
    command = [sys.executable, "-c", script(server)]
    subprocess.run(command, check=True, capture_output=True)
    seconds, kills = time.monotonic() - began, 0
    while kills < 25:
        shutil.rmtree(dataset.load("films").folder, ignore_errors=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 1) * seconds)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        whole(collect(server, pauses))
    print(f"collect: {kills} kills")


def script(server):
    return (
        "from lib.data.sources import tmdb\n"
        "tmdb.collect('films', genres=['Action', 'Horror'], per_genre=5, permission='yes', "
        f"api={server.api!r}, "
        "client=tmdb.Client(per_second=10000))"
    )


def whole(there):
    assert len(sources.rows(there)) == 10
    assert not sources.rows(there)["problem"].notna().any()
    assert not list(there.folder.rglob(".aside-*"))


def test_an_unknown_genre_is_reported(server, pauses):
    with pytest.raises(
        DarkroomError, match="TMDB: `genre` must be.*'Horor'. Did you mean 'Horror'"
    ):
        collect(server, pauses, genres=["Action", "Horor"])


def test_a_genre_that_runs_out_is_reported(server, pauses):
    told = []
    tmdb.collect(
        "few",
        genres=["Action", "Horror"],
        per_genre=20,
        permission="yes",
        api=server.api,
        tell=told.append,
        client=tmdb.Client(per_second=10_000),
    )
    assert "TMDB has 9 films with a poster for Action, 11 fewer than requested." in told


def test_posters_are_scaled_as_they_come(server, pauses):
    there = collect(server, pauses, side=16)
    with Image.open(there.raw / "posters" / "1000.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (16, 16))
    with pytest.raises(DarkroomError, match="8 to 2048"):
        decode.scaled(jpeg(1), side=4)


def test_no_more_is_asked_than_agreed(server):
    waits = []
    client = tmdb.Client(per_second=2, sleep=waits.append)
    for _ in range(3):
        client.get(f"{server.api}/configuration?api_key=old-key", check=lambda *_: None)
    assert waits == pytest.approx([0.5, 1.0], abs=0.2)  # the pauses are noted, not slept


def test_messages_never_hold_the_key(server):
    client = tmdb.Client(per_second=1000, sleep=lambda _: None, attempts=2)
    server.trouble = {"/3/configuration": [500, 500, 404]}
    for _ in range(2):
        with pytest.raises(DarkroomError) as told:
            client.get(f"{server.api}/configuration?api_key=old-key", check=lambda *_: None)
        assert "old-key" not in str(told.value)
    with pytest.raises(DarkroomError, match="Only http"):
        client.get("file:///etc/passwd", check=lambda *_: None)


def test_the_token_does_not_follow_a_redirect_to_another_host(server):
    """The other server, on another port, records what it is sent."""
    seen = []

    class Other(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            seen.append((self.headers.get("Authorization"), self.path))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    class Redirecting(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{other.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    other, first = (ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Other, Redirecting))
    threads = [threading.Thread(target=each.serve_forever) for each in (other, first)]
    for thread in threads:
        thread.start()
    try:
        client = tmdb.Client(per_second=1000)
        tmdb.Server(f"http://127.0.0.1:{first.server_port}/3", client).ask("/configuration")
    finally:
        for each, thread in zip((other, first), threads, strict=True):
            each.shutdown()
            thread.join()
            each.server_close()
    assert seen == [(None, "/elsewhere")]
