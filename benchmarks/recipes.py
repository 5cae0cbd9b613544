"""Claims: a linear probe beats a head trained by gradient, and fine-tuning never ends below its own
head.

Compares the strategies of `3_train`, and the ingredients of fine-tuning one by one, on the packaged
solar cells and on any folders given:

    python -m benchmarks recipes [--quick] [--recipes "a;b"] [--seeds 0,1] [FOLDER ...]
    python -m benchmarks recipes --pair --minutes 30 --home SCRATCH elpv FOLDER ...

`--pair` compares the linear probe with fine-tuning alone and ends each data set with a claim. Each
seed draws its own grouped split. Runs are kept in a scratch folder (--home), so an interrupted
comparison goes on; a run that has finished is not repeated. `--minutes` is the time for each data
set: no split is begun after it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence

LITE0 = {"architecture": "efficientnet_lite0"}
PROBE = {**LITE0, "strategy": "linear_probe", "feature_backend": "auto"}
TUNED = {**LITE0, "strategy": "fine_tune", "feature_backend": "auto"}
LITE02 = {"architecture": "efficientnet_lite0+efficientnet_lite2"}
RECIPES = {
    "frozen, 128 px": {**LITE0, "strategy": "frozen", "image_side": 128},
    "probe, 128 px": {**PROBE, "image_side": 128},
    "probe, 224 px": {**PROBE, "image_side": 224},
    "probe, last maps": {**PROBE, "image_side": 224, "feature_maps": "last"},
    "probe, 224 px, mirrored": {**PROBE, "image_side": 224, "augmentation": "flip"},
    "probe, two networks": {**PROBE, **LITE02, "image_side": 224, "augmentation": "flip"},
    "fine-tuned, 128 px": {**TUNED, "image_side": 128},
    "fine-tuned, rate 5e-5": {**TUNED, "image_side": 128, "learning_rate": 5e-5},
    "fine-tuned, rate 1e-3": {**TUNED, "image_side": 128, "learning_rate": 1e-3},
    "fine-tuned, last 30 %": {**TUNED, "image_side": 128, "fine_tune_fraction": 0.3},
    "fine-tuned, all layers": {**TUNED, "image_side": 128, "fine_tune_fraction": 1.0},
    "fine-tuned, crops": {**TUNED, "image_side": 128, "augmentation": "crop"},
    "full, 128 px": {**TUNED, "image_side": 128, "strategy": "full"},
}
QUICK = ("frozen, 128 px", "probe, 128 px")
PAIR = {
    "linear probe": {**PROBE, "image_side": 128, "augmentation": "flip"},
    "fine-tuned": {**TUNED, "image_side": 128, "augmentation": "flip"},
}
ALLOWED_LOSS = 0.3
"""Points of accuracy by which fine-tuning may end below its head on the mean of the splits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="further data sets")
    parser.add_argument("--quick", action="store_true", help="two recipes on few solar cells")
    parser.add_argument("--recipes", help="some of the recipes, separated by semicolons")
    parser.add_argument("--pair", action="store_true", help="linear probe and fine-tuning alone")
    parser.add_argument(
        "--minutes", type=float, default=0, help="for each data set, 0 for no limit"
    )
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--home", help="where runs are kept (a temporary folder)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DARKROOM_HOME"] = asked.home or scratch
        recipes = PAIR if asked.pair else RECIPES
        chosen = asked.recipes.split(";") if asked.recipes else list(recipes)
        names = QUICK if asked.quick and not asked.pair else chosen
        seeds = [0] if asked.quick else [int(seed) for seed in asked.seeds.split(",")]
        for data in asked.folders or ["elpv"]:
            limit = 60 if asked.quick else 0
            runs = compare(
                data, {name: recipes[name] for name in names}, seeds, limit, minutes=asked.minutes
            )
            if asked.pair:
                claim(data, *([run.metrics["accuracy"] for run in runs[name]] for name in PAIR))


def compare(
    data: str, recipes: dict[str, dict], seeds: list[int], limit: int, *, minutes: float = 0
) -> dict[str, list]:
    """Prints one row a recipe: accuracies on test, their mean, and the seconds of a training.

    Returns the runs of each recipe, as many of each.
    """
    from lib.data import load
    from lib.training import train

    began, pictures = time.monotonic(), load(data)
    done: dict[str, list] = {name: [] for name in recipes}
    for seed in seeds:
        if minutes and time.monotonic() - began > 60 * minutes:
            print(f"{pictures.name}: the time limit leaves out the splits from {seed} on.")
            break
        for name, values in recipes.items():
            run = train(pictures, study="recipes", arm=name.translate(_PLAIN), seed=seed,
                        split_seed=seed, limit_per_class=limit, **values)  # fmt: skip
            done[name].append(run)
    print(
        f"\n| {pictures.name} | accuracy, % | of seeds | log loss | kept | seconds "
        "|\n|---|---|---|---|---|---|"
    )
    for name, runs in done.items():
        accuracies = [100 * run.metrics["accuracy"] for run in runs]
        losses = [run.metrics["log_loss"] for run in runs]
        kept = [(run.result.get("selection") or {}).get("kept", "") for run in runs]
        seconds = [run.result["training_seconds"] for run in runs]
        print(
            f"| {name} | {statistics.mean(accuracies):.1f} | "
            f"{', '.join(f'{value:.1f}' for value in accuracies)} | {statistics.mean(losses):.3f} "
            f"| {' '.join(kept)} | {statistics.mean(seconds):.0f} |",
            flush=True,
        )
    return done


def claim(data: str, frozen: Sequence[float], tuned: Sequence[float]) -> None:
    """Prints one line: what fine-tuning adds to its head, over as many splits."""
    gains = [100 * (after - before) for before, after in zip(frozen, tuned, strict=True)]
    mean = statistics.mean(gains)
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    held = "ok" if mean >= -ALLOWED_LOSS else "short"
    print(
        f"{data}: fine-tuned less linear probe, {len(gains)} splits: {mean:+.1f} ± {error:.1f} "
        f"points (standard error; goal {-ALLOWED_LOSS:+.1f}) {held}",
        flush=True,
    )


_PLAIN = str.maketrans({" ": "_", ",": "", "%": "", "-": "_"})

if __name__ == "__main__":
    main()
