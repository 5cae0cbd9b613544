"""The site without a browser: what its pages say, what its addresses give, and what it refuses."""

import base64
import io
import json
import random
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import map_home
import numpy as np
import pytest
from PIL import Image

from lib.cleaning import ledger
from lib.data import dataset as datasets
from lib.data import decode
from lib.evaluation import predictions
from lib.web import classify_page, finished_runs, http, map_page, runs_page, site

API = f"/api/maps/{map_home.PLACE}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARKROOM_HOME", str(root))
        map_home.build(root)
        yield root


@pytest.fixture
def client(home):
    app = site.create()
    app.testing = False  # an error in a page must become a 500 that the tests see
    return app.test_client()


def json_of(response, code=200):
    assert response.status_code == code, response.text[:300]
    return response.get_json()


def test_every_page_answers_and_names_from_data_are_text(client):
    for address in (
        "/runs",
        "/runs/odd@pictures",
        f"/runs/{map_home.PLACE}",
        "/maps",
        f"/maps/{map_home.PLACE}",
        "/classify",
    ):
        page = client.get(address)
        assert page.status_code == 200, address
        assert (
            "<img src=x" not in page.text
            and "<script>alert" not in page.text
            and "<b onclick" not in page.text
        ), address
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "default-src 'none'" in policy
        assert "unsafe-eval" not in policy
        assert (
            "http://" not in page.text.replace("http://localhost:6006/", "")
            and "https://" not in page.text
        )
    assert "&lt;img src=x onerror=alert(1)&gt;" in client.get("/maps").text


