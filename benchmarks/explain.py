"""Claims: maps that agree over backends and with Xplique, that find a planted mark and what the
model uses, and fast ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from lib.explain import METHODS, explain, faithfulness, heatmap
from lib.explain.model_wrapper import Batch, NetworkWrapper

SIDE = 32
RECOMMENDED = ("occlusion", "rise", "lime", "kernel_shap", "gradcam")
BUILDS = ("custom", "functional backbone", "nested", "sequential")
XPLIQUE = (
    "xplique==2.0.2",
    "deprecated==1.3.1",
    "einops==0.8.2",
    "scikit-image==0.25.2",
    "lazy-loader==0.4",
    "imageio==2.37.0",
    "networkx==3.4.2",
    "tifffile==2025.5.10",
    "tensorflow-probability==0.25.0",
    "tf-keras==2.21.0",
    "dm-tree==0.1.9",
    "decorator==5.2.1",
    "cloudpickle==3.1.1",
)
"""Without what the suite has itself; they go into a folder of their own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("backends", "backbones", "mark", "speed", "xplique"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(Path(asked.child))
        return
    parts = {
        "backends": _backends,
        "mark": _mark,
        "speed": _speed,
        "backbones": _backbones,
        "xplique": _xplique,
    }
    chosen = [asked.only] if asked.only else ["mark"] if asked.quick else list(parts)
    for name in chosen:
        parts[name](asked.quick)


def _say(claim: str, value: str, goal: str, reached: bool) -> None:
    print(f"{claim}: {value} (goal {goal}) {'ok' if reached else 'short'}", flush=True)


def _models() -> dict:
    import keras

    from lib.models import build

    keras.utils.set_random_seed(0)
    conv, images = keras.layers.Conv2D, keras.Input((SIDE, SIDE, 3))
    inner = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 255),
            conv(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            conv(8, 3, activation="relu"),
        ]
    )
    pooled = keras.layers.GlobalAveragePooling2D()(inner(images))
    ends = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    models = (
        build(
            "custom",
            class_names="abc",
            image_side=SIDE,
            weights="none",
            filters=(8, 16),
            pool_after=(1,),
        ),
        build("mobilenet_v2", class_names="abc", image_side=SIDE, weights="none", alpha=0.35),
        keras.Model(images, keras.layers.Dense(3, activation="softmax")(pooled)),
        keras.Sequential([keras.Input((SIDE, SIDE, 3)), inner, *ends]),
    )
    return dict(zip(BUILDS, models, strict=True))


def _child(folder: Path) -> None:
    images, found = np.load(folder / "images.npy"), {}
    for name, model in _models().items():
        weights = folder / f"{name}.npz"
        if weights.exists():
            model.set_weights(list(np.load(weights).values()))
        else:
            np.savez(weights, *model.get_weights())
        for method in METHODS:
            found[f"{name}|{method}"] = explain(model, images, method=method, target=1)
    np.savez(folder / f"{os.environ['KERAS_BACKEND']}.npz", **found)


def _backends(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(
            folder / "images.npy",
            np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8),
        )
        for backend in ("tensorflow", "jax"):
            words = [sys.executable, "-m", "benchmarks.explain", "--child", place]
            subprocess.run(words, env={**os.environ, "KERAS_BACKEND": backend}, check=True)
        one, other = (dict(np.load(folder / f"{name}.npz")) for name in ("tensorflow", "jax"))
    alike = {}
    for key, first in one.items():
        flat = (
            first.std() == 0 and other[key].std() == 0
        )  # no evidence for the class at all, on either
        alike[key] = 1.0 if flat else float(np.corrcoef(first.ravel(), other[key].ravel())[0, 1])
    works = sum(
        np.isfinite(first).all() and np.isfinite(other[key]).all() for key, first in one.items()
    )
    goal = len(METHODS) * len(BUILDS)
    _say(
        "methods x builds that work on TensorFlow and on JAX", f"{works}", f"{goal}", works == goal
    )
    worst = min(alike, key=alike.get)
    _say(
        "lowest correlation of the two backends' maps",
        f"{alike[worst]:.6f}, {worst}",
        "0.999",
        alike[worst] >= 0.999,
    )


def _backbones(quick: bool) -> None:
    from lib.models import backbones, build

    rng, works = np.random.default_rng(0), []
    for name, backbone in backbones.BACKBONES.items():
        side = max(96, backbone.smallest_side)
        model = build(name, class_names="abc", image_side=side, weights="none")
        heat = explain(model, rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8), target=1)
        works.append(bool(np.isfinite(heat).all()))
    _say("backbones whose Grad-CAM works", f"{sum(works)}", f"{len(works)}", all(works))


