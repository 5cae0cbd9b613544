"""Data sets in GridFS, on a real server in a process of its own, which is killed as often as the
client is.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest

from lib import cli
from lib.data import dataset as datasets
from lib.data import intake, manifest, sources
from lib.errors import DarkroomError

pymongo = pytest.importorskip("pymongo")
from gridfs.errors import FileExists  # noqa: E402

from lib.data.sources import gridfs  # noqa: E402

SERVER = Path(sys.executable).with_name("secantusd-py")
pytestmark = pytest.mark.skipif(
    not SERVER.exists(), reason="the test server secantusdb is not installed"
)
POINTS = (
    "gridfs:chunks",
    "gridfs:files",
    "gridfs:files#2",
    "gridfs:dropped",
    "gridfs:rows",
    "gridfs:set",
)


class Server:
    """A server on a port and a folder that outlive it."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self):
        words = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--storage-path",
            str(self.folder),
            "--log-level",
            "ERROR",
            "--cache-size",
            "64M",
        ]
        self.process = subprocess.Popen(
            [SERVER, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 600
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.kill()  # or its end would be told of by whichever test runs then
        raise TimeoutError("the server does not answer")

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def url(self):
        return f"mongodb://127.0.0.1:{self.port}/darkroom"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("store"))
    yield found
    found.kill()


@pytest.fixture
def home(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(gridfs.URL, server.url)
    return tmp_path


def pictures(folder: Path, num: int = 40, seed: int = 0) -> Path:
    """Class folders of files of hostile names and sizes; one is larger than a chunk, one is empty,
    one is no picture.
    """
    rng = np.random.default_rng(seed)
    for number in range(num):
        place = folder / ("chats", "hündchen 🐶")[number % 2] / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(300 + 30 * number))
    (folder / "chats" / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(600_000))
    (folder / "chats" / "empty.png").write_bytes(b"")
    (folder / "chats" / "notes.txt").write_bytes(b"no picture")
    return folder


def content(raw: Path) -> dict[str, bytes]:
    return {
        path.relative_to(raw).as_posix(): path.read_bytes()
        for path in sorted(raw.rglob("*"))
        if path.is_file()
    }


def quiet(_):
    pass


def cleaned(there) -> pandas.DataFrame:
    rows = sources.rows(there)
    frame = pandas.DataFrame({name: [None] * len(rows) for name in manifest.COLUMNS})
    frame = frame.assign(
        path=rows["path"],
        label=rows["label"],
        sha256="a",
        pixels="p",
        bytes=rows["bytes"],
        format="PNG",
        width=3,
        height=2,
        mode="RGB",
        verdict="keep",
        group=range(len(rows)),
        attr_year=range(1990, 1990 + len(rows)),
        reasons=[["small", "dark"] if number == 1 else [] for number in range(len(rows))],
    )
    manifest.write(there.folder, frame)
    return manifest.read(there.folder)


def test_a_data_set_comes_back_as_it_was_put(home):
    there = intake.bring(str(pictures(home / "pictures")), name="animals")
    table = cleaned(there)
    sent = gridfs.put(there, tell=quiet)
    assert (sent.images, sent.moved) == (43, 43)
    assert gridfs.put(there, tell=quiet).moved == 0
    assert "animals" in gridfs.names()
    back, received = gridfs.get("animals", called="again", tell=quiet)
    assert received.moved == 43
    assert content(back.raw) == content(there.raw)
    pandas.testing.assert_frame_equal(back.manifest(), table)
    assert back.digest() == there.digest()
    assert "again" in datasets.names()
    with pytest.raises(DarkroomError, match="is not overwritten"):
        gridfs.get("animals", called="again", tell=quiet)


def test_any_driver_reads_the_images_as_gridfs(home):
    import gridfs as theirs

    there = intake.bring(str(pictures(home / "pictures", num=6)), name="standard")
    gridfs.put(there, tell=quiet)
    with pymongo.MongoClient(os.environ[gridfs.URL]) as client:
        bucket = theirs.GridFSBucket(client["darkroom"], "darkroom.standard")
        assert (
            bucket.open_download_stream_by_name("chats/large.png").read()
            == (there.raw / "chats" / "large.png").read_bytes()
        )


def test_what_changed_is_replaced_and_what_is_gone_goes(home):
    folder = pictures(home / "pictures", num=8)
    there = intake.bring(str(folder), name="changing")
    gridfs.put(there, tell=quiet)
    (folder / "chats" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n another")
    (folder / "chats" / "large.png").unlink()
    assert gridfs.put(there, tell=quiet).moved == 1
    back, _ = gridfs.get("changing", called="changed", tell=quiet)
    assert content(back.raw) == content(folder)
    with pymongo.MongoClient(os.environ[gridfs.URL]) as client:
        assert (
            client["darkroom"]["darkroom.changing.chunks"].count_documents({}) == 9
        )  # the empty file has none


def test_damage_in_the_store_is_found_by_the_hash(home):
    gridfs.put(intake.bring(str(pictures(home / "pictures", num=6)), name="damaged"), tell=quiet)
    with pymongo.MongoClient(os.environ[gridfs.URL]) as client:
        chunks = client["darkroom"]["darkroom.damaged.chunks"]
        chunks.update_one(
            {"_id": chunks.find_one({"n": 1})["_id"]}, {"$set": {"data": b"other bytes"}}
        )
    with pytest.raises(
        DarkroomError, match="'chats/large.png' of 'damaged' is damaged in the store"
    ):
        gridfs.get("damaged", called="undamaged", tell=quiet)
    assert "undamaged" not in datasets.names()


def test_a_name_that_leads_out_of_the_data_set_is_not_written(home):
    for name in ("../x.png", "/x.png", "a/../../x.png", "a\\x.png", "C:/x.png"):
        with pytest.raises(DarkroomError, match="leads out of the data set"):
            gridfs.local_path(home, name)
    assert gridfs.local_path(home, "a/b c.png") == home / "a" / "b c.png"


def test_a_missing_server_set_or_address_is_reported(home, monkeypatch):
    with pytest.raises(DarkroomError, match="no data set 'nothing'"):
        gridfs.get("nothing", tell=quiet)
    monkeypatch.setattr(gridfs, "_SELECTION_MS", 50)
    monkeypatch.setenv(gridfs.URL, "mongodb://someone:secret@127.0.0.1:9/darkroom")
    with pytest.raises(DarkroomError, match="The server at 127.0.0.1:9 does not answer") as told:
        gridfs.get("nothing", patience_s=0, tell=quiet)
    assert "secret" not in str(told.value)
    monkeypatch.setenv(gridfs.URL, "localhost")
    with pytest.raises(DarkroomError, match="DARKROOM_MONGO"):
        gridfs.get("nothing", tell=quiet)


def test_the_command_puts_lists_and_gets(home, capsys):
    folder = pictures(home / "told", num=4)
    assert cli.main(["store", "put", str(folder)]) == 0
    assert cli.main(["store", "list"]) == 0
    assert cli.main(["store", "get", "told", "--as", "back"]) == 0
    out = capsys.readouterr().out
    assert "7 images" in out and "told" in out.splitlines()
    assert cli.main(["store", "get"]) == 2


def client(words: str, home: Path, **environment: str) -> subprocess.Popen:
    script = f"from lib.data import intake\nfrom lib.data.sources import gridfs\ngridfs._BATCH_FILES = 10\n{words}"
    return subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )


def put_again_and_compare(there, name: str) -> None:
    gridfs.put(there, tell=quiet)
    shutil.rmtree(datasets.paths.dataset("back"), ignore_errors=True)
    back, _ = gridfs.get(name, called="back", tell=quiet)
    assert content(back.raw) == content(there.raw)
    with pymongo.MongoClient(os.environ[gridfs.URL]) as one:
        files, chunks = (one["darkroom"][f"darkroom.{name}.{part}"] for part in ("files", "chunks"))
        assert (
            files.count_documents({}) == len(files.distinct("filename")) == len(there.files())
        )  # none doubled
        assert set(chunks.distinct("files_id")) <= set(files.distinct("_id"))


@pytest.mark.parametrize("point", POINTS)
def test_a_client_killed_at_any_point_loses_nothing(home, point):
    name = point.replace(":", "_").replace("#", "_")
    folder = pictures(home / "pictures", num=30)
    there = intake.bring(str(folder), name=name)
    if "dropped" in point:
        gridfs.put(there, tell=quiet)
        (folder / "chats" / "large.png").unlink()
    cleaned(there)
    killed = client(f"gridfs.put(intake.bring({name!r}), tell=str)", home, DARKROOM_FAULT=point)
    assert killed.wait(600) == -signal.SIGKILL
    if "set" not in point:
        with pytest.raises(DarkroomError, match="is incomplete in the store"):
            gridfs.get(name, called="half", tell=quiet)
    put_again_and_compare(there, name)


def test_a_reader_killed_continues(home):
    there = intake.bring(str(pictures(home / "pictures", num=30)), name="read")
    gridfs.put(there, tell=quiet)
    killed = client(
        "gridfs.get('read', called='half', tell=str)", home, DARKROOM_FAULT="gridfs:read#12"
    )
    assert killed.wait(600) == -signal.SIGKILL
    assert "half" not in datasets.names()
    back, done = gridfs.get("read", called="half", tell=quiet)
    assert done.moved < 33
    assert content(back.raw) == content(there.raw)


def interrupted(server, home, there, name: str, moment: float, whom: str) -> None:
    """Puts a data set, and kills client or server after `moment` seconds of writing; a killed
    server comes back.
    """
    at_work = client(f"gridfs.put(intake.bring({name!r}), tell=str)", home)
    with pymongo.MongoClient(server.url) as one:
        while (
            at_work.poll() is None
            and one["darkroom"][f"darkroom.{name}.files"].estimated_document_count() == 0
        ):
            time.sleep(0.005)
    time.sleep(moment)
    if whom == "client":
        at_work.kill()
    else:
        server.kill()
        time.sleep(0.3)
        server.start()
    at_work.wait(600)
    if whom == "server":
        assert at_work.returncode == 0  # it has waited for the server to come back
    put_again_and_compare(there, name)


@pytest.mark.parametrize("error", [pymongo.errors.AutoReconnect, FileExists])
def test_a_server_that_is_away_is_waited_for(home, monkeypatch, error):
    name = f"waited_{error.__name__}"
    there = intake.bring(str(pictures(home / "pictures", num=8)), name=name)
    upload, away = gridfs.Bucket._upload, iter([True] * 5)

    def interrupted(self, path, data):
        upload(self, path, data)  # the answer is lost, so it is written again
        if next(away, False):
            raise error("connection closed")

    monkeypatch.setattr(gridfs.Bucket, "_upload", interrupted)
    gridfs.put(there, tell=quiet)
    assert next(away, False) is False
    put_again_and_compare(there, name)


def test_a_server_that_stays_away_ends_the_transfer(home, monkeypatch):
    def never(self, path, data):
        raise pymongo.errors.AutoReconnect("connection closed")

    there = intake.bring(str(pictures(home / "pictures", num=8)), name="given_up")
    monkeypatch.setattr(gridfs.Bucket, "_upload", never)
    with pytest.raises(DarkroomError, match="The same command continues where it stopped"):
        gridfs.put(there, patience_s=0.3, tell=quiet)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["client", "server"])
def test_killed_at_25_moments_nothing_is_lost_doubled_or_damaged(server, home, whom):
    rng = np.random.default_rng(0)
    for number, moment in enumerate(rng.uniform(0, 0.4, 25)):
        name = f"{whom}{number}"
        there = intake.bring(str(pictures(home / name, num=300, seed=number)), name=name)
        interrupted(server, home, there, name, float(moment), whom)
