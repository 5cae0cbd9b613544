"""Claims: cleaning reads as fast as decoding allows, misses no planted copy, groups no distinct
things, names wrong labels.

CleanVision, imagededup and cleanlab are installed into an environment of their own, beside this
file, and see the same files in the same run. With DARKROOM_SAMPLES (a folder that holds triage/,
cars/, wikiart/) real photographs are used, else drawn ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import statistics as middle
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.material.cleaning import (
    brute,
    edits,
    jpegs,
    matched,
    planted_hashes,
    sample,
    tiny,
    user_edits,
)
from benchmarks.parts import measure
from benchmarks.parts.measure import claim, in_a_process, seconds_of

HERE = Path(__file__).parent
RIVALS = HERE / "rivals"
PACKAGES = ("cleanvision==0.3.7", "cleanlab==2.9.0")
WITHOUT_TORCH = ("imagededup==0.3.3.post2", "PyWavelets==1.9.0")
ENDINGS = (".jpg", ".jpeg", ".png")


def main() -> None:
    asked = measure.arguments(__doc__, tuple(PARTS))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DARKROOM_HOME"] = str(Path(folder, "home"))
        for name in asked.only:
            PARTS[name](Path(folder, name), quick=asked.quick)


def matrix(folder: Path, *, quick: bool) -> None:
    """Every crafted file of the tests, judged; and the bomb's memory."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    import decoder_matrix

    from lib.data import decode

    cases, right, largest = list(decoder_matrix.cases()), 0, 0
    for _, data, expected in cases:
        try:
            pixels = decode.decode(data).pixels
        except decode.ImageError as error:
            right += isinstance(expected, str) and error.reason in expected.split(" or ")
            continue
        if not isinstance(expected, str) and pixels.shape == expected.shape:
            difference = int(np.abs(pixels.astype(int) - expected).max())
            largest, right = max(largest, difference), right + (difference <= 8)
    print(f"largest difference of a pixel in an accepted file: {largest} levels")
    claim(f"decoder matrix, correct verdicts of {len(cases)} files", right, len(cases), "files")
    folder.mkdir()
    (folder / "bomb.png").write_bytes(decoder_matrix.bomb())
    problem, megabytes = in_a_process(_bomb, folder / "bomb.png")
    claim(f"1-bit PNG of 20,000 x 20,000 ({problem}): memory", megabytes, 100, "MB", most=True)


def _bomb(file: Path) -> tuple[str, float]:
    from lib.cleaning import measurements

    before = measure.peak_memory()
    return measurements.measure(file).problem, (measure.peak_memory() - before) / 1e6


def scan(folder: Path, *, quick: bool) -> None:
    """The whole scan of 640 x 480 JPEGs against bare reading, hashing and decoding, and against the
    others.
    """
    from lib.cleaning import measurements

    files = jpegs(folder, number=200 if quick else 3_000)
    bare, ours = [], []
    for _ in range(1 if quick else 3):  # alternated, since machines are noisy
        bare.append(len(files) / seconds_of(lambda: _bare(files)))
        ours.append(
            len(files) / seconds_of(lambda: list(measurements.measure_all(files, workers=2)))
        )
    rate = middle.median(ours)
    print(
        f"scan of {len(files):,} JPEGs of 640 x 480 by two processes: {rate:.0f} images/s; bare "
        f"{middle.median(bare):.0f}"
    )
    ratio = middle.median(o / b for o, b in zip(ours, bare, strict=True))
    claim("scan against bare read, sha256 and decode", ratio, 0.7)
    if theirs := _rival("imagededup", folder):
        print(f"imagededup: {theirs['images'] / theirs['seconds']:.0f} images/s, hash alone")
    if theirs := _rival("cleanvision", folder):
        claim("scan against CleanVision", rate * theirs["seconds"] / theirs["images"], 6)


