"""Pictures of several genres from posters of one: half of them two posters side by side.

`python -m tools.double_bills POSTERS.csv OUT` writes OUT/images and OUT/films.csv (image, genres).
The table has the columns image and genre; its images lie in the folder `images` next to it. Each
poster is used once, so no poster is on both sides of a split.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def pictures(rows: pd.DataFrame, seed: int = 0) -> list[list[int]]:
    """Returns the rows of each picture: a third of the posters alone, the others in pairs."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    alone, paired = order[: len(order) // 3], order[len(order) // 3 :]
    pairs = [list(pair) for pair in zip(paired[::2], paired[1::2], strict=False)]
    return [[row] for row in alone] + pairs


def main(table: str, out: str) -> None:
    """Writes the pictures and their table."""
    source, target = Path(table).parent / "images", Path(out)
    rows = pd.read_csv(table)
    bytes_of = [hashlib.sha256((source / name).read_bytes()).digest() for name in rows["image"]]
    rows = rows[~pd.Series(bytes_of).duplicated().to_numpy()].reset_index(drop=True)
    (target / "images").mkdir(parents=True)
    films = []
    for number, chosen in enumerate(pictures(rows)):
        posters = [Image.open(source / rows["image"][row]).convert("RGB") for row in chosen]
        height = min(poster.height for poster in posters)
        posters = [
            poster.resize((poster.width * height // poster.height, height)) for poster in posters
        ]
        joined = Image.new("RGB", (sum(poster.width for poster in posters), height))
        left = 0
        for poster in posters:
            joined.paste(poster, (left, 0))
            left += poster.width
        name = f"images/{number:04d}.jpg"
        joined.save(target / name, quality=92)
        films.append((name, "|".join(sorted(set(rows["genre"][chosen])))))
    pd.DataFrame(films, columns=["image", "genres"]).to_csv(target / "films.csv", index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
