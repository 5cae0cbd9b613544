"""A saved baseline: pixels in, probabilities out, in a file without code.

The file is a zip of `about.json` (classes, size, card) and the fitted scikit-learn pipeline as
skops writes it. Its types are checked by name before anything is built.
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
from lib.baselines import estimators
from lib.baselines.data import Size, flatten, format_size
from lib.errors import DarkroomError, first_line

SUFFIX = ".thumbnail"
NAME = f"model{SUFFIX}"
_ABOUT, _PIPELINE, _SCHEMA = "about.json", "pipeline.skops", "schema.json"
_MAX_BYTES = 1 << 30
_ESTIMATORS = "lib.baselines.estimators"

# Types of our models that skops does not trust by default. None runs code when it is read.
_TYPES = frozenset(
    {
        f"{_ESTIMATORS}.LinearSVM",
        f"{_ESTIMATORS}.MLP",
        f"{_ESTIMATORS}.KernelSVM",
        f"{_ESTIMATORS}.RBFNetwork",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    }
)
# Module and class names in files of earlier versions.
_RENAMED = {
    "lib.baselines.fitting": _ESTIMATORS,
    "lib.classic.margins": _ESTIMATORS,
    "lib.baselines.linear_svm": _ESTIMATORS,
    "lib.classic.networks": _ESTIMATORS,
    "lib.classic.kernels": _ESTIMATORS,
    "LinearMargin": "LinearSVM",
}


@dataclass(frozen=True)
class Model:
    """A fitted pipeline with its classes, the thumbnail's size, and how images are resized to it.

    If `multilabel`, an image has any number of classes, and each probability is independent.
    """

    kind: str
    pipeline: Pipeline
    class_names: tuple[str, ...]
    size: Size
    resize: str = "stretch"
    temperature: float = 1.0
    multilabel: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, classes) for uint8 RGB images (n, height, width, 3).

        Rows sum to 1 unless multilabel. Raises DarkroomError for images of another size or type.
        """
        expected, is_array = (*self.size, 3), isinstance(images, np.ndarray)
        if not is_array or images.dtype != np.uint8 or images.shape[1:] != expected:
            received = f"{images.dtype} {images.shape}" if is_array else type(images).__name__
            shape = ", ".join(map(str, expected))
            raise DarkroomError(
                f"`images` must be uint8 of the shape (n, {shape}). Received: {received}."
            )
        if not len(images):
            return np.empty((0, len(self.class_names)), np.float32)
        logits = estimators.outputs(self.pipeline, flatten(images))
        return estimators.probabilities(logits, self.temperature, multilabel=self.multilabel)

    def num_parameters(self) -> int:
        """Returns how many fitted numbers the model holds: weights, centres, stored images."""
        return sum(_num_values(estimator) for estimator in _estimators(self.pipeline[-1]))


def save(model: Model, path: Path) -> None:
    """Writes a model to `path`, which ends in .thumbnail, and its card as Markdown next to it."""
    path = Path(path)
    if path.suffix != SUFFIX:
        raise DarkroomError(f"A thumbnail model's name ends in {SUFFIX}. Received: {path.name!r}.")
    about = {
        "kind": model.kind,
        "class_names": list(model.class_names),
        "size": list(model.size),
        "resize": model.resize,
        "temperature": model.temperature,
        "several": model.multilabel,
        "scikit-learn": sklearn.__version__,
        "card": json.loads(json.dumps(model.card, default=str)),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_ABOUT, json.dumps(about, indent=1, ensure_ascii=False))
        archive.writestr(_PIPELINE, _skops().dumps(model.pipeline))
    files.write_bytes(path, buffer.getvalue())
    files.write_text(path.with_suffix(".md"), _markdown(model))


