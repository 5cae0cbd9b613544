"""The clock on the wall is set back by a day while a study is at work: nobody notices."""

import json
import os
import time

JUMP = """
import os
import time

real, real_ns = time.time, time.time_ns
day = lambda: 86_400 if os.path.exists({flag!r}) else 0
time.time = lambda: real() - day()
time.time_ns = lambda: real_ns() - day() * 1_000_000_000
"""


def test_the_clock_is_set_back(one, tmp_path, monkeypatch):
    flag = tmp_path / "yesterday"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMP.format(flag=str(flag)))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    )
    process = one.begin("--workers", "2", "--set", "seconds=2")
    while not (one.home / "logs" / "one" / "work" / "plain-s0" / "progress.json").exists():
        time.sleep(0.05)
    flag.touch()
    told, complained = process.communicate(timeout=600)
    assert process.returncode == 0, told + complained
    before = one.results()
    for path in one.home.glob("logs/one/work/*/result.json"):
        assert 2 <= json.loads(path.read_text())["seconds"] < 3600  # a day were 86,400
    assert one.complete("--set", "seconds=2") == one.expected
    assert one.results() == before  # nothing is taken for older than it is
