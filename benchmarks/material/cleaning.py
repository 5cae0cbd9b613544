"""What the benchmark of cleaning measures on: hashes, photographs, their edits, and many tiny
files.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from benchmarks.parts.measure import SAMPLES


def planted_hashes(number: int) -> np.ndarray:
    """Random hashes, a twentieth of them within 12 bits of another in some orientation, uint64
    (number, 8).
    """
    random = np.random.default_rng(0)
    found = random.integers(0, 2**64, (number, 8), dtype=np.uint64)
    count = number // 20
    flips = np.zeros(count, np.uint64)
    for _ in range(12):
        bit = np.uint64(1) << random.integers(0, 64, count).astype(np.uint64)
        flips |= np.where(random.random(count) < 0.8, bit, np.uint64(0))
    origins = random.integers(0, number, count)
    found[random.integers(0, number, count), random.integers(0, 8, count)] = (
        found[origins, 0] ^ flips
    )
    return found


def brute(hashes: np.ndarray, found: np.ndarray) -> bool:
    """Whether every pair, compared with every other one by one, gives the same rows; in one
    process.
    """
    rows = {tuple(row) for row in found.tolist()}
    seen = 0
    for turn in range(hashes.shape[1]):
        column = np.ascontiguousarray(hashes[:, turn])
        for first in range(len(hashes) - 1):
            near = np.flatnonzero(np.bitwise_count(column[first + 1 :] ^ hashes[first, 0]) <= 10)
            for second in (near + first + 1).tolist():
                seen += 1
                distance = int(np.bitwise_count(column[second] ^ hashes[first, 0]))
                if (first, second, turn, distance) not in rows:
                    return False
    return seen == len(rows)


def photographs(number: int) -> list[np.ndarray]:
    """Real photographs where DARKROOM_SAMPLES has them, else pieces of the two that scikit-learn
    has and drawn ones.
    """
    if SAMPLES:
        from lib.data import decode

        files = sorted(Path(SAMPLES, "triage/Photo").iterdir()) + sorted(
            Path(SAMPLES, "cars").rglob("*.jpg")
        )
        order = np.random.default_rng(0).permutation(len(files))
        found = (decode.decode(files[at].read_bytes()).pixels for at in order)
        large = (pixels for pixels in found if min(pixels.shape[:2]) >= 96)
        return [pixels for pixels, _ in zip(large, range(number), strict=False)]
    from tools import synthetic as drawn

    return [drawn.picture("photo", seed=seed) for seed in range(number)]


def jpegs(folder: Path, *, number: int) -> list[Path]:
    """JPEGs of 640 x 480 at quality 90, every one unlike the others."""
    pictures, random = photographs(min(number, 100)), np.random.default_rng(0)
    files = []
    for at in range(number):
        pixels = pictures[at % len(pictures)]
        height, width = pixels.shape[:2]
        top, left = random.integers(0, height // 4 + 1), random.integers(0, width // 4 + 1)
        piece = pixels[top : top + height * 3 // 4, left : left + width * 3 // 4]
        file = folder / "ab"[at % 2] / f"{at:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        larger = cv2.resize(piece, (640, 480), interpolation=cv2.INTER_CUBIC)
        grain = random.integers(
            -6, 7, larger.shape, np.int16
        )  # photographs have some, enlarged ones have none
        Image.fromarray((larger + grain).clip(0, 255).astype(np.uint8)).save(file, quality=90)
        files.append(file)
    return files


def tiny(folder: Path, number: int) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
    head = b"P6 16 16 255\n"
    for at in range(number):
        (folder / "ab"[at % 2] / f"{at:06}.ppm").write_bytes(head + random.bytes(16 * 16 * 3))


def edits(folder: Path, *, subjects: int) -> int:
    pictures = photographs(subjects)
    for at, pixels in enumerate(pictures):
        place = folder / "ab"[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        image, (height, width) = Image.fromarray(pixels), pixels.shape[:2]
        rim = max(1, round(width / 100)), max(1, round(height / 100))
        edits = {
            "half": image.resize((width // 2, height // 2), Image.Resampling.LANCZOS),
            "lighter": image.point(lambda level: min(255, round(level * 1.15))),
            "darker": image.point(lambda level: level * 0.85),
            "cropped": image.crop((*rim, width - rim[0], height - rim[1])),
            "corner": image.crop((2 * rim[0], 2 * rim[1], width, height)),
            "turned": image.rotate(2, Image.Resampling.BILINEAR),
            "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            "quarter": image.transpose(Image.Transpose.ROTATE_90),
        }
        image.save(place / f"{at:04}_original.png")
        image.save(place / f"{at:04}_jpeg.jpg", quality=50)
        for name, edited in edits.items():
            edited.save(place / f"{at:04}_{name}.jpg", quality=90)
    return len(pictures)


def matched(groups: list[list[str]], *, subjects: int) -> tuple[float, float]:
    """Of ten pictures a subject: the share of edits in a group with their original, and of grouped
    pairs of one subject.
    """
    names = [[Path(path).name for path in group] for group in groups]
    pairs = {
        frozenset((one, other))
        for group in names
        for at, one in enumerate(group)
        for other in group[at + 1 :]
    }
    right = [pair for pair in pairs if len({name[:4] for name in pair}) == 1]
    found = [pair for pair in right if any("_original" in name for name in pair)]
    return len(found) / (9 * subjects), len(right) / len(pairs) if pairs else 1.0


def sample(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of that many pictures of a sample by EfficientNet-Lite0 at 128 px, float32 (n,
    1280), and their labels (n,).
    """
    from lib import models
    from lib.data import decode
    from lib.models import predictor

    place = Path(SAMPLES, name, {"simpsons": "train", "wikiart": "images"}.get(name, ""))
    files = sorted(file for file in place.rglob("*") if file.suffix.lower() in (".jpg", ".png"))
    chosen = [files[at] for at in np.random.default_rng(0).permutation(len(files))[:number]]
    pixels = np.stack(
        [
            decode.resize(decode.decode(file.read_bytes()).pixels, height=128, width=128)
            for file in chosen
        ]
    )
    model = models.build("efficientnet_lite0", class_names=["a", "b"], image_side=128)
    return predictor.features(model, pixels), np.array([file.parent.name for file in chosen])