def _trained(ground: str):
    """Returns a small network that tells pictures with a mark from those without, and unseen
    pictures with the mark's place.

    From 300 pictures of either kind it also learns their grounds by heart; from 1,000 it uses
    little but the mark.
    """
    import keras

    from lib.models import build, heads
    from tools.synthetic import marks

    keras.utils.set_random_seed(0)
    side, num = 64, 1000
    plain = marks.pictures(num, side=side, seed=1, ground=ground)
    marked = marks.pictures(num, side=side, seed=2, mark="anywhere", ground=ground)
    model = build(
        "custom",
        class_names=["plain", "marked"],
        image_side=side,
        weights="none",
        filters=(12, 24, 32),
        pool_after=(1, 2, 3),
        batch_normalization=("block",),
    )
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 8 * 63)),
        heads.loss(model),
    )
    model.fit(
        np.concatenate([plain.images, marked.images]),
        np.repeat([0, 1], num),
        epochs=8,
        batch_size=32,
        verbose=0,
    )
    unseen = marks.pictures(60, side=side, seed=9, mark="anywhere", ground=ground)
    named = NetworkWrapper(model).targets(unseen.images, None) == 1
    print(f"{ground}: {named.mean():.0%} of unseen pictures with a mark are named so")
    return model, unseen.images[named], unseen.inside[named]


def _mark(quick: bool) -> None:
    for ground in ("plain", "soft"):
        model, images, inside = _trained(ground)
        images, inside = (images[:20], inside[:20]) if quick else (images, inside)
        target = np.ones(len(images), np.int32)
        print(
            f"{ground}: the mark makes {_share_of_mark(model, images, inside):.3f} of the score, "
            "by hiding it or all else"
        )
        maps = {name: explain(model, images, method=name, target=1) for name in METHODS}
        for name in ("integrated_gradients", "smoothgrad"):
            share, net = _inside(np.maximum(maps[name], 0), inside), _inside(maps[name], inside)
            told = f"{share:.3f} of what speaks for it, {net:.3f} of the sum"
            _say(
                f"{ground} ground, attribution inside the mark, {name}",
                told,
                "0.9 of the sum",
                net >= 0.9,
            )
        near = _peaks_near(maps["gradcam"], inside, cell=8)  # maps of 8 x 8
        _say(
            f"{ground} ground, Grad-CAM's peak in the mark or one cell beside",
            f"{near:.0%}",
            "95 %",
            near >= 0.95,
        )
        if ground == "soft":
            _true_maps(NetworkWrapper(model, "probability"), images, inside, target)
            _faithful(model, images, maps, target)


def _share_of_mark(model, images: np.ndarray, inside: np.ndarray) -> float:
    """What the mark adds to the score, the mean of seeing it first and last, by what the whole
    adds: Shapley's value of two.

    No map that is true to the network holds more or less inside the mark.
    """
    scored, target, inside = (
        NetworkWrapper(model),
        np.ones(len(images), np.int32),
        inside[..., None],
    )
    sharp = images.astype(np.float32)
    blurred = heatmap.fill(sharp, "blur")
    first = scored.scores(np.where(inside, sharp, blurred), target) - scored.scores(blurred, target)
    last = scored.scores(sharp, target) - scored.scores(np.where(inside, blurred, sharp), target)
    return float(
        np.median(
            (first + last) / 2 / (scored.scores(sharp, target) - scored.scores(blurred, target))
        )
    )


def _inside(maps: np.ndarray, inside: np.ndarray) -> float:
    return float(np.median((maps * inside).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))))


def _peaks_near(maps: np.ndarray, inside: np.ndarray, *, cell: int) -> float:
    import cv2

    wide = [
        cv2.dilate(each.astype(np.uint8), np.ones((2 * cell + 1, 2 * cell + 1))) for each in inside
    ]
    return float(
        np.mean([one.ravel()[heat.argmax()] for one, heat in zip(wide, maps, strict=True)])
    )


def _true_maps(
    scored: NetworkWrapper, images: np.ndarray, inside: np.ndarray, target: np.ndarray
) -> None:
    """What the measures say of the mark itself, all other pixels after it in a smooth order or in
    one of dust.
    """
    smooth = heatmap.random_maps(images)
    rests = {"smooth": smooth, "dust": np.random.default_rng(0).random(smooth.shape, np.float32)}
    for cell in (None, 1):
        told = [
            f"{name} {faithfulness.deletion(Batch(scored, images, target), 2 * inside + rest, cell=cell).mean():.3f}"
            for name, rest in rests.items()
        ]
        known = faithfulness.deletion(Batch(scored, images, target), smooth, cell=cell).mean()
        grain = "single pixels" if cell else "cells"
        print(
            f"deletion by {grain} of the mark itself, the rest after it as {' or '.join(told)}; "
            f"random maps {known:.3f}"
        )


def _faithful(model, images: np.ndarray, maps: dict, target: np.ndarray) -> None:
    scored = NetworkWrapper(model, "probability")
    table = faithfulness.table(faithfulness.evaluate_all(Batch(scored, images, target), maps))
    for name in METHODS:
        row, known = table.loc[name], "" if name in RECOMMENDED else ", not recommended"
        for measure in ("deletion", "insertion"):
            told = f"{row[f'{measure}_gain']:+.3f} ({row[f'{measure}_low']:+.3f} to {row[f'{measure}_high']:+.3f}), "
            told += f"{row[f'{measure}_share']:.0%} of {len(images)} images"
            _say(
                f"{measure} against random maps, {name}{known}",
                told,
                "above 0",
                row[f"{measure}_low"] > 0,
            )
    _shuffled(model, images[:12], target[:12])


