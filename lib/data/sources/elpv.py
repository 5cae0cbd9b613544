"""Solar cells: 2,624 electroluminescence photographs of the PyPI package `elpv-dataset`."""

from __future__ import annotations

import shutil
from importlib import util
from pathlib import Path
from typing import Any

import pandas as pd

from lib.errors import DarkroomError

NAME = "elpv"
ABOUT = (
    "2,624 photographs of solar cells in electroluminescence light, 300 x 300 pixels, "
    "functional or defective"
)
LICENCE = "CC BY-NC-SA 4.0 (not for commercial use)"
CITATION = (
    "Deitsch et al., Automatic classification of defective photovoltaic module cells in "
    "electroluminescence images, Solar Energy 185 (2019) 455-468; Deitsch et al., Segmentation of "
    "photovoltaic module cells in uncalibrated electroluminescence images, Machine Vision and "
    "Applications 32 (2021); Buerhop-Lutz et al., A benchmark for visual identification of "
    "defective solar cells in electroluminescence imagery, EU PVSEC (2018)."
)
THRESHOLD = 0.5


def intake(raw: Path) -> dict[str, Any]:
    """Copies the package's photographs and `labels.csv` into the empty folder `raw`; returns what
    to note about them.
    """
    spec = util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DarkroomError(
            "The data set 'elpv' comes with a package that is not installed here: pip install "
            "elpv-dataset"
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    shutil.copytree(data / "images", raw / "images")
    shutil.copyfile(data / "labels.csv", raw / "labels.csv")
    return {
        "licence": LICENCE,
        "citation": CITATION,
        "label_rule": f"defective above a labelled probability of {THRESHOLD}, else functional",
    }


def rows(raw: Path) -> pd.DataFrame:
    """Returns one row a photograph, with `attr_probability` (0, 1/3, 2/3 or 1) and `attr_type`
    (mono or poly).
    """
    table = pd.read_csv(
        raw / "labels.csv", sep=r"\s+", header=None, names=["path", "attr_probability", "attr_type"]
    )
    table["label"] = (table["attr_probability"] > THRESHOLD).map(
        {True: "defective", False: "functional"}
    )
    table["source_split"] = None
    return table
