"""Claims: a run costs little beside its notebook, what has finished is known again, two workers do
twice the work.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import filelock

NOTEBOOKS = Path(__file__).parent.parent / "tests" / "notebooks"
STUDY = """
question = "What does it cost?"
[shared]
seconds = {seconds}
[[stage]]
name = "work"
notebook = "ok"
seeds = {seeds}
[stage.arms.plain]
[stage.arms.double]
factor = 2
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(NOTEBOOKS, home / "notebooks")
        (home / "studies").mkdir()
        os.environ["DARKROOM_HOME"] = folder
        many = nothing(home, number=10 if quick else 100)
        against_papermill(home, many, number=5 if quick else 20)
        planned(home, number=1_000 if quick else 10_000)
        two_workers(home, number=4 if quick else 12, seconds=2 if quick else 4)


def nothing(home: Path, *, number: int) -> float:
    """Runs that do nothing, then the same command again. Returns the seconds of CPU time for one
    run.
    """
    study(home, "nothing", number=number)
    seconds, cpu, told = darkroom("run", "nothing", "--workers", "2", "--json")
    tell(
        f"{number} runs that do nothing, two at a time",
        seconds,
        60 * number / 100,
        f"s, CPU time {cpu:.1f} s",
    )
    beside = [
        each["seconds"] - at_work(home / "logs" / "nothing" / each["run"])
        for each in json.loads(told)["runs"]
    ]
    tell(
        "overhead a run, all but the notebook's own cells, median",
        statistics.median(beside),
        1.5,
        "s",
    )
    seconds, again, _ = darkroom("run", "nothing", "--workers", "2")
    tell(
        f"the same command when all {number} have finished",
        seconds,
        5,
        f"s, CPU time {again:.1f} s",
    )
    with filelock.FileLock(home / "logs" / "nothing" / ".lock"):
        seconds, _, _ = darkroom("run", "nothing", ends_with=2)
    tell("a second command is refused", seconds, 1.5, "s")
    return cpu / number


def at_work(folder: Path) -> float:
    """Seconds that the cells of a run were at work, their imports included, as the executed
    notebook notes them.
    """
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    noted = [cell["metadata"]["execution"] for cell in cells if "execution" in cell["metadata"]]
    return sum(at(each["shell.execute_reply"]) - at(each["iopub.execute_input"]) for each in noted)


def at(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()


def against_papermill(home: Path, ours: float, *, number: int) -> None:
    """What users do today: plain papermill, one notebook after the other. CPU time, since it cannot
    use two cores.
    """
    spent = []
    for seed in range(number):
        words = [
            "-m",
            "papermill",
            str(home / "notebooks" / "ok.ipynb"),
            str(home / "out.ipynb"),
            "-p",
            "seed",
            str(seed),
        ]
        _, cpu, _ = timed([sys.executable, *words, "-p", "study", "plain", "--no-progress-bar"])
        spent.append(cpu)
    print(
        f"CPU time a run: {ours:.2f} s, plain papermill {statistics.median(spent):.2f} s",
        flush=True,
    )


def planned(home: Path, *, number: int) -> None:
    study(home, "large", number=number)
    seconds, _, _ = darkroom("run", "large", "--dry-run")
    tell(
        f"{number:,} runs planned and listed",
        seconds,
        10 * number / 10_000 if number > 1_000 else 10,
        "s",
    )


def two_workers(home: Path, *, number: int, seconds: float) -> None:
    """Runs that mostly wait, so that the machine is not what limits them."""
    took = []
    for workers in (1, 2):
        study(home, f"waits{workers}", number=number, seconds=seconds)
        took.append(darkroom("run", f"waits{workers}", "--workers", str(workers))[0])
    ratio = took[0] / took[1]
    verdict = "ok" if ratio >= 1.8 else "short"
    print(
        f"throughput of two workers against one: {ratio:.2f} times (goal 1.8) {verdict}", flush=True
    )


def study(home: Path, name: str, *, number: int, seconds: float = 0.0) -> None:
    text = STUDY.format(seconds=float(seconds), seeds=list(range(number // 2)))
    (home / "studies" / f"{name}.toml").write_text(text, encoding="utf-8")


def darkroom(*words: str, ends_with: int = 0) -> tuple[float, float, str]:
    return timed([sys.executable, "-m", "lib.cli", *words], ends_with=ends_with)


def timed(command: list[str], *, ends_with: int = 0) -> tuple[float, float, str]:
    """Seconds by the clock, seconds of CPU time with all children, and what was printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    passed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != ends_with:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def tell(claim: str, value: float, goal: float, unit: str) -> None:
    """Prints one line; the value must not exceed the goal."""
    print(
        f"{claim}: {value:.2f} {unit} (goal {goal:g} s) {'ok' if value <= goal else 'short'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
