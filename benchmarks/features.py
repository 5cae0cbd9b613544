"""Claims: maps of 10,000 and 100,000 images in seconds and minutes, features at the engine's pace,
a map page of 100,000 points that is light and quick, and a fast classification.

`page` needs Chromium with chromedriver.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.parts import measure
from benchmarks.parts.measure import claim, in_a_process, seconds_of, skip

PARTS = ("reductions", "large", "features", "page", "classify")


def main() -> None:
    asked = measure.arguments(__doc__, PARTS)
    for part in asked.only:
        globals()[part](quick=asked.quick)


def reductions(*, quick: bool) -> None:
    """PCA, t-SNE and UMAP of clumps in 2,048 dimensions, each in a process of its own, libraries
    loaded and compiled before.
    """
    num = 1_000 if quick else 10_000
    for method, goal in (("pca", 5), ("tsne", 30), ("umap", 60)):
        seconds, _ = in_a_process(_reduce, method, num, 2_048)
        claim(f"{method} of {num:,} × 2,048", seconds, goal, "s", most=True)


def large(*, quick: bool) -> None:
    """One non-linear map of a hundred thousand images."""
    num = 10_000 if quick else 100_000
    seconds, peak = in_a_process(_reduce, "umap", num, 512)
    claim(f"umap of {num:,} × 512", seconds, 300, "s", most=True)
    what = f"memory for it, the features of {num * 512 * 2 / 1e9:.2f} GB included"
    claim(what, peak, 4, "GB", most=True)


def features(*, quick: bool) -> None:
    """ResNet50 at 128 px: the naive loop, Keras in batches, and the exported engine where it is
    installed.
    """
    from lib import models
    from lib.models import inference, predictor

    num = 64 if quick else 2_000
    images = np.random.default_rng(0).integers(0, 256, (num, 128, 128, 3), dtype=np.uint8)
    model = models.build("resnet50", class_names=["a", "b"], image_side=128, weights="none")
    part = predictor.up_to(model, "pool")
    some = images[: 16 if quick else 64]
    for image in some[:2]:
        part.predict(image[None].astype(np.float32), verbose=0)
    naive = seconds_of(
        lambda: [part.predict(image[None].astype(np.float32), verbose=0) for image in some]
    ) / len(some)
    predictor.features(model, images[:64])
    keras = seconds_of(lambda: predictor.features(model, images)) / num
    what = f"features of {num:,} images at 128 × 128 through ResNet50"
    print(
        f"{what}: naive loop {1000 * naive:.1f} ms, Keras in batches {1000 * keras:.1f} ms an image"
    )
    if inference.resolve("auto") == "keras":
        skip(f"{what}, engine", "since OpenVINO is not installed")
        return
    predictor.features(model, images[:64], engine="openvino")
    ours = seconds_of(lambda: predictor.features(model, images, engine="openvino")) / num
    claim(f"{what}, engine against the naive loop", naive / ours, 20)
    claim(f"{what}, engine against Keras float32 in batches", keras / ours, 5)


def page(*, quick: bool) -> None:
    """The map page of a hundred thousand points, served by `darkroom web` and driven in a headless
    Chromium.
    """
    num = 5_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(_write_map, folder, num)
        with _Served(folder) as served:
            _thumbnails(served, num)
            _browse(served, num)
            claim("memory of the server afterwards", served.megabytes(), 500, "MB", most=True)


def classify(*, quick: bool) -> None:
    """One picture, and twenty at once, through the site, once it is warm: EfficientNet-Lite0 at 128
    px with a heat-map.
    """
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(_write_model, folder)
        with _Served(folder) as served:
            body, kind = _form()
            ask = lambda: served.post("/api/classify/bench/train/lite0-s0", body, kind)  # noqa: E731
            for _ in range(3):
                ask()
            one = statistics.median(seconds_of(ask) for _ in range(5 if quick else 20))
            claim("one image classified, warm", 1000 * one, 300, "ms", most=True)
            with ThreadPoolExecutor(20) as pool:
                seconds, _, codes = measure.timed(
                    lambda: list(pool.map(lambda _: ask(), range(20)))
                )
            print(f"20 clients at once: {codes.count(200)} answered in {seconds:.1f} s")


def _reduce(method: str, num: int, length: int) -> tuple[float, float]:
    from lib.embeddings import reduction

    generator = np.random.default_rng(0)
    centres = generator.normal(0, 1, (20, length)).astype(np.float32)
    rows = np.empty((num, length), np.float16)
    for start in range(0, num, 10_000):
        stop = min(num, start + 10_000)
        rows[start:stop] = centres[generator.integers(20, size=stop - start)]
        rows[start:stop] += generator.normal(0, 1, (stop - start, length)).astype(np.float16)
    reduction.reduce(rows[: min(num, 5_000)], method)  # so that libraries are loaded and compiled
    seconds = seconds_of(lambda: reduction.reduce(rows, method))
    return seconds, measure.peak_memory() / 1e9


def _write_map(folder: str, num: int) -> None:
    """A run of features without images: a data set of a few pictures whose paths come again and
    again.
    """
    from PIL import Image

    from lib import files
    from lib.data import dataset as datasets
    from lib.embeddings import map_record

    os.environ["DARKROOM_HOME"] = folder
    generator = np.random.default_rng(0)
    raw = Path(folder) / "datasets" / "many" / "raw"
    raw.mkdir(parents=True)
    for number in range(400):
        noise = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480)).save(raw / f"{number}.jpg", quality=90)
    dataset = datasets.register("many", {"kind": "folders", "path": "raw"})
    kind = generator.integers(30, size=num)
    place = dataset.folder / "features" / "pool-many"
    place.mkdir(parents=True)
    np.save(place / "features.npy", generator.normal(size=(num, 512)).astype(np.float16))
    points = pd.DataFrame(
        {
            "path": [f"{row % 400}.jpg" for row in range(num)],
            "group": range(num),
            "label": [f"class {index:02}" for index in kind],
            "attr_artist": [f"artist {index}" for index in generator.integers(60, size=num)],
            "split": generator.choice(["train", "val", "test"], num),
            "confidence": generator.random(num),
            "verdict": generator.choice(["right", "wrong"], num),
        }
    )
    centres = generator.random((30, 2)) * 20
    for method in ("pca", "umap"):
        points[[f"x trained {method}", f"y trained {method}"]] = centres[kind] + generator.normal(
            size=(num, 2)
        )
        kind = np.roll(kind, 1)
    run = Path(folder) / "logs" / "bench" / "features" / "many-s0"
    run.mkdir(parents=True)
    files.write_json(
        run / map_record.ACCOUNT,
        {
            "version": map_record.VERSION,
            "data": "many",
            "target": "label",
            "label": "class",
            "network": "none",
            "model": None,
            "layer": "pool",
            "spaces": [{"name": "trained", "features": place.name, "length": 512}],
            "methods": [
                {"name": name, "title": name.upper(), "quality": None} for name in ("pca", "umap")
            ],
            "columns": ["label", "attr_artist"],
            "sentences": [],
        },
    )
    files.write_parquet(run / map_record.POINTS, points)
    (run / "key.json").write_text("{}")
    files.write_json(run / "result.json", {"data": "many", "figures": [], "metrics": {}})


def _write_model(folder: str) -> None:
    from lib import files, hashing, models
    from lib.evaluation import predictions
    from lib.models import serialization

    os.environ["DARKROOM_HOME"] = folder
    names = [f"class {index}" for index in range(10)]
    path = Path(folder) / "checkpoints" / "bench" / "train" / "lite0-s0" / "model.keras"
    path.parent.mkdir(parents=True)
    serialization.save(
        models.build("efficientnet_lite0", class_names=names, image_side=128), path, card={}
    )
    run = Path(folder) / "logs" / "bench" / "train" / "lite0-s0"
    run.mkdir(parents=True)
    truth = np.arange(1_000) % 10
    frame = predictions.table(
        [f"{row:04}.jpg" for row in range(1_000)],
        splits=np.resize(["train", "val", "test"], 1_000),
        groups=np.arange(1_000),
        labels=[names[index] for index in truth],
        probabilities=np.eye(10)[truth] * 0.8 + 0.02,
        class_names=names,
    )
    about = {"class_names": names, "data_hash": "h", "run": "bench/train/lite0-s0"}
    predictions.write(run / "predictions.parquet", frame, about)
    (run / "key.json").write_text("{}")
    result = {"figures": [], "metrics": {"accuracy": 0.8}, "model_sha256": hashing.file(path)}
    files.write_json(run / "result.json", result)


class _Served:
    """`darkroom web` in a process of its own over a home folder."""

    def __init__(self, home: str) -> None:
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{asked.getsockname()[1]}"
        words = [sys.executable, "-m", "lib.cli", "web", "--port", self.address.rpartition(":")[2]]
        environment = {**os.environ, "DARKROOM_HOME": home}
        self.process = subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> _Served:
        for _ in range(600):
            try:
                self.get("/favicon.ico")
                return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("darkroom web does not answer")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=120) as answer:
            return answer.read()

    def post(self, path: str, body: bytes, kind: str) -> int:
        asked = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(asked, timeout=120) as answer:
            answer.read()
            return answer.status

    def megabytes(self) -> float:
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6


def _form() -> tuple[bytes, str]:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(
        buffer, "JPEG"
    )
    head = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + buffer.getvalue() + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def _thumbnails(served: _Served, num: int) -> None:
    rows = np.random.default_rng(1).integers(num, size=300)
    taken = [
        seconds_of(lambda row=row: served.get(f"/api/maps/bench/features/many-s0/thumbnails/{row}"))
        for row in rows
    ]
    slowest = 1000 * float(np.quantile(taken, 0.95))
    claim("thumbnails of 640 × 480, 95th percentile", slowest, 100, "ms", most=True)


def _browse(served: _Served, num: int) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    binary, driver = (
        next(filter(None, map(shutil.which, names)), None),
        shutil.which("chromedriver"),
    )
    if not binary or not driver:
        skip("map page", "since there is no Chromium with chromedriver")
        return
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    words = "headless=new no-sandbox disable-dev-shm-usage window-size=1400,900"
    for word in f"{words} use-angle=swiftshader enable-unsafe-swiftshader".split():
        options.add_argument(f"--{word}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(120)
    try:
        _measure(browser, served, num)
    finally:
        browser.quit()


def _measure(browser: object, served: _Served, num: int) -> None:
    address = f"{served.address}/maps/bench/features/many-s0"
    ready = []
    for _ in range(3):
        browser.get("about:blank")
        began = time.perf_counter()
        browser.get(address)
        while browser.execute_script("return document.documentElement.dataset.ready") != "yes":
            time.sleep(0.02)
        ready.append(time.perf_counter() - began)
    what = f"map page of {num:,} points ready (the first time {ready[0]:.1f} s)"
    claim(what, statistics.median(ready), 3, "s", most=True)
    size = browser.execute_script(
        "const all = [...performance.getEntriesByType('navigation'), "
        "...performance.getEntriesByType('resource')];"
        "return all.reduce((sum, one) => sum + Math.max(one.encodedBodySize, one.transferSize), 0)"
    )
    claim("transferred data", size / 1e6, 3, "MB", most=True)
    renderer = browser.execute_script(
        "const gl = document.createElement('canvas').getContext('webgl'); if (!gl) return 'no "
        "WebGL';"
        "const known = gl.getExtension('WEBGL_debug_renderer_info');"
        "return known ? gl.getParameter(known.UNMASKED_RENDERER_WEBGL) : 'WebGL'"
    )
    for drawing in ("as it chooses", "pixels", "webgl"):
        browser.get("about:blank")
        browser.get(f"{address}#drawn={drawing}")
        while browser.execute_script("return document.documentElement.dataset.ready") != "yes":
            time.sleep(0.02)
        drawn = browser.execute_script("return plots[0].cloud.drawn")
        frames, milliseconds = browser.execute_async_script(_PAN)
        what = f"frames while panning, {drawing} ({drawn}; {renderer}; {milliseconds:.1f} ms of script)"
        claim(what, frames, 30, "/s")
        marked, milliseconds = browser.execute_async_script(_LASSO)
        what = f"lasso around {marked:,} points, marked and drawn ({drawn})"
        claim(what, milliseconds / 1000, 1, "s", most=True)


_PAN = """
const done = arguments[0], plot = plots[0], began = performance.now(), cloud = plot.cloud, draw = cloud.now.bind(cloud);
let count = 0, drawn = 0, spent = 0;
cloud.now = () => { const from = performance.now(); draw(); spent += performance.now() - from; drawn++; };
requestAnimationFrame(function step() {
  const view = seen(plot);
  frame(plot, view.cx + 0.002, view.cy, view.span);
  count++;
  const passed = performance.now() - began;
  if (passed < 4000) return requestAnimationFrame(step);
  cloud.now = draw;
  done([1000 * Math.min(count, drawn) / passed, spent / drawn]);
});
"""
"""Moves the map a little at every frame, for four seconds; counts frames in which the points were
drawn.
"""

_LASSO = """
const done = arguments[0], plot = plots[0];
frame(plot);
const order = Float32Array.from(plot.x).sort(), cut = order[Math.min(20000, order.length - 1)];
const { x } = plot.ranges, width = plot.element.clientWidth, height = plot.element.clientHeight;
const edge = (cut - x.start) / (x.end - x.start) * width;
const lasso = plot.view.tool_views.get(plot.tools.lasso);
const began = performance.now();
lasso._do_select([0, edge, edge, 0], [0, 0, height, height], true, 'replace');
requestAnimationFrame(() => requestAnimationFrame(() => done([state.marked.size, performance.now() - began])));
"""
"""A lasso around the leftmost 20,000 points, as if drawn by the mouse, until the second frame after
it.
"""


if __name__ == "__main__":
    main()
