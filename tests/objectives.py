"""What the tests of lib.tuning search: scores that can be computed by hand, and trials that fail in
every way there is.
"""

import errno
import json
import os
import signal
import time
from pathlib import Path


def parabola(values, trial):
    """Best at x = 0.3; every epoch comes nearer to it. Counts in `settings["ran"]` who was really
    computed.
    """
    if "ran" in trial.settings:
        with Path(trial.settings["ran"]).open("a") as file:
            file.write(
                f"{trial.number} {json.dumps(values)} {trial.initial_epoch} {trial.epochs}\n"
            )
    best = -((values["x"] - 0.3) ** 2)
    for epoch in range(trial.initial_epoch + 1, trial.epochs + 1):
        time.sleep(trial.settings.get("seconds", 0))
        if trial.report(epoch, score=best - 1 / epoch):
            return best - 1 / epoch
    return {"score": best - 1 / trial.epochs, "twice": 2 * values["x"]}


def chained(values, trial):
    """Keeps a number in its checkpoint folder, as a training keeps its optimiser; the score is the
    epochs really done.
    """
    path = trial.checkpoint_folder / "epochs"
    trial.checkpoint_folder.mkdir(parents=True, exist_ok=True)
    done = int(path.read_text()) if path.exists() else 0
    for epoch in range(done + 1, trial.epochs + 1):
        path.write_text(str(epoch))
        trial.report(epoch, score=float(epoch))
    return float(path.read_text())


def slowly(values, trial):
    """As `chained`, a fifth of a second an epoch; stops where it is told to."""
    path = trial.checkpoint_folder / "epochs"
    trial.checkpoint_folder.mkdir(parents=True, exist_ok=True)
    done = int(path.read_text()) if path.exists() else 0
    for epoch in range(done + 1, trial.epochs + 1):
        time.sleep(0.2)
        path.write_text(str(epoch))
        if trial.report(epoch, score=float(epoch)):
            break
    return float(path.read_text())


def hostile(values, trial):
    """Fails as `values["how"]` says."""
    how = values["how"]
    if how == "raises":
        raise RuntimeError("no such layer")
    if how == "nan":
        return float("nan")
    if how == "memory":
        held = bytearray(b"x") * 400_000_000
        time.sleep(5)
        return len(held)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "dies once":
        marker = trial.folder / "died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    print("printing is no answer")
    return 1.0


def full(values, trial):
    """Finds the disk full for as long as there is the file `settings["full"]`."""
    if values["x"] > 0.5 and Path(trial.settings["full"]).exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return values["x"]


def idle(values, trial):
    """Reads x alone, as the triage source read `dense_units` where it searched `units`."""
    return {"score": values["x"], "made": str(values["x"])}


def two(values, trial):
    """The more units, the better and the slower."""
    return {"score": values["units"] / 64, "size": values["units"] ** 2}


def watched(values, trial):
    """Leaves what TensorBoard shows as a run."""
    (trial.folder / "events.out.tfevents.1.host").touch()
    trial.report(1, score=0.5, seconds=0.25)
    return {"score": 0.5}


def main(folder, method):
    """Searches 16 trials with two workers, or as many as `SEARCH_WORKERS` says; the fault tests
    kill it.
    """
    from lib.batch.dask_executor import Executor
    from lib.tuning import search, space

    line = space.read({"x": {"low": 0.0, "high": 1.0}})
    settings = (
        {"num_trials": 16, "epochs": 3}
        if method == "random"
        else {"epochs": 9, "options": {"first_trials": 11}}
    )
    context = {"seconds": 0.02, "ran": str(Path(folder) / "ran")}
    plan = search.Plan(
        line, method, "objectives:parabola", {"score": "max"}, settings=context, **settings
    )
    Path(folder).mkdir(exist_ok=True)
    with Executor(workers=int(os.environ.get("SEARCH_WORKERS", 2))) as executor:
        found = search.run(plan, Path(folder) / "search", executor=executor)
    told = [
        [trial.values["x"], trial.epochs, trial.state, trial.scores["score"], len(trial.rows)]
        for trial in found.trials
    ]
    print(json.dumps({"complete": found.complete, "trials": sorted(told)}))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