def memory(folder: Path, *, quick: bool) -> None:
    """The scan's highest memory at n and 10 n pictures, and a second scan of an unchanged set."""
    small, large = (200, 2_000) if quick else (10_000, 100_000)
    peaks = []
    for number in (small, large):
        tiny(folder / str(number), number)
        peaks.append(in_a_process(_scan, folder / str(number)))
    print(f"memory of the scan: {peaks[0]:.0f} MB for {small:,}, {peaks[1]:.0f} MB for {large:,}")
    growth = (peaks[1] - peaks[0]) * 1000 / (large - small)
    claim("memory for each further image", growth, 5, "kB", most=True)
    again = seconds_of(lambda: _scan(folder / str(large)))
    claim(f"second scan of {large:,} unchanged files", again, large / 10_000, "s", most=True)


def _scan(folder: Path) -> float:
    from lib.cleaning import scan as scanning
    from lib.data import intake

    scanning.scan(intake.bring(str(folder), name=f"n{folder.name}"), workers=2)
    return measure.peak_memory() / 1e6


def hashes(folder: Path, *, quick: bool) -> None:
    """Pairs within distance 10 among hashes in eight orientations, held against brute force on one
    orientation's worth.
    """
    sizes = (20_000, 50_000) if quick else (100_000, 300_000, 1_000_000)
    for number in sizes:
        seconds, gigabytes, pairs, is_same = in_a_process(_pairs, number)
        what = f"{pairs:,} pairs of {number:,} hashes in 8 orientations"
        if number > 100_000:
            print(f"{what}: {seconds:.1f} s, {gigabytes:.2f} GB; not compared with brute force")
            continue
        claim(f"{what}, those of brute force", is_same, 1, "")
        claim("… time", seconds, 30, "s", most=True)
        claim("… memory", gigabytes, 1, "GB", most=True)


def _pairs(number: int) -> tuple[float, float, int, bool]:
    from lib.cleaning import perceptual_hash

    drawn = planted_hashes(number)
    seconds, _, pairs = measure.timed(lambda: perceptual_hash.pairs(drawn, distance=10, workers=2))
    is_same = number <= 100_000 and brute(drawn, pairs)
    return seconds, measure.peak_memory() / 1e9, len(pairs), is_same


def planted(folder: Path, *, quick: bool) -> None:
    """Photographs and nine edits of each: which are found to be copies, by us and by the others."""
    from lib.cleaning import clean
    from lib.data import intake

    number = edits(folder, subjects=12 if quick else 80)
    table = clean.clean(intake.bring(str(folder), name="planted_edits"), workers=2).manifest
    groups = [rows["path"].tolist() for _, rows in table.groupby("group")]
    recall, precision = matched(groups, subjects=number)
    claim(f"{number} photographs with 9 edits each, recall", recall, 0.99, "")
    claim("… precision", precision, 0.99, "")
    for name in ("cleanvision", "imagededup"):
        if theirs := _rival(name, folder):
            recall, precision = matched(theirs["groups"], subjects=number)
            print(f"{name}: recall {recall:.3f}, precision {precision:.3f}")


