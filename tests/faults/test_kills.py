"""A study is killed wherever it writes: no false "finished", nothing lost, nothing torn, and the
same command finishes the study.
"""

import pytest

FILES = (
    "study.json",
    ".holder.json",
    "key.json",
    "progress.json",
    "notebook.ipynb",
    "parameters.json",
    "result.json",
)
POINTS = [f"{file}:{moment}" for file in FILES for moment in ("written", "renamed")]
SHORT = ("key.json:renamed", "result.json:written", "result.json:renamed")
LATE = [
    f"{file}:{moment}"
    for file in ("results.parquet", "results.csv", "index.html")
    for moment in ("written", "renamed")
]


@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=() if p in SHORT else pytest.mark.slow) for p in [*POINTS, *LATE]],
)
def test_killed_at_a_point(one, point):
    broken = one.run("--workers", "2", DARKROOM_FAULT=point)
    assert broken.returncode != 0
    if point == "result.json:written":
        assert not one.results()
    assert one.complete() == one.expected
    if point in LATE:  # all had finished, so nothing was left to do but to write these
        assert (one.home / "logs" / "index.html").exists()
