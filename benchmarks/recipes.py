"""Claims: a linear probe beats a head trained by gradient, and fine-tuning never ends below its own
head.

Compares the strategies of `3_train`, and the ingredients of fine-tuning one by one, on the packaged
solar cells and on any folders given:

    python -m benchmarks recipes [--quick] [--recipes a,b] [--seeds 0,1] [FOLDER ...]

Each seed draws its own grouped split. Runs are kept in a scratch folder (--home), so an interrupted
comparison goes on; a run that has finished is not repeated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="further data sets")
    parser.add_argument("--quick", action="store_true", help="two recipes on few solar cells")
    parser.add_argument("--recipes", help="some of the recipes, separated by semicolons")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--home", help="where runs are kept (a temporary folder)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DARKROOM_HOME"] = asked.home or scratch
        names = QUICK if asked.quick else asked.recipes.split(";") if asked.recipes else RECIPES
        seeds = [0] if asked.quick else [int(seed) for seed in asked.seeds.split(",")]
        for data in asked.folders or ["elpv"]:
            compare(data, names, seeds, limit=60 if asked.quick else 0)


def compare(data: str, names: list[str], seeds: list[int], *, limit: int) -> None:
    """Prints one row a recipe: accuracies on test, their mean, and the seconds of a training."""
    from lib.data import load
    from lib.training import train

    pictures = load(data)
    print(
        f"\n| {pictures.name} | accuracy, % | of seeds | log loss | kept | seconds "
        "|\n|---|---|---|---|---|---|"
    )
    for name in names:
        runs = [
            train(pictures, study="recipes", arm=name.translate(_PLAIN), seed=seed, split_seed=seed,
                  limit_per_class=limit, **RECIPES[name])
            for seed in seeds
        ]  # fmt: skip
        accuracies = [100 * run.metrics["accuracy"] for run in runs]
        losses = [run.metrics["log_loss"] for run in runs]
        kept = [(run.result.get("selection") or {}).get("kept", "") for run in runs]
        seconds = [run.result["training_seconds"] for run in runs]
        print(
            f"| {name} | {statistics.mean(accuracies):.1f} | "
            f"{', '.join(f'{value:.1f}' for value in accuracies)} | {statistics.mean(losses):.3f} "
            "| "
            f"{' '.join(kept)} | {statistics.mean(seconds):.0f} |",
            flush=True,
        )


_PLAIN = str.maketrans({" ": "_", ",": "", "%": "", "-": "_"})

if __name__ == "__main__":
    main()