def load(path: Path) -> Model:
    """Returns the model without running code from the file.

    Raises DarkroomError for a file that is missing, damaged or not a thumbnail model, and for a
    type that none of our models needs.
    """
    path = Path(path)
    about, data = _read(path)
    skops, pipeline = _skops(), None
    try:
        data = _with_new_names(data)
        types = set(skops.get_untrusted_types(data=data))
        if not types - _TYPES:
            pipeline = skops.loads(data, trusted=sorted(types))
    except Exception as error:  # skops raises exceptions of every kind for a damaged file
        raise DarkroomError(
            f"{path.name} cannot be read; it is damaged or of another scikit-learn: "
            f"{first_line(error)}"
        ) from error
    if unknown := sorted(types - _TYPES):
        raise DarkroomError(
            f"{path.name} holds {unknown[0]}, which none of our models needs and which could run "
            "code; the file is refused."
        )
    if not isinstance(pipeline, Pipeline):
        raise DarkroomError(
            f"{path.name} is not a saved thumbnail model: it holds a {type(pipeline).__name__}."
        )
    return Model(
        about["kind"],
        pipeline,
        tuple(about["class_names"]),
        tuple(about["size"]),
        about["resize"],
        float(about["temperature"]),
        bool(about["several"]),
        dict(about["card"]),
    )


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    if not path.is_file():
        raise DarkroomError(f"There is no saved model {str(path)!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise DarkroomError(
                    f"{path.name} unpacks to more than {_MAX_BYTES >> 20} MiB; it is refused."
                )
            about, pipeline = json.loads(archive.read(_ABOUT)), archive.read(_PIPELINE)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DarkroomError(
            f"{path.name} is not a saved thumbnail model ({type(error).__name__})."
        ) from None
    needed = {"kind", "class_names", "size", "resize", "temperature", "several", "card"}
    if not isinstance(about, dict) or not needed <= set(about):
        missing = ", ".join(sorted(needed - set(about) if isinstance(about, dict) else needed))
        raise DarkroomError(f"{path.name} is not a saved thumbnail model: it lacks {missing}.")
    return about, pipeline


def _with_new_names(data: bytes) -> bytes:
    """The skops archive with the present names of our modules and classes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise DarkroomError(f"more than {_MAX_BYTES >> 20} MiB")
        members = {member: archive.read(member) for member in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            if member.filename == _SCHEMA:
                for old, new in _RENAMED.items():
                    content = content.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
            archive.writestr(member.filename, content)
    return buffer.getvalue()


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise DarkroomError(
            "Thumbnail models are saved by skops, which is not installed: pip install skops"
        ) from None
    return skops.io


def _estimators(model: Any) -> list[Any]:
    """The model, or the estimators that a one-vs-rest model consists of."""
    parts = [_estimators(estimator) for estimator in getattr(model, "estimators_", [])]
    return sum(parts, []) or [model]


def _num_values(model: Any) -> int:
    if hasattr(model, "coefs_"):
        return sum(array.size for array in [*model.coefs_, *model.intercepts_])
    for names in (("weights_", "centres_"), ("coef_", "intercept_"), ("_fit_X",)):
        arrays = [getattr(model, name) for name in names if hasattr(model, name)]
        if arrays:
            return int(sum(np.size(array) for array in arrays))
    if hasattr(model, "svc_"):
        return int(model.svc_.support_vectors_.size + model.svc_.dual_coef_.size)
    trees = [tree for stage in getattr(model, "_predictors", []) for tree in stage]
    return int(sum(len(tree.nodes) for tree in trees) or len(getattr(model, "class_prior_", [])))


def _markdown(model: Model) -> str:
    size = format_size(model.size)
    independent = " independent" if model.multilabel else ""
    facts = [
        f"Takes: RGB images as thumbnails of {size} px ({model.resize}); standardises them itself",
        f"Gives:{independent} probabilities of {len(model.class_names)} classes",
        f"Classes: {', '.join(model.class_names)}",
    ]
    return model_card.markdown(model.kind, facts, model.card)
