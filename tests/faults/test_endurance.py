"""Hundreds of short runs in a row: the runner's memory, its open files and its child processes stay
where they were.
"""

import psutil
import pytest

from lib import notebooks, paths, runs
from lib.batch import notebook_job as jobs
from lib.batch.dask_executor import Executor
from lib.batch.machine import Share
from lib.batch.notebook_job import Job


def job(number):
    notebook = notebooks.find("ok")
    parameters = {**notebook.defaults(), "study": "one", "arm": "a", "seed": number}
    folder = paths.run("one", notebook.stage, f"a-s{number}")
    return Job(
        str(notebook.path), str(folder), parameters, runs.key(notebook, parameters, data=None)
    )


def held():
    process = psutil.Process()
    return (
        process.memory_info().rss,
        process.num_fds(),
        len(process.children(recursive=True)),
        process.num_threads(),
    )


@pytest.mark.parametrize(
    ("first", "number"), [(4, 12), pytest.param(60, 500, marks=pytest.mark.slow)]
)
def test_short_runs_leave_nothing_behind(batch_home, first, number, record_property):
    (batch_home / "logs" / "one").mkdir(parents=True)
    before = None
    with Executor(workers=2) as executor:
        for start in range(0, number, first):
            batch = range(start, min(start + first, number))
            for each in batch:
                executor.submit(
                    str(each), jobs.execute, job(each), Share(parallel=2), str(batch_home)
                )
            ended = []
            while len(ended) < len(batch):
                ended += executor.poll(300)
            assert {outcome.value["state"] for outcome in ended} == {"finished"}
            before = before or held()
        after = held()
    for what, old, new in zip(
        ("memory", "files", "children", "threads"), before, after, strict=True
    ):
        record_property(what, f"{old} → {new}")
        print(f"{what}: {old:,} → {new:,} after {number} runs")
    assert after[0] < before[0] + 30_000_000
    assert after[1] <= before[1] + 4 and after[2] <= before[2] and after[3] <= before[3] + 4
