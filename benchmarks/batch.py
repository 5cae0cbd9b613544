"""Claims: a run costs little beside its notebook, what has finished is known again, two workers do
twice the work.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock

from benchmarks.parts import measure

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
    quick = measure.arguments(__doc__).quick
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
    seconds, cpu, text = darkroom("run", "nothing", "--workers", "2", "--json")
    what = f"{number} empty runs, two at a time (CPU time {cpu:.1f} s)"
    measure.claim(what, seconds, 0.6 * number, "s", most=True)
    overhead = [
        run["seconds"] - seconds_of_cells(home / "logs" / "nothing" / run["run"])
        for run in json.loads(text)["runs"]
    ]
    what = "overhead per run, all but the notebook's own cells, median"
    measure.claim(what, statistics.median(overhead), 1.5, "s", most=True)
    seconds, again, _ = darkroom("run", "nothing", "--workers", "2")
    what = f"the same command when all {number} have finished (CPU time {again:.1f} s)"
    measure.claim(what, seconds, 5, "s", most=True)
    with filelock.FileLock(home / "logs" / "nothing" / ".lock"):
        seconds, _, _ = darkroom("run", "nothing", ends_with=2)
    measure.claim("a second command is refused", seconds, 1.5, "s", most=True)
    return cpu / number


def seconds_of_cells(folder: Path) -> float:
    """Seconds that the cells of a run were at work, their imports included, as the executed
    notebook notes them.
    """
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    times = [cell["metadata"]["execution"] for cell in cells if "execution" in cell["metadata"]]
    at = datetime.datetime.fromisoformat
    return sum(
        (at(stamps["shell.execute_reply"]) - at(stamps["iopub.execute_input"])).total_seconds()
        for stamps in times
    )


def against_papermill(home: Path, ours: float, *, number: int) -> None:
    """What users do today: plain papermill, one notebook after the other. CPU time, since it cannot
    use two cores.
    """
    spent = []
    for seed in range(number):
        files = [str(home / "notebooks" / "ok.ipynb"), str(home / "out.ipynb")]
        given = ["-p", "seed", str(seed), "-p", "study", "plain", "--no-progress-bar"]
        spent.append(timed([sys.executable, "-m", "papermill", *files, *given])[1])
    print(
        f"CPU time a run: {ours:.2f} s, plain papermill {statistics.median(spent):.2f} s",
        flush=True,
    )


def planned(home: Path, *, number: int) -> None:
    study(home, "large", number=number)
    seconds, _, _ = darkroom("run", "large", "--dry-run")
    measure.claim(f"{number:,} runs planned and listed", seconds, 10, "s", most=True)


def two_workers(home: Path, *, number: int, seconds: float) -> None:
    """Runs that mostly wait, so that the machine is not what limits them."""
    took = []
    for workers in (1, 2):
        study(home, f"waits{workers}", number=number, seconds=seconds)
        took.append(darkroom("run", f"waits{workers}", "--workers", str(workers))[0])
    measure.claim("throughput of two workers against one", took[0] / took[1], 1.8)


def study(home: Path, name: str, *, number: int, seconds: float = 0.0) -> None:
    text = STUDY.format(seconds=float(seconds), seeds=list(range(number // 2)))
    (home / "studies" / f"{name}.toml").write_text(text, encoding="utf-8")


def darkroom(*words: str, ends_with: int = 0) -> tuple[float, float, str]:
    return timed([sys.executable, "-m", "lib.cli", *words], ends_with=ends_with)


def timed(command: list[str], *, ends_with: int = 0) -> tuple[float, float, str]:
    """Seconds by the clock, seconds of CPU time with all children, and what was printed."""
    before = measure.cpu_of_children()
    seconds, _, done = measure.timed(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )
    if done.returncode != ends_with:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, measure.cpu_of_children() - before, done.stdout


if __name__ == "__main__":
    main()
