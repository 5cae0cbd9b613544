"""Explanation of a finished run: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lib import paths, runs
from lib.baselines import model as thumbnails
from lib.baselines.plots import weights_drawing
from lib.data import pixel_cache
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, check_choice
from lib.evaluation import multilabel
from lib.evaluation import predictions as tables
from lib.evaluation.predictions import Predictions
from lib.explain import faithfulness, model_wrapper, plots
from lib.explain.attribution_methods import METHODS, baseline_share, explain
from lib.explain.model_wrapper import Batch, BlackBox
from lib.models import serialization
from lib.reporting.style import Drawing
from lib.runs import Run, record
from lib.training import fit

GROUPS = ("confident and correct", "confident and wrong", "least certain")
TITLES = {
    **{name: method.title for name, method in METHODS.items()},
    faithfulness.EDGES: "Edges of the image",
    faithfulness.RANDOM: "Random map",
}

# RISE is the slowest; half of its default samples are enough, as its stability in the table shows.
_OPTIONS = {"rise": {"samples": 256}}
_TINY_OPTIONS = {
    "rise": {"samples": 32},
    "lime": {"samples": 32, "segments": 16},
    "kernel_shap": {"samples": 32, "segments": 16},
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 2},
}
_MAX_PER_CLASS = 24


@dataclass(frozen=True)
class ExplainedRun:
    """A run's model with its predictions, and the data set's images at the model's size.

    The explained class of an image is the predicted one; of a multilabel model, the most probable.
    """

    unit: str
    model: keras.Model | BlackBox
    predictions: Predictions
    pixels: pixel_cache.Pixels

    @property
    def test(self) -> Predictions:
        """The predictions of the test split."""
        return self.predictions.split("test")

    @property
    def predicted(self) -> np.ndarray:
        """int (n,): the most probable class of each test image."""
        return self.test.probabilities.argmax(axis=1)

    @property
    def is_correct(self) -> np.ndarray:
        """bool (n,): whether the most probable class is a true one."""
        return self.test.truths[np.arange(len(self.test)), self.predicted]

    @property
    def is_network(self) -> bool:
        """Whether the model has gradients; a thumbnail model has none."""
        return isinstance(self.model, keras.Model)

    def about(self) -> str:
        """Returns what is explained, in words."""
        name = self.model.name if self.is_network else self.model.kind
        height, width = model_wrapper.wrap(self.model).size
        return f"{self.unit}: {name} at {height} x {width} px, {len(self.test):,} test images"

    def images(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Returns uint8 (n, height, width, 3): the test images in these rows of the predictions."""
        paths_ = self.test.frame["path"].iloc[rows]
        return np.asarray(self.pixels.array[self.pixels.rows_of(paths_)])

    def model_classes(self, classes: np.ndarray) -> np.ndarray:
        """Returns int32 (n,): the model's index of classes given by index in the predictions."""
        names = model_wrapper.wrap(self.model).class_names
        index = np.array([names.index(name) for name in self.test.class_names], np.int32)
        return index[classes]

    def select(self, num: int) -> pd.DataFrame:
        """Returns `num` test images for each of `GROUPS`, fewer if there are no more.

        Columns: `group`, `row` (in the predictions), `label`, `predicted`, `confidence`, `correct`.
        No image is in two groups.
        """
        ordered = np.sort(self.test.probabilities, axis=1)
        confidence, correct = ordered[:, -1], self.is_correct
        rows = np.arange(len(correct))
        chosen = [
            rows[group][np.argsort(-confidence[group], kind="stable")][:num]
            for group in (correct, ~correct)
        ]
        rest = np.setdiff1d(rows, np.concatenate(chosen))
        margin = ordered[rest, -1] - ordered[rest, -2]
        chosen.append(rest[np.argsort(margin, kind="stable")][:num])
        rows = np.concatenate(chosen)
        names = np.asarray(self.test.class_names, dtype=object)
        labels = self.test.frame["label"].to_numpy()[rows]
        if self.test.kind == "multilabel":
            labels = [", ".join(own) or "none" for own in labels]
        return pd.DataFrame(
            {
                "group": np.repeat(GROUPS, list(map(len, chosen))),
                "row": rows,
                "label": labels,
                "predicted": names[self.predicted[rows]],
                "confidence": confidence[rows],
                "correct": correct[rows],
            }
        )

    def sample(self, num: int, *, seed: int = 0) -> np.ndarray:
        """Returns the rows of at most `num` random test images, sorted."""
        rng = np.random.default_rng(seed)
        return np.sort(rng.permutation(len(self.test))[:num])