def user_edits(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Edits of the sizes that people make, by name: uint8 RGB of shape (height, width, 3)."""
    image = Image.fromarray(picture)
    width, height = image.size

    def cropped(source: Image.Image, share: float, *, is_central: bool) -> Image.Image:
        w, h = round(source.width * (1 - share)), round(source.height * (1 - share))
        left, top = ((source.width - w) // 2, (source.height - h) // 2) if is_central else (0, 0)
        return source.crop((left, top, left + w, top + h))

    def framed(share: float, level: int) -> Image.Image:
        return ImageOps.expand(image, round(share * max(width, height)), (level,) * 3)

    def overlaid(box: tuple[float, float, float, float], level: int) -> Image.Image:
        edit = image.copy()
        sides = (width, height, width, height)
        edit.paste(
            (level,) * 3, tuple(round(part * side) for part, side in zip(box, sides, strict=True))
        )
        return edit

    def seen_at_an_angle() -> Image.Image:
        corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        moved = corners * np.float32([[1, 1], [0.97, 1], [0.9, 0.95], [1, 0.9]])
        moved[0] += (0.1 * width, 0.08 * height)
        matrix = cv2.getPerspectiveTransform(corners, moved)
        return Image.fromarray(cv2.warpPerspective(picture, matrix, (width, height)))

    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    edits = {
        "crop 10 %": cropped(image, 0.10, is_central=True),
        "crop 25 %": cropped(image, 0.25, is_central=True),
        "corner crop 25 %": cropped(image, 0.25, is_central=False),
        "turn 5": image.rotate(5, Image.Resampling.BICUBIC, expand=True),
        "turn 20": image.rotate(-20, Image.Resampling.BICUBIC),
        "border 8 %": framed(0.08, 255),
        "border 15 %": framed(0.15, 0),
        "bar": overlaid((0, 0.8, 1, 1), 0),
        "stamp": overlaid((0.3, 0.35, 0.7, 0.6), 240),
        "perspective": seen_at_an_angle(),
        "half size": image.resize((max(8, width // 2), max(8, height // 2))),
        "mirrored crop": cropped(mirrored, 0.15, is_central=False),
        "turned crop": cropped(image.rotate(10, Image.Resampling.BICUBIC), 0.2, is_central=True),
        "lighter": image.point([min(255, round(1.25 * level + 15)) for level in range(256)] * 3),
    }
    return {name: np.asarray(edit) for name, edit in edits.items()}