def test_a_map_is_float_arrays_in_the_unit_square_with_its_own_proportions(client):
    values = np.frombuffer(
        client.get(f"{API}/places?space=trained&method=pca").data, "<f4"
    ).reshape(2, -1)
    assert values.shape == (2, 60)
    spans = np.ptp(values, axis=1)
    assert (
        spans.max() == pytest.approx(1, abs=1e-5)
        and values.min() >= -1e-6
        and values.max() <= 1 + 1e-6
    )
    codes = np.frombuffer(client.get(f"{API}/columns/0").data, np.uint8)
    assert np.bincount(codes).tolist() == [20, 20, 20]
    first = client.get(f"{API}/places?space=trained&method=pca")
    again = client.get(
        f"{API}/places?space=trained&method=pca", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.status_code == 304
    assert json_of(client.get(f"{API}/places?space=trained&method=umap"), 404)["error"] == (
        "This run has no map 'umap' of the space 'trained'."
    )


def test_points_tell_their_words_and_their_nearest(client):
    [each] = json_of(client.post(f"{API}/points", json={"rows": [3]}))
    assert each["row"] == 3 and ["class", map_home.CLASSES[0]] in each["words"]
    near = json_of(client.get(f"{API}/nearest/3?space=trained"))
    assert (
        len(near) == 12
        and near[0]["distance"] <= near[-1]["distance"]
        and 3 not in [one["row"] for one in near]
    )
    assert all(["class", map_home.CLASSES[0]] in one["words"] for one in near[:5])
    for rows in ([60], [-1], ["3"], list(range(60)) * 4, "3"):
        assert client.post(f"{API}/points", json={"rows": rows}).status_code == 400


def test_search_takes_words_in_any_case_and_any_script(client):
    # Four of the class are taken for another, and four of another are taken for it.
    assert (
        len(json_of(client.get(f"{API}/search", query_string={"text": "写真 WRONG"}))["rows"]) == 8
    )
    assert json_of(client.get(f"{API}/search", query_string={"text": ".*"}))["rows"] == []
    assert json_of(client.get(f"{API}/search?text="))["rows"] == []


def test_a_thumbnail_is_drawn_again_without_notes(client, home):
    dataset = datasets.load("pictures")
    row = 5
    path = dataset.raw / archive_path(client, row)
    noted = Image.open(path)
    exif = Image.Exif()
    exif[0x9286] = "taken at home"
    before = path.read_bytes()
    noted.save(path, exif=exif)
    try:
        content = client.get(f"{API}/thumbnails/{row}").data
        shown = Image.open(io.BytesIO(content))
        assert (
            shown.format == "JPEG"
            and shown.size == (64, 48)
            and not shown.getexif()
            and b"taken at home" not in content
        )
    finally:
        path.write_bytes(before)
    assert client.get(f"{API}/thumbnails/60").status_code == 404


def archive_path(client, row):
    return json_of(client.post(f"{API}/points", json={"rows": [row]}))[0]["path"]


def test_an_image_that_became_a_link_outside_is_not_shown(client, home):
    path = datasets.load("pictures").raw / archive_path(client, 7)
    kept = path.read_bytes()
    outside = home / "outside.png"
    Image.new("RGB", (9, 9)).save(outside)
    path.unlink()
    path.symlink_to(outside)
    try:
        assert client.get(f"{API}/thumbnails/7").status_code == 404
    finally:
        path.unlink()
        path.write_bytes(kept)


def test_named_selections_survive_a_restart_and_can_be_forgotten(client, home):
    name = "</script><script>alert(3)</script>"
    json_of(client.post(f"{API}/selections", json={"name": name, "rows": [4, 1]}))
    [kept] = json_of(site.create().test_client().get(f"{API}/selections"))
    assert kept["name"] == name and sorted(kept["rows"]) == [1, 4]
    assert "script>alert(3)" not in client.get(f"/maps/{map_home.PLACE}").text
    json_of(client.delete(f"{API}/selections", json={"name": name}))
    assert map_page.selections(datasets.load("pictures")) == {}
    turned = {"name": "a\u202e", "rows": [1]}  # a sign that turns the text after it round
    for body in (
        {"name": "", "rows": [1]},
        turned,
        {"name": "b", "rows": []},
        {"rows": [1]},
        {"name": 3},
    ):
        assert client.post(f"{API}/selections", json=body).status_code == 400


def test_a_table_for_a_spreadsheet_computes_nothing(client):
    text = client.post(f"{API}/csv", json={"rows": list(range(60))}).text
    assert text.splitlines()[0].startswith("path,label,attr_year,verdict")
    assert len(text.splitlines()) == 61
    assert "\n=1+1" not in text and "'=1+1" in text


def test_the_ledger_takes_acts_and_gives_the_last_one_back(client):
    dataset = datasets.load("pictures")
    path = archive_path(client, 2)
    assert json_of(client.post(f"{API}/ledger", json={"rows": [2], "action": "reject"})) == {
        "ok": True,
        "files": 1,
    }
    assert dataset.manifest().set_index("path").at[path, "verdict"] == "reject"
    assert ledger.read(dataset.folder)[-1]["by"] == "map page"
    json_of(client.post(f"{API}/ledger/undo", json={}))
    assert dataset.manifest().set_index("path").at[path, "verdict"] == "keep"
    json_of(
        client.post(f"{API}/ledger", json={"rows": [2], "action": "relabel", "label": "写真 🎨"})
    )
    assert dataset.manifest().set_index("path").at[path, "label"] == "写真 🎨"
    json_of(client.post(f"{API}/ledger/undo", json={}))
    assert "not made here" in json_of(client.post(f"{API}/ledger/undo", json={}), 400)["error"]
    odd = {"rows": [2], "action": "relabel", "label": "a\nb\0"}
    for body in ({"rows": [2], "action": "delete"}, odd, {"rows": [], "action": "keep"}):
        assert client.post(f"{API}/ledger", json=body).status_code == 400


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:8050"}, 421),
        ({"Host": "localhost:8050, evil.example"}, 421),
        ({"Host": "127.0.0.1:8050"}, 200),
        ({"Host": "[::1]:8050"}, 200),
    ],
)
def test_only_this_machine_s_names_are_answered(client, headers, code):
    assert client.get("/runs", headers=headers).status_code == code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),  # curl
    ],
)
def test_only_an_own_page_may_change_something(client, headers, code):
    assert client.post(f"{API}/points", json={"rows": [1]}, headers=headers).status_code == code


@pytest.mark.parametrize(
    "address",
    [
        "/runs/..",
        "/runs/../../secret.txt",
        "/runs/%2e%2e/%2e%2e/secret.txt",
        "/runs/.earlier",
        "/maps/..%2f..%2f/features/one-s0",
        f"/runs/{map_home.PLACE}/figures/..%2f..%2fresult.json",
        f"/runs/{map_home.PLACE}/figures/../../../../secret.txt",
        "/static/../site.py",
        "/static/%2e%2e/site.py",
        "/scripts/../bokeh.min.js",
        "/scripts/bokeh.js",
        "/scripts/..%2f..%2f__init__.py",
        f"/runs/{map_home.PLACE}/report",
        "/runs/odd@pictures/features/one-s0%00.png",
        "/runs/nobody",
        "/runs/a/b/c",
        "/runs/" + "a" * 5000,
    ],
)
def test_no_path_leads_out(client, address):
    answer = client.get(address)
    assert answer.status_code == 404, address
    assert "secret" not in answer.text.replace("secret.txt", "")