def begin(run: Run, *, seed: int) -> None:
    """Seeds everything random and computes in float32, as explanations need it."""
    fit.begin(seed=seed, dtype_policy="float32", run=run)


def load_run(study: str, dataset: Dataset, *, stage: str = "train", unit: str = "") -> ExplainedRun:
    """Returns a finished run; by default the study's best on validation for this data set.

    Raises DarkroomError if there is no such run, or it kept no model or is of other data.
    """
    folder = paths.logs() / study / stage
    results = {path.name: runs.read(path) for path in record.finished_runs(folder)}
    trained_on = {name: result.get("data") or dataset.name for name, result in results.items()}
    if unit:
        check_choice("explained", unit, results, where=f"{study}/{stage}")
    if unit and (data := trained_on[unit]) != dataset.name:
        raise DarkroomError(
            f"{study}/{stage}/{unit} was trained on the data set {data!r}. "
            f"Received: data = {dataset.name!r}."
        )
    own = [name for name, data in trained_on.items() if data == dataset.name]
    if not own:
        raise DarkroomError(
            f"The study {study!r} has no finished run on {dataset.name!r} in {folder}. "
            "Run 3_train first."
        )
    # The accuracy of a multilabel run is another measure, so such runs come last.
    single = [name for name in own if not multilabel.is_of(results[name])]
    scores = {name: results[name].get("metrics", {}).get("val_accuracy", -1.0) for name in own}
    unit = unit or max(single or own, key=scores.get)
    model = _load_model(paths.checkpoint(study, stage, unit))
    resize = results[unit]["key"]["parameters"].get("resize", "stretch")
    pixels = pixel_cache.cache(dataset, side=model_wrapper.wrap(model).size, fit=resize)
    return ExplainedRun(unit, model, tables.read(folder / unit / record.PREDICTIONS), pixels)


def _load_model(folder: Path) -> keras.Model | BlackBox:
    thumbnail = folder / thumbnails.NAME
    if thumbnail.is_file():
        return thumbnails.load(thumbnail)
    return serialization.load(folder / "model.keras")


