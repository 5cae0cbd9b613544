"""The solar cells of the quickstart through Darkroom, Keras, fastai, AutoGluon and Ludwig, as a table.

    python -m benchmarks.peers [--quick] [--only keras fastai] [--environments FOLDER]

All train on one grouped split at 128 px for as many epochs. 40 of its test images are copied into
the training folder before: a leak, which the last column looks for in what a library prints. The
copied images do not count for the accuracy. The other libraries are installed into environments of
their own below `--environments` (several GB); a row says so where that fails. With `LITE0_FOR_TIMM`,
a folder made by `lite0_for_timm.py`, fastai and AutoGluon start from the same weights as Darkroom
without a download.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np

from benchmarks.parts import measure

HERE = Path(__file__).parent
PACKAGES = {
    "darkroom": (),
    "keras": (),
    "fastai": ("fastai==2.8.12", "timm==1.0.31"),
    "autogluon": ("autogluon.multimodal==1.6.3",),
    "ludwig": ("ludwig==0.11.0", "torchaudio", "pandas<3"),
}
"""What each needs besides this environment's packages."""
NUM_COPIES = 40
MENTIONS = {
    "copies": r"duplicat|two copies|same picture|copies of",
    "leak": r"leak|across splits|test images? (is|are) in",
    "interval": r"95 ?%|confidence interval|signific",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one epoch on few digits")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--environments", type=Path, default=HERE / ".venv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["DARKROOM_HOME"] = place
        folder = Path(place) / "cells"
        truth = divided(folder, quick=asked.quick)
        print(
            "| library | lines | minutes | CPU minutes | test accuracy (95 %) | its output names |"
        )
        print("|---|---|---|---|---|---|")
        for name in asked.only:
            if asked.quick and PACKAGES[name] and not (asked.environments / name).exists():
                measure.skip(name, "its environment is made only without --quick")
            else:
                print(row(name, folder, truth, asked), flush=True)


def divided(folder: Path, *, quick: bool) -> dict[str, str]:
    """Writes train/, val/ and test/ of a grouped split, and copies of test images into train/.

    Returns the labels of the test images without a copy, by file name.
    """
    from lib import data
    from lib.data import splits

    pictures = data.load("digits" if quick else "elpv")
    frame = splits.ensure(pictures, seed=0).frame
    if quick:
        frame = frame.groupby(["split", "label"]).head(8)
    for number, (path, label, part) in enumerate(
        zip(frame["path"], frame["label"], frame["split"], strict=True)
    ):
        file = folder / part / label / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures.raw / path, file)
    tested = sorted((folder / "test").glob("*/*.png"))
    copied = np.random.default_rng(0).permutation(len(tested))[:NUM_COPIES]
    for index in copied:
        file = tested[index]
        shutil.copyfile(file, folder / "train" / file.parent.name / f"again{file.name}")
    return {
        file.name: file.parent.name
        for index, file in enumerate(tested)
        if index not in set(copied.tolist())
    }


def row(name: str, folder: Path, truth: dict[str, str], asked: argparse.Namespace) -> str:
    """Runs the script of one library and returns its row of the table."""
    from lib.evaluation import statistics

    script, out = HERE / f"{name}_script.py", folder.parent / name
    python = environment(asked.environments / name, PACKAGES[name])
    if python is None:
        return f"| {name} | | | | cannot be installed here | |"
    out.mkdir()
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with (out / "output.txt").open("w+") as output:
        code = subprocess.run(
            [python, script, folder, str(1 if asked.quick else asked.epochs)],
            cwd=out,
            env={**os.environ, "PYTHONPATH": "" if PACKAGES[name] else str(HERE.parents[1])},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
        output.seek(0)
        text = output.read()
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if code or not (out / "predictions.csv").is_file():
        return f"| {name} | | | | ended with {code}: {text.strip().splitlines()[-1]} | |"
    with (out / "predictions.csv").open(newline="") as file:
        answers = {Path(line["file"]).name: line["label"] for line in csv.DictReader(file)}
    right = [answers[image] == label for image, label in truth.items() if image in answers]
    low, high = statistics.wilson(sum(right), len(right))
    accuracy = f"{100 * np.mean(right):.1f} % ({100 * low:.1f} to {100 * high:.1f}; {len(right)})"
    mentions = [what for what, words in MENTIONS.items() if re.search(words, text, re.IGNORECASE)]
    return (
        f"| {name} | {num_lines(script)} | {seconds / 60:.1f} | {cpu / 60:.1f} | {accuracy} | "
        f"{', '.join(mentions) or 'none of them'} |"
    )


def environment(place: Path, packages: tuple[str, ...]) -> str | None:
    """Returns the interpreter with these packages, made at the first call; None if pip fails."""
    if not packages:
        return sys.executable
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        words = [python, "-m", "pip", "install", "--quiet", *packages]
        if subprocess.run(words, check=False).returncode:
            shutil.rmtree(place)
            return None
    return str(python)


def num_lines(script: Path) -> int:
    """Lines of code, without the docstring and blank lines."""
    text = re.sub(r'^""".*?"""', "", script.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(bool(line.strip()) for line in text.splitlines())


if __name__ == "__main__":
    main()