def test_links_in_logs_are_not_followed(client, home):
    (home / "logs" / "linked").symlink_to(home / "came")
    assert "linked" not in finished_runs.studies()
    (home / "logs" / "odd@pictures" / "features" / "one-s0" / "figures" / "leak.png").symlink_to(
        home / "secret.txt"
    )
    assert client.get(f"/runs/{map_home.PLACE}/figures/leak.png").status_code == 404


def test_every_report_of_a_study_is_linked_and_tensorboard_once_it_runs(client, home, monkeypatch):
    for unit in ("networks", "all_arms"):
        run = home / "logs" / "several" / "compare" / unit
        (run / "figures").mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(run / "figures" / f"{unit}.png")
        (run / "report.html").write_text(f"<p>the report {unit}")
        (run / "key.json").write_text("{}")
        (run / "result.json").write_text(json.dumps({"metrics": {}, "figures": [f"{unit}.png"]}))
    board = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(runs_page, "_BOARD_PORT", port := board.getsockname()[1])
    for page in (client.get("/runs").text, (study := client.get("/runs/several").text)):
        for unit in ("networks", "all_arms"):
            assert (
                f'href="/runs/several/compare/{unit}/report"' in page
                and f"Report {unit.replace('_', ' ')}" in page
            )
            with client.get(f"/runs/several/compare/{unit}/report") as report:
                assert f"the report {unit}" in report.text
    for unit in ("networks", "all_arms"):
        assert f'src="/runs/several/compare/{unit}/report"' in study
    assert f"http://localhost:{port}/?runFilter=%5Eseveral%2F#timeseries" in study
    board.close()
    for address in ("/runs", "/runs/several"):
        page = client.get(address).text
        assert str(port) not in page and "darkroom board" in page  # no link that leads nowhere


def finished(home, place, result):
    """A finished run of nothing but what it says of itself."""
    run = home / "logs" / place
    run.mkdir(parents=True)
    (run / "key.json").write_text("{}")
    (run / "result.json").write_text(json.dumps({"figures": [], "seconds": 1, **result}))


