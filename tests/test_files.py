import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from lib import files


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a" / "é 漢字.txt", "Grüße\n")
    assert (tmp_path / "a" / "é 漢字.txt").read_text(encoding="utf-8") == "Grüße\n"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["é 漢字.txt"]


def test_a_failing_folder_leaves_the_old_one(tmp_path):
    with files.directory(tmp_path / "kept") as aside:
        (aside / "one").write_text("1")
    with pytest.raises(RuntimeError, match="midway"), files.directory(tmp_path / "kept") as aside:
        (aside / "two").write_text("2")
        raise RuntimeError("midway")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("one", "two"):
        with files.directory(tmp_path / "kept") as aside:
            (aside / name).write_text(name)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["two"]


def test_a_table_keeps_its_metadata(tmp_path):
    path, frame = tmp_path / "t.parquet", pandas.DataFrame({"a": [1]})
    files.write_parquet(path, frame, metadata={"kind": "probability"})
    table, metadata = files.read_cache(path)
    assert metadata == {"kind": "probability"} and table["a"].tolist() == [1]
    assert pandas.read_parquet(path)["a"].tolist() == [1] and files.is_sealed(path)
    path.write_bytes(path.read_bytes().replace(b"probability", b"probabilitx"))
    assert not files.is_sealed(path) and files.read_cache(path) is None


def test_a_table_for_people_computes_nothing(tmp_path):
    numbers = {"n": [-1, 2, 3, 4], "text": ["-0.5", "-", "-1.5 to +2", "-1e-5"]}
    texts = {"=1+1": ["@x", "=y", "+1+cmd|' /C calc'!A0", "-A1"], "label": ["a", "\t=b", None, "c"]}
    files.write_csv(tmp_path / "t.csv", pandas.DataFrame({**numbers, **texts}))
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "n,text,'=1+1,label",
        "-1,-0.5,'@x,a",
        "2,-,'=y,'\t=b",
        "3,-1.5 to +2,'+1+cmd|' /C calc'!A0,",
        "4,-1e-5,'-A1,c",
    ]


def test_not_a_number_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a thing of POSIX")
@pytest.mark.parametrize(
    ("fault", "expected"), [("f:written", "old"), ("f:renamed", "new"), ("f:written#2", "new")]
)
def test_a_kill_at_a_named_point_leaves_the_old_or_the_new_file(tmp_path: Path, fault, expected):
    path = tmp_path / "f"
    path.write_text("old")
    script = "import sys, pathlib\nfrom lib import files\n"
    script += "for t in ('new', 'newer'): files.write_text(pathlib.Path(sys.argv[1]), t)"
    if fault.endswith("#2"):
        script = script.replace("'new', 'newer'", "'new', 'newest'")
    died = subprocess.run(
        [sys.executable, "-c", script, str(path)], env={**os.environ, "DARKROOM_FAULT": fault}
    )
    assert died.returncode == -9
    assert path.read_text() == expected


def test_a_file_that_is_open_is_replaced_once_it_is_closed(tmp_path, monkeypatch):
    refusals = [PermissionError(13, "in use")] * 2
    replace = Path.replace

    def busy(self, target):  # as under Windows
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    monkeypatch.setattr(files, "_PAUSES_S", (0, 0))
    files.write_text(tmp_path / "told", "new")
    assert (tmp_path / "told").read_text() == "new" and not refusals