def _shuffled(model, images: np.ndarray, target: np.ndarray) -> None:
    """How alike maps stay over three shuffles of the weights; beside it, how alike they are to maps
    of other images.

    Maps of other images by shuffled weights have nothing in common with an image's own: that
    likeness is the measure's floor.
    """
    copies = [faithfulness.shuffled(model, seed=seed) for seed in range(3)]
    for name in METHODS:
        maps = explain(model, images, method=name, target=target)
        others = [explain(copy, images, method=name, target=target) for copy in copies]
        alike = [float(faithfulness.similarity(maps, each).mean()) for each in others]
        strange = [
            faithfulness.similarity(maps, np.roll(each, move, axis=0)).mean()
            for each in others
            for move in (1, 4, 7)
        ]
        told = f"{np.mean(alike):.3f} ({min(alike):.3f} to {max(alike):.3f}; to other images' {np.mean(strange):.3f})"
        _say(f"maps of shuffled weights, SSIM, {name}", told, "at most 0.3", np.mean(alike) <= 0.3)


def _speed(quick: bool) -> None:
    from lib.models import build

    model = build("resnet50", class_names="abc", image_side=224, weights="none")
    images = np.random.default_rng(0).integers(0, 256, (100, 224, 224, 3), dtype=np.uint8)
    for engine in ("keras", "auto"):
        explain(
            model, images[:1], method="occlusion", target=1, engine=engine
        )  # traced or exported once, not counted
        began, cpu = time.monotonic(), time.process_time()
        explain(model, images[:1], method="occlusion", target=1, engine=engine)
        ours, ours_cpu = time.monotonic() - began, time.process_time() - cpu
        print(f"occlusion with engine={engine!r}: {ours:.1f} s, {ours_cpu:.1f} CPU-seconds")
    some = images[:1].astype(np.float32)
    model(some, training=False)
    began, cpu, num = time.monotonic(), time.process_time(), 12
    for _ in range(num):
        np.asarray(model(some, training=False))
    eager, eager_cpu = (
        196 * each / num for each in (time.monotonic() - began, time.process_time() - cpu)
    )
    print(
        f"CPU-seconds, which other work on the machine hardly changes: {ours_cpu:.1f}, eager loop "
        f"{eager_cpu:.0f}"
    )
    _say("196-mask occlusion at 224 x 224 through ResNet50", f"{ours:.1f} s", "10 s", ours <= 10)
    _say(
        "against an eager loop, one mask at a time",
        f"{eager / ours:.1f} times ({eager:.0f} s)",
        "5",
        eager / ours >= 5,
    )
    explain(model, images[:32], target=1)
    began, cpu = time.monotonic(), time.process_time()
    explain(model, images, target=1)
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    _say("100 Grad-CAMs of ResNet50", f"{took:.1f} s ({cpu:.1f} CPU-seconds)", "30 s", took <= 30)


def _xplique(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        words = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            place,
            *XPLIQUE,
        ]
        if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode:
            print("Xplique could not be installed; left out.")
            return
        sys.path.append(place)
        try:
            from xplique import attributions as theirs
        except ImportError as error:
            print(f"Xplique does not import here ({error}); left out.")
            return
        _against_xplique(theirs)


def _against_xplique(theirs) -> None:
    import tensorflow as tf

    from lib.explain import methods
    from lib.models import build

    side, num = 96, 16
    model = build("mobilenet_v2", class_names="abcd", image_side=side, weights="none", alpha=0.35)
    images = np.random.default_rng(0).integers(0, 256, (num, side, side, 3)).astype(np.float32)
    hot, layer, black = (
        tf.one_hot([1] * num, 4),
        methods.find_layer(model).name,
        {"baseline": "black"},
    )
    pairs = {
        "gradcam": (theirs.GradCAM(model, conv_layer=layer), {}),
        "gradcam_plus_plus": (theirs.GradCAMPP(model, conv_layer=layer), {}),
        "integrated_gradients": (
            theirs.IntegratedGradients(model, steps=64),
            {**black, "steps": 64},
        ),
        "occlusion": (theirs.Occlusion(model, patch_size=8, patch_stride=8), {**black, "patch": 8}),
    }
    for method, (other, options) in pairs.items():
        ours, mine = _timed(
            lambda method=method, options=options: explain(
                model, images, method=method, target=1, **options
            )
        )
        found, their = _timed(lambda other=other: np.asarray(other(images, hot)))
        found = found[..., 0] if found.ndim == 4 else found
        both = [
            (one.ravel(), two.ravel())
            for one, two in zip(ours, found, strict=True)
            if one.std() and two.std()
        ]
        alike = float(np.median([np.corrcoef(*pair)[0, 1] for pair in both]))
        told = f"{alike:.3f}, {mine:.2f} s against {their:.2f} s"
        _say(f"{method} against Xplique, median correlation", told, "0.95", alike >= 0.95)


def _timed(work) -> tuple[np.ndarray, float]:
    work()  # traced, not counted
    began = time.monotonic()
    return work(), time.monotonic() - began


if __name__ == "__main__":
    main()
