"""A cluster whose workers are killed one after the other: the study ends with what an undisturbed
one ends with.
"""

import json
import time

import dask_processes
import pandas
import pytest


class Cluster:
    """A scheduler and three worker processes on loopback."""

    def __init__(self, home):
        self.home, self.number = home, 0
        self.scheduler, self.address = dask_processes.start_scheduler(home / "scheduler.json")
        self.workers = [self.worker() for _ in range(3)]

    def worker(self):
        self.number += 1
        options = ["--nthreads", "1", "--no-nanny"]
        options += ["--local-directory", str(self.home / f"dask{self.number}")]
        file = self.home / "scheduler.json"
        return dask_processes.start("dask_worker", file, *options, cwd=self.home)

    def kill(self, which):
        self.workers[which].kill()
        self.workers[which].wait()
        self.workers[which] = self.worker()

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(one):
    cluster = Cluster(one.home)
    yield cluster
    cluster.close()


@pytest.mark.parametrize(
    ("seeds", "seconds", "kills", "every_s"),
    [(2, 0, 1, 0), pytest.param(6, 4, 30, 3, marks=pytest.mark.slow)],
)
def test_workers_are_killed_one_after_the_other(
    one, cluster, tmp_path_factory, monkeypatch, seeds, seconds, kills, every_s
):
    study = one.home / "studies" / "one.toml"
    text = (
        study.read_text()
        .replace("[0, 1]", str(list(range(seeds))))
        .replace('notebook = "ok"', 'notebook = "steps"')
    )
    study.write_text(text.replace("seconds = 0.0", f"seconds = {seconds}.0"))
    if kills == 1:  # each of the first three runs waits at its fourth step, on a worker of its own
        (one.home / "hold").touch()
    runner = one.begin("--cluster", cluster.address)
    wait_for_steps(one.home, runner, 4 if kills == 1 else 1)
    killed = 0
    while runner.poll() is None and killed < kills:
        time.sleep(every_s)
        cluster.kill(killed % 3)
        killed += 1
    (one.home / "hold").unlink(missing_ok=True)
    told, complained = runner.communicate(timeout=600)
    assert runner.returncode == 0 and killed, told + complained
    disturbed, found = predictions(one.home), metrics(one)
    if kills == 1:
        assert sorted(result["begun_at"] for result in read(one.home)) == [
            0,
            0,
            0,
            4,
        ]  # it went on elsewhere, where it was

    calm = type(one)(tmp_path_factory.mktemp("calm"))
    for folder in ("notebooks", "studies"):
        (calm.home / folder).symlink_to(one.home / folder)
    monkeypatch.setenv("DARKROOM_HOME", str(calm.home))
    study.write_text(study.read_text().replace(f"seconds = {seconds}.0", "seconds = 0.0"))
    assert calm.run("--workers", "2").returncode == 0
    assert metrics(calm) == found and len(found) == 2 * seeds + 2
    assert predictions(calm.home) == disturbed and len(disturbed) == 2 * seeds


def wait_for_steps(home, runner, epoch):
    """Until as many runs as there are workers have saved a step."""
    while runner.poll() is None:
        saved = [
            json.loads(path.read_text())["epoch"]
            for path in home.glob("checkpoints/one/work/*/state.json")
        ]
        if sum(each >= epoch for each in saved) >= 3:
            return
        time.sleep(0.05)


def metrics(study):
    return {unit: told for unit, (told, _) in study.results().items()}


def read(home):
    return [json.loads(path.read_text()) for path in home.glob("logs/one/work/*/result.json")]


def predictions(home):
    tables = sorted(home.glob("logs/one/work/*/predictions.parquet"))
    return {path.parent.name: list(pandas.read_parquet(path)["p"]) for path in tables}


@pytest.mark.slow
def test_runs_end_when_the_command_that_wanted_them_is_killed(one, cluster):
    runner = one.begin("--cluster", cluster.address, "--set", "seconds=300")
    while len(list(one.home.glob("logs/one/work/*/progress.json"))) < 3:
        time.sleep(0.1)
    runner.kill()
    runner.communicate()
    end = time.monotonic() + 600
    while one.kernels():
        assert time.monotonic() < end
        time.sleep(0.2)
    assert one.complete("--cluster", cluster.address) == one.expected
