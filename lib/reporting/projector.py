"""Files for TensorBoard's embedding projector, without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib import files
from lib.errors import DarkroomError

MOST = 1_000
"""Images that the projector is given; a browser turns this many smoothly, and one sprite sheet
holds them.
"""
SIDE = 48
FOLDER = "projector"
_PARTS = 3  # of a run's path: study, stage and unit


def write(
    folder: Path,
    features: np.ndarray,
    columns: Mapping[str, Sequence[object]],
    pictures: np.ndarray,
) -> None:
    """Writes what the projector shows of one run into its folder: vectors, their labels, and a
    sheet of small pictures.

    Nothing is written for a run with a + in its path, such as those of tiny studies: TensorBoard's
    page asks for a run by its bare name, the server reads the + as a space, and the page waits for
    ever on a run that nobody knows.

    Args:
        folder: the run's folder, where its event files are too.
        features: (n, d) finite, one row an image, at most `MOST`.
        columns: name to n values (label, prediction, path): what a point says and is coloured by.
        pictures: uint8 (n, height, width, 3).

    Raises:
        DarkroomError: lengths differ, too many images, or values that are not finite.
    """
    num = len(features)
    lengths = {name: len(values) for name, values in columns.items()} | {"pictures": len(pictures)}
    if not 0 < num <= MOST or any(length != num for length in lengths.values()) or not columns:
        raise DarkroomError(
            f"The projector takes 1 to {MOST} images, all of one number. Received: {num} rows, "
            f"{lengths}."
        )
    if not np.isfinite(features).all():
        raise DarkroomError("The projector takes finite features. Received NaN or infinity.")
    if "+" in "/".join(Path(folder).absolute().parts[-_PARTS:]):
        return
    place = Path(folder) / FOLDER
    features = np.ascontiguousarray(features, dtype="<f4")
    files.write_bytes(place / "features.bytes", features.tobytes())
    header = (
        [list(columns)] if len(columns) > 1 else []
    )  # TensorBoard takes none where there is one column
    rows = [*header, *zip(*columns.values(), strict=True)]
    files.write_text(
        place / "labels.tsv", "".join("\t".join(map(_plain, row)) + "\n" for row in rows)
    )
    files.write_bytes(place / "sprites.png", _sheet(pictures))
    files.write_text(Path(folder) / "projector_config.pbtxt", _config(features.shape))


def _config(shape: tuple[int, int]) -> str:
    return f"""embeddings {{
  tensor_name: "test features"
  tensor_shape: {shape[0]}
  tensor_shape: {shape[1]}
  tensor_path: "{FOLDER}/features.bytes"
  metadata_path: "{FOLDER}/labels.tsv"
  sprite {{
    image_path: "{FOLDER}/sprites.png"
    single_image_dim: {SIDE}
    single_image_dim: {SIDE}
  }}
}}
"""


def _sheet(pictures: np.ndarray) -> bytes:
    from PIL import Image

    across = int(np.ceil(np.sqrt(len(pictures))))  # TensorBoard expects a square, row by row
    sheet = Image.new("RGB", (across * SIDE, across * SIDE), "white")
    for index, pixels in enumerate(pictures):
        small = Image.fromarray(np.asarray(pixels)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        sheet.paste(small, (index % across * SIDE, index // across * SIDE))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _plain(value: object) -> str:
    return str(value).replace("\t", " ").replace("\n", " ").replace("\r", " ")