def test_what_changed_labels_gained_stands_on_the_page_of_the_study(client, home):
    names = ("cat", "dog")
    shares = {"before": [[0.9, 0.1]] * 8, "after": [[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 4}
    for place, when in (
        ("loop/train/a-s0", "after"),
        (".earlier/loop/train/a-s0-20260101-000000-1", "before"),
    ):
        values = {"parameters": {"epochs": 2}, "data": when}
        metrics = {"accuracy": 0.5, "num_images": 8}
        finished(home, place, {"data": "pets", "arm": "a", "metrics": metrics, "key": values})
        frame = predictions.table(
            [f"{index}.png" for index in range(8)],
            splits=["test"] * 8,
            labels=["cat"] * 4 + ["dog"] * 4,
            groups=range(8),
            probabilities=np.array(shares[when]),
            class_names=names,
        )
        about = {"class_names": list(names), "data_hash": when}
        predictions.write(home / "logs" / place / "predictions.parquet", frame, about)
    page = client.get("/runs/loop").text
    assert "50.0 %" in page and "<b>100.0 %</b>" in page
    assert "+50.0 points (+3.9 to +76.1)" in page  # (4 ± 1.96 * sqrt(4 + 1 - 16 / 10)) / 10
    assert "loop" in json_of(client.get("/api/runs/progress"))


def test_several_data_sets_or_classes_an_image_are_not_ranked_in_one_table(client, home):
    several = {
        "accuracy": 0.99,
        "exact_match": 0.421,
        "exact_match_low": 0.3,
        "exact_match_high": 0.5,
        "macro_f1": 0.6,
        "val_exact_match": 0.39,
        "num_images": 90,
    }
    path = home / "checkpoints" / "mixed/thumbnails/many-s0" / "model.thumbnail"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    finished(
        home, "mixed/thumbnails/many-s0", {"data": "films", "metrics": several, "model_sha256": "0"}
    )
    finished(
        home,
        "mixed/train/one-s0",
        {"data": "cells", "metrics": {"accuracy": 0.7, "num_images": 90}},
    )
    page = client.get("/runs/mixed").text
    first, second = page.split("Several classes per image")
    assert "70.0 %" in first and "many-s0" not in first and "cells" in first
    assert "42.1 %" in second and "99.0 %" not in page
    card = next(
        each
        for each in client.get("/runs").text.split('<li class="card">')
        if "/runs/mixed" in each
    )
    assert "cells, films" in card and "Best" not in card
    page = client.get("/runs/mixed/thumbnails/many-s0").text
    assert "macro F1 on test 0.60, exact match 42.1 %, 90 images" in page
    assert "many-s0 (films) – exact match 39.0 % on validation" in client.get("/classify").text


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is enormous."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def picture(side=32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    ).save(buffer, "JPEG")
    return buffer.getvalue()


HOSTILE = {
    "bomb": (bomb(60_000, 60_000), 413),
    "large bomb": (bomb(2_000_000_000, 2_000_000_000), 413),
    "truncated": (picture(64)[:600], 415),
    "html": (b"<html><script>alert(1)</script></html>", 415),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415),
    "empty": (b"", 415),
    "zip": (b"PK\x03\x04" + b"\0" * 200, 415),
}


@pytest.fixture
def loaded(monkeypatch):
    """A model that reads pictures and is asked nothing."""

    def read(content, *, max_pixels):
        return decode.decode(content, max_pixels=max_pixels).pixels

    model = SimpleNamespace(classifier=SimpleNamespace(decode=read))
    monkeypatch.setattr(classify_page, "load", lambda run: model)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_is_refused(client, name, loaded):
    data, code = HOSTILE[name]
    sent = {"pictures": (io.BytesIO(data), "../../etc/<img>.png"), "accuracy": "0.95"}
    answer = client.post(
        f"/api/classify/{map_home.PLACE}", data=sent, content_type="multipart/form-data"
    )
    assert answer.status_code == code, answer.text
    assert answer.get_json()["error"]


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\xff\xd8\xff" + b"\0" * 2000, 413), (b"<html>", 415)],
    ids=["too large", "no picture"],
)
def test_what_is_too_large_or_no_picture_is_refused_before_a_model_is_loaded(
    client, monkeypatch, data, code
):
    monkeypatch.setattr("lib.web.classify_page.load", lambda run: pytest.fail("a model was loaded"))
    monkeypatch.setattr(classify_page, "MAX_FILE", 2000)
    sent = {"pictures": (io.BytesIO(data), "x.jpg")}
    answer = client.post(
        f"/api/classify/{map_home.PLACE}", data=sent, content_type="multipart/form-data"
    )
    assert answer.status_code == code


def test_at_most_two_uploads_are_in_memory(client, monkeypatch, loaded):
    held, most = [], []
    plain = classify_page.decode

    def hold(content, loaded):
        held.append(content)
        most.append(len(held))
        time.sleep(0.05)
        return plain(content, loaded)

    def answer(loaded, pixels, accuracy):
        time.sleep(0.05)
        held.pop()
        return {}

    monkeypatch.setattr(classify_page, "decode", hold)
    monkeypatch.setattr(classify_page, "_answer", answer)

    def send(_):
        sent = {"pictures": [(io.BytesIO(picture()), f"{number}.jpg") for number in range(3)]}
        return client.application.test_client().post(
            f"/api/classify/{map_home.PLACE}", data=sent, content_type="multipart/form-data"
        )

    with ThreadPoolExecutor(6) as visitors:
        assert {answer.status_code for answer in visitors.map(send, range(6))} == {200}
    assert len(most) == 18 and max(most) == 2  # each is decoded once


def test_a_body_that_says_it_is_a_gigabyte_is_refused_unread(client):
    class Unread(io.BytesIO):
        def read(self, *_):
            pytest.fail("the body was read")

    told = {
        "CONTENT_LENGTH": str(1 << 30),
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
        "wsgi.input": Unread(),
    }
    assert client.post(f"/api/classify/{map_home.PLACE}", environ_overrides=told).status_code == 413