@dataclass(frozen=True)
class Explainer:
    """Explains one run by several methods; `tiny` draws few samples.

    Methods that need gradients are left out for a thumbnail model.
    """

    run: ExplainedRun
    methods: Sequence[str]
    seed: int = 0
    tiny: bool = False

    def __post_init__(self) -> None:
        for name in self.methods:
            check_choice("methods", name, METHODS)
        if not self.run.is_network:
            usable = [name for name in self.methods if not METHODS[name].needs_gradients]
            object.__setattr__(self, "methods", usable)
        if not self.methods:
            raise DarkroomError(
                f"`methods` must name at least one of {', '.join(METHODS)}. Received: none."
            )

    def titles(self) -> list[str]:
        """Returns the methods' titles in figures."""
        return [TITLES[name] for name in self.methods]

    def maps(self, images: np.ndarray, targets: Sequence[int]) -> dict[str, np.ndarray]:
        """Returns each method's maps of these images for these classes."""
        return {name: self._explain(name, images, targets) for name in self.methods}

    def figures(self, selected: pd.DataFrame) -> dict[str, Drawing]:
        """Returns one figure for each group of `ExplainedRun.select`, with measures below maps."""
        drawings = {}
        for group, rows in selected.groupby("group", sort=False):
            images = self.run.images(rows["row"].to_numpy())
            targets = self._targets(rows["row"].to_numpy())
            maps, notes = self.maps(images, targets), {}
            for name, heats in maps.items():
                measures = faithfulness.evaluate(
                    self._batch(images, targets), heats, seed=self.seed
                )
                notes[TITLES[name]] = [
                    f"ins {row.insertion:.2f} · del {row.deletion:.2f}\nµ {row.mu_fidelity:z.2f}"
                    for row in measures.itertuples()
                ]
            titled = {TITLES[name]: heats for name, heats in maps.items()}
            title = f"{group.capitalize()}: evidence for the predicted class"
            drawings[group] = plots.side_by_side(images, titled, rows, notes=notes, title=title)
        return drawings

    def weights(self) -> Drawing | None:
        """Draws the weights of a linear thumbnail model; None for any other model."""
        return None if self.run.is_network else weights_drawing(self.run.model)

    def class_averages(self, method: str, num: int) -> Drawing:
        """Draws the mean map of each class over correct test images, about `num` in all.

        Of a multilabel model over images that have the class and are given it.
        """
        test, predicted = self.run.test, self.run.predicted
        if test.kind == "multilabel":
            is_found = test.truths & test.present
        else:
            is_found = self.run.is_correct[:, None] & (
                predicted[:, None] == np.arange(len(test.class_names))
            )
        most = max(2, num // len(test.class_names))
        groups = {
            name: np.flatnonzero(is_found[:, index])[:most]
            for index, name in enumerate(test.class_names)
        }
        targets = {
            name: np.full(len(rows), index) for index, (name, rows) in enumerate(groups.items())
        }
        return self._averages(method, groups, targets, "Mean map of each class")

    def correct_and_wrong(self, method: str, num: int) -> Drawing:
        """Draws the mean maps of correct and of wrong predictions, for the predicted class."""
        rng, correct = np.random.default_rng(self.seed), self.run.is_correct
        groups = {
            name: rng.permutation(np.flatnonzero(rows))[:num]
            for name, rows in (("correct", correct), ("wrong", ~correct))
        }
        targets = {name: self.run.predicted[rows] for name, rows in groups.items()}
        title = "Mean map of correct and wrong predictions"
        return self._averages(method, groups, targets, title)

    def table(self, num: int) -> pd.DataFrame:
        """Returns `faithfulness.table` of the methods on `num` test images."""
        images, targets = self._sample(8 if self.tiny else num)
        results = faithfulness.evaluate_all(
            self._batch(images, targets), self.maps(images, targets), seed=self.seed
        )
        return faithfulness.table(results)

    def checks(self, num: int) -> pd.DataFrame:
        """Returns each method's mean `stability` and, of a network, `shuffled`, on `num` images."""
        images, targets = self._sample(num)
        model, rows = self.run.model, {}
        for name in self.methods:
            options = {"method": name, "target": targets, **self._options(name)}
            seeds = (self.seed, self.seed + 1)
            stability = faithfulness.stability(model, images, seeds=seeds, **options)
            rows[name] = {"stability": stability.mean()}
            if self.run.is_network:
                similarity = faithfulness.randomisation(model, images, seed=self.seed, **options)
                rows[name]["shuffled"] = similarity.mean()
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")

    def baseline_sentence(self, num: int) -> str:
        """Returns what integrated gradients leave out: the evidence that survives blurring."""
        if "integrated_gradients" not in self.methods:
            return ""
        images, targets = self._sample(num)
        share = baseline_share(self._batch(images, targets))
        return (
            "Integrated gradients explain the step from the blurred image to the image. The "
            f"blurred image keeps {100 * float(np.median(share)):.0f} % of the class's probability "
            f"(median of {len(images)} images); that part is not in the maps."
        )

    def shortcuts(self) -> pd.DataFrame:
        """Returns Shortcuts on test images; of many classes, on fewer images of each."""
        classes = self.run.predicted if self.run.test.kind == "multilabel" else self.run.test.truth
        usable = np.flatnonzero(self.run.is_correct)
        present = np.unique(classes[usable])
        rows = np.concatenate(
            [usable[classes[usable] == index][:_MAX_PER_CLASS] for index in present] or [usable]
        )
        # Limits over all classes; sixty classes with 24 images each would take an hour.
        occluded, pasted = (24, 160) if self.tiny else (120, 600)
        num = max(1, len(present))
        return faithfulness.detect_shortcuts(
            self.run.model,
            self.run.images(rows),
            self.run.model_classes(classes[rows]),
            seed=self.seed,
            per_class=int(np.clip(occluded // num, 2, _MAX_PER_CLASS)),
            transplants=int(np.clip(pasted // num, 16, 48)),
        )

    def _averages(
        self, method: str, groups: dict[str, np.ndarray], classes: dict[str, np.ndarray], title: str
    ) -> Drawing:
        maps = {
            name: self._explain(
                method, self.run.images(rows), self.run.model_classes(classes[name])
            )
            for name, rows in groups.items()
            if len(rows)
        }
        return plots.averages(maps, title=title)

    def _sample(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.run.sample(num, seed=self.seed)
        return self.run.images(rows), self._targets(rows)

    def _targets(self, rows: np.ndarray) -> np.ndarray:
        return self.run.model_classes(self.run.predicted[rows])

    def _explain(self, name: str, images: np.ndarray, targets: Sequence[int]) -> np.ndarray:
        if METHODS[name].needs_gradients and not self.run.is_network:
            name = "occlusion"
        options = {"method": name, "target": targets, "seed": self.seed, **self._options(name)}
        return explain(self.run.model, images, **options)

    def _options(self, name: str) -> dict[str, int]:
        return (_TINY_OPTIONS if self.tiny else _OPTIONS).get(name, {})

    def _batch(self, images: np.ndarray, targets: np.ndarray) -> Batch:
        wrapper = model_wrapper.wrap(self.run.model, "probability")
        return Batch(wrapper, images.astype(np.float32), targets)


def display_table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table of methods for reading: measures, and gains with intervals."""
    lines = {}
    for name, row in table.iterrows():
        line = {"images": int(row["num_images"])}
        for measure in faithfulness.MEASURES:
            line[measure] = f"{row[measure]:.3f}"
            if name != faithfulness.RANDOM:
                gain, low, high = (row[f"{measure}_{part}"] for part in ("gain", "low", "high"))
                line[f"{measure}, gain"] = (
                    f"{gain:+.3f} ({low:+.3f} to {high:+.3f}), "
                    f"{100 * row[f'{measure}_share']:.0f} % of images"
                )
        lines[TITLES.get(name, name)] = line
    return pd.DataFrame.from_dict(lines, orient="index").fillna("–")


def trusted(table: pd.DataFrame) -> list[str]:
    """Returns the methods significantly better than random maps by deletion and insertion."""
    significant = (table["deletion_low"] > 0) & (table["insertion_low"] > 0)
    return [name for name in table.index[significant] if name in METHODS]


def sentence(table: pd.DataFrame) -> str:
    """Returns in words which methods beat random maps, and which do not beat edges."""
    methods, good = [name for name in table.index if name in METHODS], trusted(table)
    insertion = table["insertion"]
    weak = [name for name in methods if insertion[name] <= insertion[faithfulness.EDGES]]
    text = (
        f"{len(good)} of {len(methods)} methods are significantly better than random maps by "
        "deletion and insertion"
    )
    text += f": {', '.join(TITLES[name] for name in good)}." if good else "."
    if weak:
        names = ", ".join(TITLES[name] for name in weak)
        text += f" By insertion no better than the edges of the image: {names}."
    return text


def summary(
    run: ExplainedRun, table: pd.DataFrame, checks: pd.DataFrame, regions: pd.DataFrame
) -> dict:
    """Returns the content of `result.json`; `found` is of `faithfulness.detect_shortcuts`."""
    measured = table[list(faithfulness.MEASURES)]
    numbers = {
        f"{name}_{column}": float(value)
        for frame in (measured, checks)
        for (name, column), value in frame.stack().items()
    }
    suspected = regions[regions["suspected"].astype(bool)]
    columns = ["class", "region", "turned", "low", "high"]
    return {
        "explained": run.unit,
        "metrics": {**numbers, "num_suspected": len(suspected)},
        "trusted": trusted(table),
        "shortcuts": suspected[columns].to_dict("records"),
    }
