"""Claims: training costs a fraction of what the source projects' loops cost; images load faster, in
a fraction of the memory.

`python -m benchmarks training [--only accuracy,triage,transfer,whole,loading,memory]`; needs
DARKROOM_SAMPLES.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.parts import measure, pictures

AUGMENTATIONS = {"augmented": "documents", "plain": "none"}
"""What the naive loop does by Keras layers, and how it is called with us."""
PARTS = ("accuracy", "triage", "transfer", "whole", "loading", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--num", type=int, default=2000, help="train images (2000)")
    parser.add_argument(
        "--val", type=int, help="validation images (a fifth as many as train images)"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=4,
        help="epochs of the triage CNN, of which the first does not count",
    )
    parser.add_argument("--seeds", default="0,1,2", help="of the accuracy part (0,1,2)")
    parser.add_argument("--side", type=int, default=128, help="of the accuracy part (128)")
    parser.add_argument(
        "--kinds", default="augmented,plain", help="of the accuracy part: augmented, plain"
    )
    asked = parser.parse_args()
    if pictures.samples() is None:
        print(pictures.SKIPPED)
        return
    num_train = 320 if asked.quick else asked.num
    num_val = asked.val or num_train // 5
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        pictures.split(home, num_train=num_train, num_val=num_val)
        for part in asked.only.split(","):
            if part == "accuracy":
                seeds = [0] if asked.quick else [int(seed) for seed in asked.seeds.split(",")]
                epochs, kinds = 2 if asked.quick else asked.epochs, asked.kinds.split(",")
                accuracy(home, epochs=epochs, seeds=seeds, kinds=kinds, side=asked.side)
            elif part == "triage":
                triage(home, num=num_train, epochs=2 if asked.quick else asked.epochs)
            else:
                {"transfer": transfer, "whole": whole, "loading": loading, "memory": memory}[part](
                    home, quick=asked.quick
                )


def claim(what: str, value: float, goal: float) -> None:
    """Prints one line."""
    print(
        f"{what}: {value:.1f} times (goal {goal:g}) {'ok' if value >= goal else 'short'}",
        flush=True,
    )


def accuracy(home: Path, *, epochs: int, seeds: list[int], kinds: list[str], side: int) -> None:
    """What both sides' triage CNN has learnt after as many epochs, ours in either arithmetic."""
    for kind in kinds:
        found: dict[str, list[float]] = {}
        for seed in seeds:
            theirs = measure.run(
                "benchmarks.naive.triage", home / "train", home / "val", kind, epochs, seed, side
            )
            found.setdefault("naive", []).append(_reached(theirs))
            for policy in ("float32", "mixed_bfloat16"):
                ours = measure.run(
                    "benchmarks.parts.ours",
                    "triage",
                    home,
                    AUGMENTATIONS[kind],
                    epochs,
                    policy,
                    seed,
                    side,
                )
                found.setdefault(f"ours in {policy}", []).append(_reached(ours))
        told = "; ".join(
            f"{name} {statistics.mean(values):.3f} "
            f"({', '.join(f'{value:.3f}' for value in values)})"
            for name, values in found.items()
        )
        print(
            f"triage CNN at {side} px, {kind}, validation accuracy, later half of {epochs} epochs: "
            f"{told}",
            flush=True,
        )


def _reached(told: dict) -> float:
    """The mean of the later half of the epochs: a single epoch's accuracy jumps by more than two
    sides differ.
    """
    values = told["val_accuracy"]
    return statistics.mean(values[len(values) // 2 :])


def triage(home: Path, *, num: int, epochs: int) -> None:
    """The triage CNN at 128 x 128, batch 64, both sides with and without augmentation."""
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
        claim(
            f"triage CNN, {kind}, throughput by CPU time once the cache exists", other / mine, goal
        )
        claim(
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
    # All of its steps cost the same, so ten epochs, validation included, are told from a few of
    # them.
    ten = [10 * cold["num_images"] / 64 * _later(theirs[kind]) for kind in ("cpu", "wall")]
    print(
        f"transfer, 10 epochs on {cold['num_images']} images, a sixth of them validation, engine "
        f"{cold['engine']}: "
        f"naive {ten[0]:.0f} CPU-s ({ten[1]:.0f} s); ours cold {sum(cold['cpu']):.1f} CPU-s "
        f"({sum(cold['wall']):.1f} s), "
        f"with features there {sum(warm['cpu']):.1f} CPU-s ({sum(warm['wall']):.1f} s)"
    )
    claim("transfer on a frozen backbone, cold, CPU time", ten[0] / sum(cold["cpu"]), 20)
    claim("transfer on a frozen backbone, features there, CPU time", ten[0] / sum(warm["cpu"]), 40)


def whole(home: Path, *, quick: bool) -> None:
    """Whole training steps of ResNet101V2, ours in the faster arithmetic, theirs in float32, in
    graph mode and eagerly.
    """
    steps = 2 if quick else 3
    found = {
        policy: measure.run("benchmarks.parts.ours", "whole", home, policy, steps)
        for policy in ("float32", "mixed_bfloat16")
    }
    ours = min(_later(each["cpu"]) for each in found.values())
    graph = _later(
        measure.run("benchmarks.naive.transfer", home / "train", "whole", 1, steps)["cpu"]
    )
    told = ", ".join(f"ours in {name} {_later(each['cpu']):.1f}" for name, each in found.items())
    print(f"full fine-tuning of ResNet101V2, CPU-s a step of 64: {told}; naive {graph:.1f}")
    claim(
        "full fine-tuning of ResNet101V2 against float32 in graph mode, CPU time", graph / ours, 1.8
    )
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
        speeds.append(
            (
                theirs["wall"][0] * share / cold["wall"][0],
                theirs["wall"][0] * share / warm["wall"][0],
            )
        )
    first, later = (statistics.median(side) for side in zip(*speeds, strict=True))
    print(
        f"loading, wall time: {first:.1f} times at the first reading, {later:.1f} times at each "
        "later one"
    )
    claim("loading against a float array of everything, each later reading", later, 3)


def memory(home: Path, *, quick: bool) -> None:
    """The most memory held while everything is decoded and read, with all pictures and with a tenth
    of them.
    """
    shutil.rmtree(home / "ours", ignore_errors=True)
    num = len(list((home / "train").rglob("*.jpg")))
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder)
        pictures.split(few, num_train=num // 10, num_val=10)
        small = [measure.run("benchmarks.parts.ours", "loading", few) for _ in range(2)][1][
            "private_bytes"
        ]
        theirs = [
            measure.run("benchmarks.naive.loading", part / "train")["private_bytes"]
            for part in (few, home)
        ]
    large = [measure.run("benchmarks.parts.ours", "loading", home) for _ in range(2)][1][
        "private_bytes"
    ]
    print(
        f"memory of its own, MB, for a tenth and for all: ours {small / 1e6:.0f} and "
        f"{large / 1e6:.0f}, "
        f"naive {theirs[0] / 1e6:.0f} and {theirs[1] / 1e6:.0f}"
    )
    claim(
        "memory that comes with the pictures, naive against ours",
        (theirs[1] - theirs[0]) / max(large - small, 1e6),
        4,
    )


def _later(values: list[float]) -> float:
    """The median without the first, which compiles."""
    return statistics.median(values[1:] or values)


if __name__ == "__main__":
    main()