def test_too_many_files_and_none_are_refused(client):
    many = {"pictures": [(io.BytesIO(picture()), f"{number}.jpg") for number in range(25)]}
    assert (
        client.post(
            f"/api/classify/{map_home.PLACE}", data=many, content_type="multipart/form-data"
        ).status_code
        == 400
    )
    assert client.post(f"/api/classify/{map_home.PLACE}", data={}).status_code == 400
    assert client.post(f"/api/classify/{map_home.PLACE}", json={"pictures": 1}).status_code == 400


PIECES = (
    "..",
    ".",
    "%2e%2e",
    "odd@pictures",
    "features",
    "one-s0",
    "figures",
    "maps.png",
    "\0",
    "%00",
    "a" * 300,
    "写真",
    "-1",
    "0",
    "59",
    "60",
    "99999999999999999999",
    "1e9",
    "<script>",
    "'; drop",
    "{{7*7}}",
    "api",
    "maps",
    "runs",
    "classify",
    "points",
    "selections",
    "ledger",
    "thumbnails",
    "nearest",
    "places",
    "columns",
    "search",
    "csv",
    "static",
    "scripts",
    "report",
    "%ff",
    "C:\\",
    "//",
    " ",
)
VALUES = (
    None,
    True,
    -1,
    0,
    3,
    60,
    1e308,
    2**70,
    "",
    "x",
    "\0",
    "写真 🎨",
    "../..",
    [],
    [0],
    [0, 1, 2],
    [[0]],
    [None],
    ["0"],
    [1.5],
    {},
    {"a": 1},
    "keep",
    "reject",
    "relabel",
    "\ud800",
)


ACTS = ("points", "selections", "csv", "ledger", "ledger/undo", "search", "places")


def fuzzed(draw: random.Random) -> dict:
    known = [
        f"/runs/{map_home.PLACE}",
        f"/maps/{map_home.PLACE}",
        API,
        "/api/classify",
        "",
        "/runs",
        "/static",
        "/scripts",
    ]
    path = draw.choice(known) + "".join(
        f"/{draw.choice(PIECES)}" for _ in range(draw.randint(0, 4))
    )
    if draw.random() < 0.5:  # half of them reach what they mean, with odd contents
        numbered = [
            f"{name}/{draw.choice(PIECES)}" for name in ("thumbnails", "nearest", "columns")
        ]
        path = f"{API}/{draw.choice([*ACTS, *numbered])}"
    words = ["trained", "pca", "tsne", "\0", "é" * 300, "-1"]
    query = {draw.choice(["space", "method", "text", "large", "x"]): draw.choice(words)}
    named = draw.sample(["rows", "name", "action", "label", "accuracy"], draw.randint(0, 5))
    body = {name: draw.choice(VALUES) for name in named}
    raw = draw.choice(
        [json.dumps(body).encode("utf-8", "surrogatepass"), b"{", b"\xff\xfe", b"[" * 50_000, b""]
    )
    kind = draw.choice(
        [
            "application/json",
            "text/plain",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "\x01",
        ]
    )
    headers = {
        draw.choice(
            ["Range", "If-None-Match", "Accept-Encoding", "X-Forwarded-Host", "Cookie"]
        ): draw.choice(["bytes=0-99999999999", "bytes=-1", "gzip", "*", '"x"', "evil", ""])
    }
    method = draw.choice(
        ["GET", "GET", "GET", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "TRACE"]
    )
    return {
        "path": path,
        "method": method,
        "query_string": query,
        "data": raw,
        "content_type": kind,
        "headers": headers,
    }


def test_a_thousand_odd_requests_break_nothing(client, home):
    draw = random.Random(20261125)
    before = {path: path.read_bytes() for path in (home / "came").rglob("*.png")}
    codes = {}
    for _ in range(1_000):
        asked = fuzzed(draw)
        answer = client.open(**asked)
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, asked
        assert b"the secret" not in answer.data, asked
    assert (
        codes.get(200, 0) > 50 and codes.get(404, 0) > 50 and codes.get(400, 0) > 20
    )  # it reached what it should
    assert {
        path: path.read_bytes() for path in (home / "came").rglob("*.png")
    } == before  # raw files are never written


@pytest.fixture(scope="module")
def model(home):
    return map_home.train(home)


