"""Claims: training costs a fraction of what the source projects' loops cost; images load faster, in
a fraction of the memory.

`python -m benchmarks.training [--quick] [--only PART ...]`; needs DARKROOM_SAMPLES.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.parts import measure, pictures

AUGMENTATIONS = {"augmented": "documents", "plain": "none"}
"""What the naive loop does by Keras layers, and how it is called with us."""
PARTS = ("accuracy", "triage", "transfer", "whole", "loading", "memory")


def main() -> None:
    asked = measure.arguments(__doc__, PARTS)
    if not measure.has_samples("training", "triage"):
        return
    with tempfile.TemporaryDirectory() as folder:
        num = 320 if asked.quick else 2000
        pictures.split(Path(folder), num_train=num, num_val=num // 5)
        for part in asked.only:
            globals()[part](Path(folder), quick=asked.quick)


def accuracy(home: Path, *, quick: bool) -> None:
    """The validation accuracy of both sides' triage CNN, ours in either arithmetic."""
    side, epochs, seeds = 64, 2 if quick else 15, range(1 if quick else 3)
    for kind, policy in AUGMENTATIONS.items():
        sides = {"naive": ("benchmarks.naive.triage", home / "train", home / "val", kind, epochs)}
        for dtype in ("float32", "mixed_bfloat16"):
            words = ("benchmarks.parts.ours", "triage", home, policy, epochs, dtype)
            sides[f"ours in {dtype}"] = words
        for name, words in sides.items():
            # The later half of the epochs: that of a single one varies by more than the sides do.
            values = [
                statistics.mean(measure.run(*words, seed, side)["val_accuracy"][epochs // 2 :])
                for seed in seeds
            ]
            print(
                f"triage CNN at {side} px, {kind}, {name}, validation accuracy in the later half of "
                f"{epochs} epochs: {statistics.mean(values):.3f} "
                f"({', '.join(f'{value:.3f}' for value in values)})",
                flush=True,
            )


def triage(home: Path, *, quick: bool) -> None:
    """The triage CNN at 128 x 128, batch 64, both sides with and without augmentation."""
    epochs, num = 2 if quick else 4, len(list((home / "train").rglob("*.jpg")))
    steps = measure.run("benchmarks.parts.ours", "precision", home)["milliseconds"]
    policy = "mixed_bfloat16" if steps["mixed_bfloat16"] * 1.1 < steps["float32"] else "float32"
    print(
        f"triage CNN: a step of 64 takes {steps['float32']:.0f} ms in float32, "
        f"{steps['mixed_bfloat16']:.0f} ms in bfloat16"
    )
    lowest = _later(measure.run("benchmarks.parts.ours", "floor", home, policy)["cpu"]) * 1000 / 64
    for kind, goal in (("augmented", 2.3), ("plain", 1.7)):
        shutil.rmtree(home / "ours", ignore_errors=True)
        theirs = measure.run(
            "benchmarks.naive.triage", home / "train", home / "val", kind, epochs, 0, 128
        )
        ours = measure.run(
            "benchmarks.parts.ours", "triage", home, AUGMENTATIONS[kind], epochs, policy, 0
        )
        mine, other = _later(ours["cpu"]), _later(theirs["cpu"])
        print(
            f"{kind}: CPU-ms an image {1000 * mine / num:.2f} against {1000 * other / num:.2f} "
            f"(the step alone {lowest:.2f}); "
            f"wall s an epoch {_later(ours['wall']):.1f} against {_later(theirs['wall']):.1f}; "
            f"best validation accuracy {max(ours['val_accuracy']):.3f} against "
            f"{max(theirs['val_accuracy']):.3f}"
        )
        measure.claim(
            f"triage CNN, {kind}, throughput by CPU time once the cache exists", other / mine, goal
        )
        measure.claim(
            f"triage CNN, {kind}, 10 epochs with the cache to build",
            10 * other / (10 * mine + ours["build"]),
            1.6,
        )


def transfer(home: Path, *, quick: bool) -> None:
    """A head on frozen ResNet101V2, ten epochs."""
    shutil.rmtree(home / "ours", ignore_errors=True)
    theirs = measure.run(
        "benchmarks.naive.transfer", home / "train", "frozen", 1, 3 if quick else 8
    )
    cold = measure.run("benchmarks.parts.ours", "frozen", home, "auto", 10)
    warm = measure.run("benchmarks.parts.ours", "frozen", home, "auto", 10)
    # All steps cost the same, so a few of them stand for ten epochs with validation.
    ten = [10 * cold["num_images"] / 64 * _later(theirs[kind]) for kind in ("cpu", "wall")]
    print(
        f"transfer, 10 epochs on {cold['num_images']} images, a sixth of them validation, engine "
        f"{cold['engine']}: "
        f"naive {ten[0]:.0f} CPU-s ({ten[1]:.0f} s); ours cold {sum(cold['cpu']):.1f} CPU-s "
        f"({sum(cold['wall']):.1f} s), "
        f"with features there {sum(warm['cpu']):.1f} CPU-s ({sum(warm['wall']):.1f} s)"
    )
    measure.claim("transfer on a frozen backbone, cold, CPU time", ten[0] / sum(cold["cpu"]), 20)
    measure.claim(
        "transfer on a frozen backbone, features there, CPU time", ten[0] / sum(warm["cpu"]), 40
    )


def whole(home: Path, *, quick: bool) -> None:
    """Whole training steps of ResNet101V2, ours in the faster arithmetic, theirs in float32, in
    graph mode and eagerly.
    """
    steps = 2 if quick else 3
    seconds = {
        policy: _later(measure.run("benchmarks.parts.ours", "whole", home, policy, steps)["cpu"])
        for policy in ("float32", "mixed_bfloat16")
    }
    graph = _later(
        measure.run("benchmarks.naive.transfer", home / "train", "whole", 1, steps)["cpu"]
    )
    ours = ", ".join(f"ours in {name} {value:.1f}" for name, value in seconds.items())
    print(f"full fine-tuning of ResNet101V2, CPU-s a step of 64: {ours}; naive {graph:.1f}")
    what = "full fine-tuning of ResNet101V2 against float32 in graph mode, CPU time"
    measure.claim(what, graph / min(seconds.values()), 1.8)
    if not quick:
        eager = _later(
            measure.run("benchmarks.naive.transfer", home / "train", "eager", 1, 2)["cpu"]
        )
        print(
            f"run eagerly, as the source did: {eager:.1f} CPU-s a step, {eager / graph:.2f} times "
            "graph mode"
        )


def loading(home: Path, *, quick: bool) -> None:
    """Decoding everything once, and reading it back, against a float array of everything."""
    speeds = []
    for _ in range(1 if quick else 3):
        shutil.rmtree(home / "ours", ignore_errors=True)
        theirs = measure.run("benchmarks.naive.loading", home / "train")
        cold, warm = (measure.run("benchmarks.parts.ours", "loading", home) for _ in range(2))
        share = cold["num_images"] / theirs["num_images"]
        seconds = theirs["wall"][0] * share
        speeds.append((seconds / cold["wall"][0], seconds / warm["wall"][0]))
    first, later = (statistics.median(side) for side in zip(*speeds, strict=True))
    print(
        f"loading, wall time: {first:.1f} times at the first reading, {later:.1f} times at each "
        "later one"
    )
    measure.claim("loading against a float array of everything, each later reading", later, 3)


def memory(home: Path, *, quick: bool) -> None:
    """The most memory held while everything is decoded and read, with all pictures and with a tenth
    of them.
    """

    def private(folder: Path) -> int:
        measure.run("benchmarks.parts.ours", "loading", folder)  # decodes into the cache
        return measure.run("benchmarks.parts.ours", "loading", folder)["private_bytes"]

    shutil.rmtree(home / "ours", ignore_errors=True)
    num = len(list((home / "train").rglob("*.jpg")))
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder)
        pictures.split(few, num_train=num // 10, num_val=10)
        small = private(few)
        theirs = [
            measure.run("benchmarks.naive.loading", part / "train")["private_bytes"]
            for part in (few, home)
        ]
    large = private(home)
    print(
        f"private memory, MB, for a tenth and for all: ours {small / 1e6:.0f} and "
        f"{large / 1e6:.0f}, naive {theirs[0] / 1e6:.0f} and {theirs[1] / 1e6:.0f}"
    )
    growth = (theirs[1] - theirs[0]) / max(large - small, 1e6)
    measure.claim("memory that grows with the images, naive against ours", growth, 4)


def _later(values: list[float]) -> float:
    """The median without the first, which compiles."""
    return statistics.median(values[1:] or values)


if __name__ == "__main__":
    main()