def edited(folder: Path, *, quick: bool) -> None:
    """Pictures of each folder with edits of a user's size among them: recall, precision, cost."""
    from lib.cleaning import duplicates, scan
    from lib.data import decode, intake

    if not measure.has_samples("edits of a user's size", "wikiart", "cars", "triage"):
        return
    for raw in [Path(measure.SAMPLES, name) for name in ("wikiart", "cars", "triage")]:
        files = [file for file in sorted(raw.rglob("*")) if file.suffix.lower() in ENDINGS]
        chosen = np.random.default_rng(0).permutation(len(files))[: 200 if quick else 1_000]
        family: dict[str, int] = {}
        kinds: dict[str, str] = {}
        for number, at in enumerate(chosen.tolist()):
            picture = decode.decode(files[at].read_bytes()).pixels
            _put(folder / raw.name, f"{number:05}.png", picture, number, family)
            if number < (20 if quick else 100):
                made = list(user_edits(picture).items())
                for turn in (0, 5, 10):
                    name, edit = made[(number + turn) % len(made)]
                    path = f"{number:05}_{turn}.jpg"
                    kinds[path] = name
                    _put(folder / raw.name, path, edit, number, family)
        dataset = intake.bring(str(folder / raw.name), name=f"edited_{raw.name}")
        scanning, _, scanned = measure.timed(lambda d=dataset: scan.scan(d, workers=1))
        grouping, _, table = measure.timed(
            lambda d=dataset, s=scanned: duplicates.group_dataset(d, s, num_threads=1)
        )
        table = table.assign(name=[path.rsplit("/", 1)[-1] for path in table["path"]])
        table["family"] = table["name"].map(family)
        group = table.set_index("name")["group"]
        missed = [kind for path, kind in kinds.items() if group[path] != group[f"{path[:5]}.png"]]
        joined = sum(len(rows) - 1 for _, rows in table.groupby("group"))
        apart = sum(rows["family"].nunique() - 1 for _, rows in table.groupby("group"))
        print(
            f"{raw.name}: {len(table):,} pictures; scan {scanning:.1f} s, groups {grouping:.1f} s"
        )
        claim(f"{raw.name}, edits of a user's size, recall", 1 - len(missed) / len(kinds), 0.9, "")
        claim(f"{raw.name}, precision", 1 - apart / max(joined, 1), 0.99, "")
        print(f"  missed: {dict(sorted(Counter(missed).items()))}")


