"""Claim: no guard cries wolf. Twenty sound trainings, four seeds on each of five data sets, and not
one finding.

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
SEEDS = 4
SETTINGS = {
    "architecture": "efficientnet_lite0",
    "training": "frozen",
    "image_side": 64,
    "epochs": 20,
    "schedule": "cosine",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed on the smallest set")
    parser.add_argument("--home", help="a folder to keep data sets and runs in")
    asked = parser.parse_args()
    samples = Path(os.environ.get("DARKROOM_SAMPLES", "?"))
    if not samples.is_dir():
        print("Skipped: DARKROOM_SAMPLES does not name a folder of data sets.")
        return 0
    with tempfile.TemporaryDirectory() as place:
        os.environ["DARKROOM_HOME"] = asked.home or place
        found = [
            one_set(samples / name, seeds=1 if asked.quick else SEEDS)
            for name in (SETS[3:4] if asked.quick else SETS)
        ]
    num, alarms = (
        sum(len(accuracies) for accuracies, _ in found),
        [alarm for _, alarms in found for alarm in alarms],
    )
    for alarm in alarms:
        print(f"  {alarm}")
    print(
        f"false alarms in {num} healthy runs: {len(alarms)} (goal 0) {'short' if alarms else 'ok'}"
    )
    return 0


def one_set(raw: Path, *, seeds: int) -> tuple[list[float], list[str]]:
    """The accuracies of the runs on one data set, and every finding that did not hold."""
    from lib.cleaning import clean
    from lib.data import sources
    from lib.evaluation import comparison

    dataset = sources.bring(str(raw))
    clean.clean(dataset)
    results = [train(dataset, seed) for seed in range(seeds)]
    alarms = [
        f"{raw.name}, seed {seed}: {finding['check']}: {finding['message']}"
        for seed, result in enumerate(results)
        for finding in result["audit"]
        if finding["outcome"] in ("flagged", "stops")
    ]
    if seeds > 2:
        from lib import paths

        compared = comparison.comparison(
            comparison.finished_runs(paths.logs() / f"healthy@{raw.name}" / "train")
        )
        alarms += [
            f"{raw.name}: {finding['check']}: {finding['message']}"
            for finding in compared.audit
            if finding["outcome"] in ("flagged", "stops")
        ]
    accuracies = [result["metrics"]["accuracy"] for result in results]
    told = " ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies)
    print(f"{raw.name}: accuracy {told} %, {len(alarms)} findings", flush=True)
    return accuracies, alarms


def train(dataset, seed: int) -> dict:
    """One training as 3_train does it; the result as `result.json` holds it."""
    from lib import notebooks, runs
    from lib.data import pixel_cache, splits
    from lib.training import finalise, network, scoring, setup, strategies
    from lib.training.settings import Settings

    names = {"study": f"healthy@{dataset.name}", "arm": "lite0", "data": dataset.name}
    given = {**SETTINGS, **names, "seed": seed, "split_seed": seed}
    parameters = notebooks.find("3_train").defaults() | given
    run = runs.start("3_train", parameters, data=dataset)
    setup.begin(seed=seed, dtype_policy="float32", run=run)
    split = splits.ensure(dataset, fractions=tuple(parameters["fractions"]), seed=seed)
    decoded = pixel_cache.cache(dataset, side=parameters["image_side"])
    material = strategies.Material(decoded, split, dataset.folder / "features")
    model = network.build(run.parameters, material)
    trained = strategies.train(
        "frozen", model, material, settings=Settings.of(run.parameters), run=run
    )
    found = scoring.score(trained, material, run=run)
    return finalise.conclude(trained, split, found, dataset=dataset, run=run)


if __name__ == "__main__":
    sys.exit(main())
