"""A thumbnail model as it is used and kept: pixels in, probabilities out, in one file that runs no
code of its own.

The file is a zip: `about.json` with classes, size and card, and the fitted scikit-learn pipeline as
skops writes it, whose types are checked by name against those the table needs before any of them is
made.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.pipeline import Pipeline

from lib import files, model_card
from lib.baselines import fitting
from lib.baselines.data import Size, flat, told
from lib.errors import DarkroomError

SUFFIX = ".thumbnail"
NAME = f"model{SUFFIX}"
_ABOUT, _PIPELINE = "about.json", "pipeline.skops"
_MOST_BYTES = 1 << 30

# skops knows scikit-learn's own types; these are what our table needs beyond them. None of them
# runs code when it is read.
_TYPES = frozenset(
    ("lib.baselines.linear_svm.LinearMargin", "lib.baselines.networks.MLP")
    + ("lib.baselines.kernels.KernelSVM", "lib.baselines.kernels.RBFNetwork")
    + ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
)


@dataclass(frozen=True)
class Model:
    """A fitted pipeline with what it needs to be used: its classes, the thumbnail's size, how a
    picture is fitted into it.

    `several` says that an image may bear several classes or none; probabilities then stand each for
    itself.
    """

    kind: str
    pipeline: Pipeline
    class_names: tuple[str, ...]
    size: Size
    resize: str = "stretch"
    temperature: float = 1.0
    several: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes); `images` are uint8 RGB (n, height, width, 3) of the model's
        size.

        Rows sum to 1, but for `several`. Raises DarkroomError for other images.
        """
        expected = (*self.size, 3)
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.shape[1:] != expected
        ):
            received = (
                f"{images.dtype} {images.shape}"
                if isinstance(images, np.ndarray)
                else type(images).__name__
            )
            shape = ", ".join(map(str, expected))
            raise DarkroomError(
                f"`images` must be uint8 of the shape (n, {shape}). Received: {received}."
            )
        if not len(images):
            return np.empty((0, len(self.class_names)), np.float32)
        found = fitting.outputs(self.pipeline, flat(images))
        return fitting.probabilities(found, self.temperature, several=self.several)

    def num_parameters(self) -> int:
        """Returns how many fitted numbers the model holds: weights, centres, images kept."""
        return sum(_numbers(part) for part in _estimators(self.pipeline[-1]))


def save(model: Model, path: Path) -> None:
    """Writes a model to `path`, which ends in .thumbnail, and its card as Markdown beside it."""
    if Path(path).suffix != SUFFIX:
        raise DarkroomError(
            f"A thumbnail model's name ends in {SUFFIX}. Received: {Path(path).name!r}."
        )
    about = {
        "kind": model.kind,
        "class_names": list(model.class_names),
        "size": list(model.size),
        "resize": model.resize,
        "temperature": model.temperature,
        "several": model.several,
        "scikit-learn": sklearn.__version__,
        "card": json.loads(json.dumps(model.card, default=str)),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_ABOUT, json.dumps(about, indent=1, ensure_ascii=False))
        archive.writestr(_PIPELINE, _skops().dumps(model.pipeline))
    files.write_bytes(Path(path), buffer.getvalue())
    files.write_text(Path(path).with_suffix(".md"), _markdown(model))


def load(path: Path) -> Model:
    """Returns the model; no code from the file runs.

    Raises DarkroomError for a file that is missing, damaged, no thumbnail model, or holds a type
    that none of ours needs.
    """
    path = Path(path)
    about, pipeline = _members(path)
    skops = _skops()
    made = None
    try:
        needed = set(skops.get_untrusted_types(data=pipeline))
        strange = sorted(needed - _TYPES)
        if not strange:
            made = skops.loads(pipeline, trusted=sorted(needed))
    except Exception as error:  # skops raises classes of every kind for a damaged file
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DarkroomError(
            f"{path.name} cannot be read, its model is damaged or of another scikit-learn: {first}"
        ) from error
    if strange:
        raise DarkroomError(
            f"{path.name} holds {strange[0]}, which none of our models needs and which could run "
            "code; it is refused."
        )
    if not isinstance(made, Pipeline):
        raise DarkroomError(
            f"{path.name} holds a {type(made).__name__} and no pipeline; it is none of our models."
        )
    return Model(
        about["kind"],
        made,
        tuple(about["class_names"]),
        tuple(about["size"]),
        about["resize"],
        float(about["temperature"]),
        bool(about["several"]),
        dict(about["card"]),
    )


def _members(path: Path) -> tuple[dict[str, Any], bytes]:
    if not path.is_file():
        raise DarkroomError(f"There is no saved model {str(path)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > _MOST_BYTES:
                raise DarkroomError(
                    f"{path.name} unpacks to more than {_MOST_BYTES >> 20} MiB; it is refused."
                )
            about, pipeline = json.loads(archive.read(_ABOUT)), archive.read(_PIPELINE)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DarkroomError(
            f"{path.name} is not a saved thumbnail model ({type(error).__name__})."
        ) from None
    needed = {"kind", "class_names", "size", "resize", "temperature", "several", "card"}
    if not isinstance(about, dict) or not needed <= set(about):
        missing = ", ".join(sorted(needed - set(about)))
        raise DarkroomError(
            f"{path.name} is not a saved thumbnail model: it does not say its {missing}."
        )
    return about, pipeline


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise DarkroomError(
            "Thumbnail models are saved by skops, which is not installed: pip install skops"
        ) from None
    return skops.io


def _estimators(model: Any) -> list[Any]:
    return [part for each in getattr(model, "estimators_", []) for part in _estimators(each)] or [
        model
    ]


def _numbers(model: Any) -> int:
    for names in (("weights_", "centres_"), ("coef_", "intercept_"), ("_fit_X",)):
        arrays = [getattr(model, name) for name in names if hasattr(model, name)]
        if arrays:
            return int(sum(np.size(each) for each in arrays))
    if hasattr(model, "svc_"):
        return int(model.svc_.support_vectors_.size + model.svc_.dual_coef_.size)
    trees = [tree for each in getattr(model, "_predictors", []) for tree in each]
    return int(sum(len(tree.nodes) for tree in trees) or len(getattr(model, "class_prior_", [])))


def _markdown(model: Model) -> str:
    facts = [
        f"Takes: RGB images as thumbnails of {told(model.size)} px ({model.resize}); standardising "
        "is inside",
        f"Gives: probabilities of {len(model.class_names)} "
        f"classes{', each for itself' if model.several else ''}",
        f"Classes: {', '.join(model.class_names)}",
    ]
    return model_card.markdown(model.kind, facts, model.card)
