"""Unit costs, from which docs/scale.md works out what 1, 10 and 100 million images take. CPU time,
one core.

Pictures come from the folder that DARKROOM_SAMPLES names (one with `triage/` in it), tables and
hashes are simulated.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.parts import measure

SIDE = 128
PARTS = ("tables", "hashes", "parts", "walk", "pictures")


def main() -> None:
    asked = measure.arguments(__doc__, PARTS)
    for part in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DARKROOM_HOME"] = folder
            globals()[part](Path(folder), quick=asked.quick)


def tables(_: Path, *, quick: bool) -> None:
    """A manifest of so many rows: disk, reading, the digest that a run is keyed by, a grouped
    split.
    """
    from lib.data import dataset as datasets
    from lib.data import manifest, splits

    number = 100_000 if quick else 1_000_000
    generator = np.random.default_rng(0)
    digits = generator.bytes(32 * number).hex()
    sha = [digits[64 * row : 64 * row + 64] for row in range(number)]
    frame = pd.DataFrame(
        {
            "path": [f"class {row % 100:02d}/picture {row:09d}.jpg" for row in range(number)],
            "label": [f"class {row % 100:02d}" for row in range(number)],
            "sha256": sha,
            "pixels": [each[:40] for each in sha],
            "bytes": 150_000,
            "format": "JPEG",
            "width": 640,
            "height": 480,
            "mode": "RGB",
            "verdict": "keep",
            "group": np.arange(number) // 2,
            "source_split": None,
        }
    )
    frame["reasons"] = [[] for _ in range(number)]
    frame = frame.sort_values("path", ignore_index=True)
    data = datasets.register("simulated", {"path": "."})
    missing = [name for name in manifest.COLUMNS if name not in frame]
    manifest.write(data.folder, frame.assign(**dict.fromkeys(missing)))
    size = (data.folder / manifest.FILE).stat().st_size
    million = number / 1e6
    print(f"manifest, a million rows: {size / million / 1e6:.0f} MB on disk")
    before = measure.peak_memory()
    cpu_of("manifest read, a million rows", lambda: data.manifest(), per=million)
    print(
        f"memory for it, a million rows: {(measure.peak_memory() - before) / million / 1e9:.2f} GB at most"
    )
    cpu_of("data hash, a million rows", lambda: data.digest(), per=million)
    cpu_of("grouped split, a million rows", lambda: splits.ensure(data, seed=0), per=million)


def hashes(_: Path, *, quick: bool) -> None:
    """The search for near-duplicates among random hashes; the last two sizes tell how it grows."""
    from lib.cleaning import perceptual_hash

    numbers = (25_000, 50_000) if quick else (50_000, 100_000, 200_000)
    generator, took = np.random.default_rng(0), []
    for number in numbers:
        drawn = generator.integers(0, 2**63, (number, 8), dtype=np.uint64)
        took.append(
            cpu_of(
                f"near hashes among {number:,}",
                lambda drawn=drawn: perceptual_hash.pairs(drawn, distance=10),
            )
        )
    growth = np.log(took[-1] / took[-2]) / np.log(numbers[-1] / numbers[-2])
    print(f"it grows with the number to the power {growth:.2f}")


def parts(home: Path, *, quick: bool) -> None:
    """What a part of a pass costs beside its work: queueing, a process that is there already, its
    file.
    """
    from benchmarks.scale import nothing  # by the name that workers import, which is not __main__
    from lib.batch.dask_executor import Executor

    cut = [[part] for part in range(20 if quick else 200)]
    with Executor(workers=1) as executor:
        list(executor.map(nothing, cut[:1], folder=home / "first"))  # starts the process
        seconds = measure.seconds_of(
            lambda: list(executor.map(nothing, cut, folder=home / "parts"))
        )
    print(f"overhead of a part: {seconds / len(cut) * 1000:.0f} ms by the clock", flush=True)


def nothing(part: list[int]) -> np.ndarray:
    return np.float32(part)


def pictures(_: Path, *, quick: bool) -> None:
    """Reading and measuring a file, decoding it to 128 px, features by a frozen network."""
    if not measure.has_samples("pictures", "triage"):
        return
    from lib.cleaning import measurements
    from lib.data import decode

    files = sorted(Path(measure.SAMPLES, "triage").glob("*/*"))[:: 10 if quick else 1]
    size = sum(file.stat().st_size for file in files) / len(files)
    print(f"{len(files)} pictures of {size / 1000:.0f} kB on average")
    cpu_of("scan, a picture", lambda: [measurements.measure(f) for f in files], per=len(files))
    decoded = [decode.decode(file.read_bytes()).pixels for file in files[:200]]
    cpu_of(
        "decoding, a picture",
        lambda: [decode.decode(file.read_bytes()) for file in files],
        per=len(files),
    )
    shrink = lambda: [  # noqa: E731
        decode.resize(each, height=SIDE, width=SIDE, fit="stretch") for each in decoded
    ]
    small = np.stack(shrink())
    cpu_of(f"resizing to {SIDE}, a picture", shrink, per=len(decoded))
    large(max(decoded, key=lambda pixels: pixels.size))
    from lib import models
    from lib.models import predictor

    network = models.build("efficientnet_lite0", class_names=["a", "b"], image_side=SIDE)
    predictor.features(network, small[:64])
    cpu_of(
        f"features by efficientnet_lite0 at {SIDE}, a picture",
        lambda: predictor.features(network, small),
        per=len(small),
    )
    print(f"a feature of float16: {2 * predictor.features(network, small[:1]).shape[1]} bytes")


def large(pixels: np.ndarray) -> None:
    """The same for photographs as cameras make them: one of the pictures, enlarged."""
    import cv2

    from lib.cleaning import measurements

    for megapixels in (1, 12):
        height, width = round((megapixels * 0.75e6) ** 0.5), round((megapixels * 1e6 / 0.75) ** 0.5)
        coded = cv2.imencode(
            ".jpg", cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
        )[1].tobytes()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "large.jpg")
            file.write_bytes(coded)
            cpu_of(
                f"scan, a photograph of {megapixels} megapixels ({len(coded) / 1e6:.1f} MB)",
                lambda: measurements.measure(file),  # noqa: B023
            )


def walk(home: Path, *, quick: bool) -> None:
    """Finding the files, with their sizes and times, on this machine's disk."""
    from lib.data import file_listing

    folder, number = home / "walk", 20_000 if quick else 1_000_000
    for row in range(number):
        (folder / f"{row % 100:02d}").mkdir(parents=True, exist_ok=True)
        (folder / f"{row % 100:02d}" / f"{row:06d}.jpg").touch()
    cpu_of("walk, a million files", lambda: file_listing.files(folder), per=number / 1e6)


def cpu_of(what: str, work: Callable[[], object], *, per: float = 1) -> float:
    """Prints the CPU time (all threads) of `work` divided by `per`, and returns its seconds."""
    seconds = measure.timed(work)[1] / per
    print(f"{what}: {1000 * seconds:,.4g} ms", flush=True)
    return seconds


if __name__ == "__main__":
    main()