def order(folder: Path, *, quick: bool) -> None:
    """Solar cells cut from modules: a random quarter held out against whole runs of the order."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from lib.cleaning import clean, label_issues, leaks
    from lib.data import intake, splits

    dataset = clean.ensure(intake.bring("elpv"))
    table = dataset.accepted()
    features = label_issues.features(dataset, table, label_issues.EmbeddingConfig())
    place = {path: number for number, path in enumerate(table["path"])}
    for method in ("grouped", "runs of 60"):
        scores = []
        for seed in range(3 if quick else 10):
            split = splits.ensure(dataset, method=method, seed=seed)
            parts = {name: split.of(name) for name in ("train", "test")}
            rows = {name: features[part["path"].map(place)] for name, part in parts.items()}
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
            model.fit(rows["train"], parts["train"]["label"])
            scores.append(100 * model.score(rows["test"], parts["test"]["label"]))
        outcome, message = leaks.file_order(leaks.Facts(dataset, split))
        print(
            f"elpv, {method}: test accuracy {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f} % "
            f"over {len(scores)} splits; {outcome}: {message}"
        )


def _put(folder: Path, name: str, picture: np.ndarray, number: int, family: dict[str, int]) -> None:
    path = folder / "ab"[number % 2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **({"quality": 88} if name.endswith("jpg") else {}))
    family[name] = number


def distinct(folder: Path, *, quick: bool) -> None:
    """Sets without copies or with few: which groups are found."""
    from lib.cleaning import clean
    from lib.data import intake

    wanted = [
        "digits",
        *([] if quick else ["elpv"]),
        *([f"{measure.SAMPLES}/cars"] if measure.SAMPLES else []),
    ]
    for data in wanted:
        cleaned = clean.clean(intake.bring(data), workers=2)
        members = cleaned.manifest.dropna(subset=["pixels"]).groupby("group")["path"].agg(list)
        several = members[members.map(len) > 1]
        alike = int((cleaned.findings["reason"] == "look_alike").sum())
        print(
            f"{cleaned.dataset.name}: {len(several)} groups of copies, the largest of "
            f"{members.map(len).max()}; "
            f"{alike} look-alikes; {'; '.join(' = '.join(group) for group in several.head(8))}"
        )


def labels(folder: Path, *, quick: bool) -> None:
    """A tenth of the labels flipped: the ranking's average precision, and cleanlab's list from the
    same probabilities.
    """
    from sklearn.metrics import average_precision_score

    from lib.cleaning import label_issues
    from lib.data import intake
    from lib.data.dataset import Dataset

    if not measure.has_samples("wrong labels", "triage"):
        return
    from lib.cleaning import clean

    dataset: Dataset = intake.bring(f"{measure.SAMPLES}/triage")
    table = clean.clean(dataset, workers=2).manifest
    table = table[table["verdict"] == "keep"].reset_index(drop=True)
    if quick:
        table = table.groupby("label").head(40).reset_index(drop=True)
    rows = label_issues.features(dataset, table, label_issues.EmbeddingConfig())
    names, truth = np.unique(table["label"].to_numpy(str), return_inverse=True)
    random = np.random.default_rng(0)
    flipped = random.permutation(len(truth))[: len(truth) // 10]
    given = truth.copy()
    given[flipped] = (truth[flipped] + random.integers(1, len(names), len(flipped))) % len(names)
    probabilities = label_issues.out_of_fold(rows, given, groups=table["group"].to_numpy())
    issues = label_issues.confident(given, probabilities)
    precision = average_precision_score(given != truth, 1 - issues["score"])
    claim(f"wrong labels, a tenth of {len(truth):,} flipped: average precision", precision, 0.8, "")
    folder.mkdir()
    np.savez(folder / "given.npz", labels=given, probabilities=probabilities)
    if theirs := _rival("cleanlab", folder / "given.npz"):
        ours, theirs = set(np.flatnonzero(issues["wrong"]).tolist()), set(theirs["issues"])
        print(
            f"cleanlab's confident learning on the same probabilities: {len(theirs)} issues, ours "
            f"{len(ours)}, in common "
            f"{len(ours & theirs)}; right of ours "
            f"{np.mean([given[at] != truth[at] for at in ours]):.2f}"
        )


def strangers(folder: Path, *, quick: bool) -> None:
    """Nine pictures of another set filed at random among 600: how well their distances rank them,
    how many are named.
    """
    from sklearn.metrics import average_precision_score

    from lib.cleaning import label_issues

    names = ("triage", "simpsons", "cars", "wikiart")
    if not measure.has_samples("outliers", *names):
        return
    random = np.random.default_rng(0)
    sets = {name: sample(name, 150 if quick else 600) for name in names}
    ranks, named, wrong = [], [], []
    for host, (rows, labels) in sets.items():
        for guest in sets.keys() - {host}:
            strange = sets[guest][0][random.permutation(len(sets[guest][0]))[:9]]
            classes = np.concatenate([labels, random.choice(np.unique(labels), len(strange))])
            both, truth = np.concatenate([rows, strange]), np.arange(len(classes)) >= len(labels)
            far = label_issues.distances(both, labels=classes, groups=np.arange(len(both)))
            beyond = label_issues.deviations(far, labels=classes)
            ranks.append(average_precision_score(truth, beyond))
            named.append(np.mean(beyond[truth] > 3))
            wrong.append(np.mean(beyond[~truth] > 3))
        print(
            f"  among {host}: average precision {np.mean(ranks[-3:]):.2f}, named "
            f"{np.mean(named[-3:]):.0%}"
        )
    print(
        f"outliers of another set: average precision {np.mean(ranks):.2f}, {np.mean(named):.0%} of "
        "them named, "
        f"beside {np.mean(wrong):.1%} of the set's own pictures"
    )


PARTS = {
    "matrix": matrix,
    "hashes": hashes,
    "scan": scan,
    "memory": memory,
    "planted": planted,
    "edited": edited,
    "order": order,
    "distinct": distinct,
    "labels": labels,
    "strangers": strangers,
}


def _bare(files: list[Path]) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_read, files, chunksize=16))


def _read(file: Path) -> int:
    data = file.read_bytes()
    hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).shape[0]


def _rival(name: str, folder: Path):
    """What another tool says, or None where it could not be installed."""
    python = _environment()
    if python is None:
        return None
    done = subprocess.run(
        [python, RIVALS / "cleaning.py", name, folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name} ended with an error: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> Path | None:
    """The Python of the environment with the others' packages, made at the first call."""
    place = RIVALS / ".venv"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (place / ".ready").is_file():
        return python
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    for words in (PACKAGES, ("--no-deps", *WITHOUT_TORCH)):
        asked = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
        if subprocess.run(asked, check=False).returncode:
            measure.skip("CleanVision, imagededup and cleanlab", "since pip could not install them")
            return None
    (place / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
