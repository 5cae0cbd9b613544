"""Claims: maps that agree over backends and with Xplique, that find a planted mark and what the
model uses, and fast ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.parts import measure
from benchmarks.parts.measure import claim
from lib.explain import METHODS, explain, faithfulness, heat_maps
from lib.explain.model_wrapper import Batch, NetworkWrapper

SIDE = 32
RECOMMENDED = ("occlusion", "rise", "lime", "kernel_shap", "gradcam")
PARTS = ("backends", "mark", "speed", "backbones", "xplique")
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
    if "--child" in sys.argv:
        _child(Path(sys.argv[2]))
        return
    asked = measure.arguments(__doc__, PARTS)
    for name in ["mark"] if asked.quick and asked.only == list(PARTS) else asked.only:
        globals()[f"_{name}"](asked.quick)


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
    images, maps = np.load(folder / "images.npy"), {}
    for name, model in _models().items():
        weights = folder / f"{name}.npz"
        if weights.exists():
            model.set_weights(list(np.load(weights).values()))
        else:
            np.savez(weights, *model.get_weights())
        for method in METHODS:
            maps[f"{name}|{method}"] = explain(model, images, method=method, target=1)
    np.savez(folder / f"{os.environ['KERAS_BACKEND']}.npz", **maps)


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
        is_flat = first.std() == 0 and other[key].std() == 0  # no evidence for the class on either
        alike[key] = 1.0 if is_flat else float(np.corrcoef(first.ravel(), other[key].ravel())[0, 1])
    works = sum(
        np.isfinite(first).all() and np.isfinite(other[key]).all() for key, first in one.items()
    )
    goal = len(METHODS) * len(BUILDS)
    claim("methods x builds that work on TensorFlow and on JAX", works, goal, "")
    least = min(alike, key=alike.get)
    claim(f"lowest correlation of the two backends' maps ({least})", alike[least], 0.999, "")


def _backbones(quick: bool) -> None:
    from lib.models import backbones, build

    rng, works = np.random.default_rng(0), []
    for name, backbone in backbones.BACKBONES.items():
        side = max(96, backbone.smallest_side)
        model = build(name, class_names="abc", image_side=side, weights="none")
        heat = explain(model, rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8), target=1)
        works.append(bool(np.isfinite(heat).all()))
    claim("backbones whose Grad-CAM works", sum(works), len(works), "")


def _trained(ground: str):
    """Returns a small network that tells pictures with a mark from those without, and unseen
    pictures with the mark's place.

    From 300 pictures of either kind it also memorizes their backgrounds; from 1,000 it uses little
    but the mark.
    """
    import keras

    from lib.models import build, losses
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
        losses.loss(model),
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
            what = f"{ground} ground, share of the attribution inside the mark, {name}"
            claim(f"{what} ({share:.3f} of the positive)", net, 0.9, "")
        near = _peaks_near(maps["gradcam"], inside, cell=8)  # maps of 8 x 8
        claim(f"{ground} ground, Grad-CAM's peak at most one cell from the mark", near, 0.95, "")
        if ground == "soft":
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
    blurred = heat_maps.fill(sharp, "blur")
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
        cv2.dilate(mask.astype(np.uint8), np.ones((2 * cell + 1, 2 * cell + 1))) for mask in inside
    ]
    return float(
        np.mean([one.ravel()[heat.argmax()] for one, heat in zip(wide, maps, strict=True)])
    )


def _faithful(model, images: np.ndarray, maps: dict, target: np.ndarray) -> None:
    scored = NetworkWrapper(model, "probability")
    table = faithfulness.table(faithfulness.evaluate_all(Batch(scored, images, target), maps))
    for name in METHODS:
        row, known = table.loc[name], "" if name in RECOMMENDED else ", not recommended"
        for kind in ("deletion", "insertion"):
            gain, low, high, share = (
                row[f"{kind}_{part}"] for part in ("gain", "low", "high", "share")
            )
            value = f"{gain:+.3f} ({low:+.3f} to {high:+.3f}), {share:.0%} of {len(images)} images"
            _say(f"{kind} against random maps, {name}{known}", value, "above 0", low > 0)
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
        alike = [float(faithfulness.similarity(maps, other).mean()) for other in others]
        floor = [
            faithfulness.similarity(maps, np.roll(other, move, axis=0)).mean()
            for other in others
            for move in (1, 4, 7)
        ]
        detail = f"{min(alike):.3f} to {max(alike):.3f}; to other images {np.mean(floor):.3f}"
        what = f"maps of shuffled weights, SSIM, {name} ({detail})"
        claim(what, np.mean(alike), 0.3, "", most=True)


def _speed(quick: bool) -> None:
    from lib.models import build

    model = build("resnet50", class_names="abc", image_side=224, weights="none")
    images = np.random.default_rng(0).integers(0, 256, (100, 224, 224, 3), dtype=np.uint8)

    def occlusion() -> None:
        explain(model, images[:1], method="occlusion", target=1)

    occlusion()  # traced once, not counted
    ours, cpu, _ = measure.timed(occlusion)
    print(f"occlusion: {ours:.1f} s, {cpu:.1f} CPU-seconds")
    some = images[:1].astype(np.float32)
    model(some, training=False)
    eager = measure.seconds_of(lambda: [np.asarray(model(some, training=False)) for _ in range(12)])
    claim("196-mask occlusion at 224 x 224 with ResNet50", ours, 10, "s", most=True)
    claim("against an eager loop, one mask at a time", 196 / 12 * eager / ours, 5)
    explain(model, images[:32], target=1)
    seconds = measure.seconds_of(lambda: explain(model, images, target=1))
    claim("100 Grad-CAMs of ResNet50", seconds, 30, "s", most=True)


def _xplique(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        words = ["-m", "pip", "install", "-q", "--no-deps", "--target", place, *XPLIQUE]
        done = subprocess.run([sys.executable, *words], check=False, stderr=subprocess.DEVNULL)
        if done.returncode:
            measure.skip("Xplique", "since pip could not install it")
            return
        sys.path.append(place)
        try:
            from xplique import attributions as theirs
        except ImportError as error:
            measure.skip("Xplique", f"since it cannot be imported: {error}")
            return
        _against_xplique(theirs)


def _against_xplique(theirs) -> None:
    import tensorflow as tf

    from lib.explain import attribution_methods
    from lib.models import build

    side, num = 96, 16
    model = build("mobilenet_v2", class_names="abcd", image_side=side, weights="none", alpha=0.35)
    images = np.random.default_rng(0).integers(0, 256, (num, side, side, 3)).astype(np.float32)
    hot, layer, black = (
        tf.one_hot([1] * num, 4),
        attribution_methods.find_layer(model).name,
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
        works = (
            lambda method=method, options=options: explain(
                model, images, method=method, target=1, **options
            ),
            lambda other=other: np.asarray(other(images, hot)),
        )
        for work in works:
            work()  # traced, not counted
        (mine, _, ours), (their, _, others) = map(measure.timed, works)
        others = others[..., 0] if others.ndim == 4 else others
        both = [
            np.corrcoef(one.ravel(), two.ravel())[0, 1]
            for one, two in zip(ours, others, strict=True)
            if one.std() and two.std()
        ]
        what = f"{method} against Xplique ({mine:.2f} and {their:.2f} s), median correlation"
        claim(what, float(np.median(both)), 0.95, "")


if __name__ == "__main__":
    main()
