"""Claim: no check cries wolf. Thirty sound trainings, two arms of three seeds on each of five data
sets, with their comparisons, and not one check that flags anything.

The data sets are the folders below `$DARKROOM_SAMPLES`: cars, posters, simpsons, triage and
wikiart. `--home` keeps what was cleaned and decoded for another time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

SETS = ("cars", "posters", "simpsons", "triage", "wikiart")
SEEDS = 3
SHARED = {
    "architecture": "efficientnet_lite0",
    "strategy": "frozen",
    "image_side": 64,
    "epochs": 20,
    "schedule": "cosine",
}
ARMS = {"lite0": {}, "lite0_dropout": {"dropout": 0.5}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed on the smallest set")
    parser.add_argument("--home", help="a folder to keep data sets and runs in")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, metavar="SET")
    asked = parser.parse_args()
    samples = Path(os.environ.get("DARKROOM_SAMPLES", "?"))
    if not samples.is_dir():
        print("Skipped: DARKROOM_SAMPLES does not name a folder of data sets.")
        return 0
    num, alarms = 0, []
    with tempfile.TemporaryDirectory() as place:
        os.environ["DARKROOM_HOME"] = asked.home or place
        for name in SETS[3:4] if asked.quick else asked.sets:
            runs, found = one_set(samples / name, seeds=1 if asked.quick else SEEDS)
            num, alarms = num + runs, alarms + found
    for alarm in alarms:
        print(f"  {alarm}")
    print(f"false alarms in {num} sound runs: {len(alarms)} (goal 0) {'short' if alarms else 'ok'}")
    return 0


def one_set(raw: Path, *, seeds: int) -> tuple[int, list[str]]:
    """The number of runs on one data set, and every check that flags one of them."""
    from lib import data, evaluation, training

    pictures = data.load(str(raw))
    runs = [
        training.train(
            pictures,
            study=f"healthy@{pictures.name}",
            arm=arm,
            seed=seed,
            split_seed=seed,
            **SHARED,
            **own,
        )
        for arm, own in ARMS.items()
        for seed in range(seeds)
    ]
    findings = [(run.name, row) for run in runs for row in run.result["audit"]]
    if seeds > 1:
        compared = evaluation.compare(runs)
        findings += [(f"comparison on {raw.name}", row) for row in compared.audit]
    accuracies = " ".join(f"{100 * run.metrics['accuracy']:.1f}" for run in runs)
    alarms = [
        f"{where}: {row['check']}: {row['message']}"
        for where, row in findings
        if row["outcome"] in ("flagged", "stops")
    ]
    print(f"{raw.name}: accuracy {accuracies} %, {len(alarms)} alarms", flush=True)
    return len(runs), alarms


if __name__ == "__main__":
    sys.exit(main())