def sent(*pictures, accuracy="0.9"):
    return {
        "pictures": [(io.BytesIO(data), "../<b>.jpg") for data in pictures],
        "accuracy": accuracy,
    }


def test_a_picture_is_named_with_calibrated_probabilities_a_heat_map_and_its_nearest(
    client, model, home
):
    address = f"/api/classify/{map_home.MODEL}"
    files = sorted(path for path in home.rglob("*") if path.is_file())
    answers = json_of(
        client.post(
            address, data=sent(picture(48), picture(20)), content_type="multipart/form-data"
        )
    )["answers"]
    assert len(answers) == 2
    first = answers[0]
    assert sum(share for _, share in first["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert first["probabilities"][0][0] == first["label"] and first["label"] in map_home.CLASSES
    assert isinstance(first["sure"], bool)
    assert first["heat"].startswith("data:image/jpeg;base64,")
    assert len(first["nearest"]) == 6 and {each["label"] for each in first["nearest"]} <= set(
        map_home.CLASSES
    )
    assert [each["distance"] for each in first["nearest"]] == sorted(
        each["distance"] for each in first["nearest"]
    )
    assert sorted(path for path in home.rglob("*") if path.is_file()) == files  # nothing was stored
    assert map_home.MODEL in client.get("/classify").text


def test_a_thumbnail_model_shows_where_it_looked_too(client, home):
    address = f"/api/classify/{map_home.train_thumbnails(home)}"
    [found] = json_of(
        client.post(address, data=sent(halves()), content_type="multipart/form-data")
    )["answers"]
    assert found["label"] == sorted(map_home.CLASSES)[1] and found["nearest"] is None
    heat = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(found["heat"].partition(",")[2]))), float
    )
    assert heat.shape == (160, 320, 3)  # as wide as the picture, not square as the model sees it
    yellow = heat[..., 1] - heat[..., 2]
    assert (
        yellow[:, :100].mean() > 50 > 10 > yellow[:, 220:].mean()
    )  # only the left half tells the classes apart


def halves() -> bytes:
    """A picture whose left half is bright."""
    buffer, pixels = io.BytesIO(), np.full((40, 80, 3), 60, np.uint8)
    pixels[:, :40] = 220
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_twenty_at_once_are_all_answered(client, model):
    app = client.application

    def ask(number):
        data = sent(picture(16 + number))
        answer = app.test_client().post(
            f"/api/classify/{map_home.MODEL}", data=data, content_type="multipart/form-data"
        )
        return answer.status_code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, range(20))) == [200] * 20


def test_a_model_whose_bytes_changed_is_not_loaded(client, model):
    kept = model.read_bytes()
    model.write_bytes(kept + b"\0")
    try:
        answer = client.post(
            f"/api/classify/{map_home.MODEL}",
            data=sent(picture()),
            content_type="multipart/form-data",
        )
        assert "not the file that its run wrote" in json_of(answer, 400)["error"]
    finally:
        model.write_bytes(kept)


def test_the_heat_is_on_the_picture_where_the_values_are():
    values = np.zeros((8, 8), np.float32)
    values[2, 3] = 4
    shown = http.overlaid(np.full((8, 8, 3), 100, np.uint8), values)
    assert shown[2, 3].tolist() == [
        215,
        200,
        107,
    ]  # a fifth of grey 55, four fifths of light yellow
    assert (shown[0, 0] == 55).all()


def test_the_names_that_a_server_answers_to():
    assert site.local_hosts("127.0.0.1") == ("localhost", "127.0.0.1", "::1")
    assert site.local_hosts("192.168.1.7") == ("192.168.1.7",)
    assert site.local_hosts("lab.example") == ("lab.example",)


def test_a_fresh_home_has_pages_that_say_how_to_begin(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    fresh = site.create().test_client()
    for address, told in (
        ("/runs", "darkroom run quickstart"),
        ("/maps", "8_features"),
        ("/classify", "no trained model yet"),
        ("/data", "no data sets yet"),
        ("/nowhere", "There is no page at this address."),
        ("/runs/nobody", "There is no study &#39;nobody&#39;"),
    ):
        assert told in fresh.get(address).text


def test_runs_and_maps_are_served_without_keras():
    heavy = {"keras", "tensorflow", "jax", "torch", "umap", "openTSNE"}
    script = f"import sys, lib.web.site; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
        == "[]\n"
    )
