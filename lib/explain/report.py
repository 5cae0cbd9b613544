"""What the notebook shows of one run: figures, the table over methods, and sentences made from
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.baselines.plots import weights_drawing
from lib.errors import DarkroomError, suggest
from lib.explain import faithfulness, plots, sanity, shortcuts
from lib.explain import model_wrapper as asked
from lib.explain.explained_run import Subject
from lib.explain.explanation import METHODS, explain
from lib.explain.model_wrapper import Scored, ScoredBlackBox
from lib.reporting.style import Drawing

TITLES = {
    **{name: method.title for name, method in METHODS.items()},
    faithfulness.EDGES: "Edges of the picture",
    faithfulness.RANDOM: "Random map",
}

_USUAL = {
    "rise": {"samples": 256}
}  # half of its default: it is the slowest, and the table says how stable it is
_TINY = {
    "rise": {"samples": 32},
    "lime": {"samples": 32, "segments": 16},
    "kernel_shap": {"samples": 32, "segments": 16},
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 2},
}


@dataclass(frozen=True)
class Plan:
    """A run, the methods it is explained by, and their seed; `tiny` has them draw little.

    Of a thumbnail model, which has no gradients, the methods that need them are left out.
    """

    subject: Subject
    methods: Sequence[str]
    seed: int = 0
    tiny: bool = False

    def __post_init__(self):
        for name in self.methods:
            if name not in METHODS:
                known = list(METHODS)
                raise DarkroomError(
                    f"`methods` must be any of {', '.join(known)}. Received: "
                    f"{name!r}.{suggest(name, known)}"
                )
        if not self.subject.is_network:  # what is left works on black boxes
            object.__setattr__(
                self,
                "methods",
                [name for name in self.methods if not METHODS[name].needs_gradients],
            )
        if not self.methods:
            raise DarkroomError(
                f"`methods` must name at least one of {', '.join(METHODS)}. Received none."
            )

    def titles(self) -> list[str]:
        """The names of the methods as figures bear them."""
        return [TITLES[name] for name in self.methods]

    def maps(self, images: np.ndarray, targets: Sequence[int]) -> dict[str, np.ndarray]:
        """Returns each method's maps of these images for these classes."""
        return {name: self._one(name, images, targets) for name in self.methods}

    def figures(self, shown: pd.DataFrame) -> dict[str, Drawing]:
        """Returns a figure for each group of `Subject.chosen`, with the measures below each map."""
        drawings = {}
        for group, rows in shown.groupby("group", sort=False):
            images = self.subject.images(rows["row"].to_numpy())
            targets = self._named(rows["row"].to_numpy())
            maps, notes = self.maps(images, targets), {}
            for name, each in maps.items():
                found = faithfulness.measured(
                    self._probability, images, each, targets, seed=self.seed
                )
                notes[TITLES[name]] = [
                    f"in {row.insertion:.2f} · out {row.deletion:.2f}\nµ {row.mu_fidelity:z.2f}"
                    for row in found.itertuples()
                ]
            titled = {TITLES[name]: each for name, each in maps.items()}
            title = f"{group[0].upper()}{group[1:]}: evidence for the class that was named"
            drawings[group] = plots.side_by_side(images, titled, rows, notes=notes, title=title)
        return drawings

    def weights(self) -> Drawing | None:
        """The weights of a linear thumbnail model as pictures; None for every other model."""
        return None if self.subject.is_network else weights_drawing(self.subject.model)

    def class_averages(self, method: str, num: int) -> Drawing:
        """The mean map of each class over rightly named test images, about `num` in all."""
        test = self.subject.test
        right = np.flatnonzero(test.predicted == test.truth)
        each = max(2, num // len(test.class_names))
        groups = {
            name: right[test.truth[right] == place][:each]
            for place, name in enumerate(test.class_names)
        }
        return self._averages(method, groups, "Where the model looks, on average")

    def right_and_wrong(self, method: str, num: int) -> Drawing:
        """The mean map of images that were named rightly, and of those that were not, for the class
        that was named.
        """
        test, rng = self.subject.test, np.random.default_rng(self.seed)
        right = test.predicted == test.truth
        groups = {
            name: rng.permutation(np.flatnonzero(kind))[:num]
            for name, kind in (("named rightly", right), ("named wrongly", ~right))
        }
        return self._averages(method, groups, "Where right and wrong predictions look")

    def table(self, num: int) -> pd.DataFrame:
        """Returns `faithfulness.table` over the methods on `num` test images, explained for the
        class that was named.
        """
        images, targets = self._sample(8 if self.tiny else num)
        found = faithfulness.of_all(
            self._probability, images, self.maps(images, targets), targets, seed=self.seed
        )
        return faithfulness.table(found)

    def checks(self, num: int) -> pd.DataFrame:
        """Returns `stability` and, of a network, `shuffled` of each method, the means over `num`
        images.
        """
        images, targets = self._sample(num)
        rows = {}
        for name in self.methods:
            options = {"method": name, "target": targets, **self._options(name)}
            stable = sanity.stability(
                self.subject.model, images, seeds=(self.seed, self.seed + 1), **options
            )
            rows[name] = {"stability": stable.mean()}
            if self.subject.is_network:
                rows[name]["shuffled"] = sanity.randomisation(
                    self.subject.model, images, seed=self.seed, **options
                ).mean()
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")

    def shortcuts(self) -> pd.DataFrame:
        """Returns what `shortcuts.detect` finds on test images; the more classes there are, the
        fewer images of each.
        """
        truth = self.subject.test.truth
        present = np.unique(truth)
        rows = np.concatenate([np.flatnonzero(truth == place)[:24] for place in present])
        images, classes = self.subject.images(rows), self.subject.classes(truth[rows])
        occluded, pasted = (
            (24, 160) if self.tiny else (120, 600)
        )  # over all classes, or sixty of them would take an hour
        limits = {
            "per_class": int(np.clip(occluded // len(present), 2, 24)),
            "transplants": int(np.clip(pasted // len(present), 16, 48)),
        }
        return shortcuts.detect(self.subject.model, images, classes, seed=self.seed, **limits)

    def _averages(self, method: str, groups: dict[str, np.ndarray], title: str) -> Drawing:
        filled = {name: rows for name, rows in groups.items() if len(rows)}
        maps = {
            name: self._one(method, self.subject.images(rows), self._named(rows))
            for name, rows in filled.items()
        }
        return plots.averages(maps, title=title)

    def _sample(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.subject.spread(num, seed=self.seed)
        return self.subject.images(rows), self._named(rows)

    def _named(self, rows: np.ndarray) -> np.ndarray:
        return self.subject.classes(self.subject.test.predicted[rows])

    def _one(self, name: str, images: np.ndarray, targets: Sequence[int]) -> np.ndarray:
        if METHODS[name].needs_gradients and not self.subject.is_network:
            name = "occlusion"
        return explain(
            self.subject.model,
            images,
            method=name,
            target=targets,
            seed=self.seed,
            **self._options(name),
        )

    def _options(self, name: str) -> dict[str, int]:
        return (_TINY if self.tiny else _USUAL).get(name, {})

    @property
    def _probability(self) -> Scored | ScoredBlackBox:
        return asked.of(self.subject.model, "probability")


def brief(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table over methods for reading: each measure, its gain over random with the
    interval, the share of images.
    """
    told = {}
    for name, row in table.iterrows():
        line = {"images": int(row["num_images"])}
        for measure in faithfulness.MEASURES:
            line[measure] = f"{row[measure]:.3f}"
            if name != faithfulness.RANDOM:
                line[f"{measure}, gain"] = (
                    f"{row[f'{measure}_gain']:+.3f} ({row[f'{measure}_low']:+.3f} to "
                    f"{row[f'{measure}_high']:+.3f}), "
                    f"{100 * row[f'{measure}_share']:.0f} % of images"
                )
        told[TITLES.get(name, name)] = line
    return pd.DataFrame.from_dict(told, orient="index").fillna("–")


def trusted(table: pd.DataFrame) -> list[str]:
    """Returns the methods whose gain over random maps has an interval above 0 by both deletion and
    insertion.
    """
    above = (table["deletion_low"] > 0) & (table["insertion_low"] > 0)
    return [name for name in table.index[above] if name in METHODS]


def sentence(table: pd.DataFrame) -> str:
    """Returns in words which methods did better than random maps, and which were no better than
    edges.
    """
    methods, good = [name for name in table.index if name in METHODS], trusted(table)
    weak = [
        name
        for name in methods
        if table.loc[name, "insertion"] <= table.loc[faithfulness.EDGES, "insertion"]
    ]
    told = f"Of {len(methods)} methods, {len(good)} find what the model uses better than random maps do, by deletion and insertion"
    told += f": {', '.join(TITLES[name] for name in good)}." if good else "."
    if weak:
        told += f" By insertion no better than the edges of the picture: {', '.join(TITLES[name] for name in weak)}."
    return told


def result(
    subject: Subject, table: pd.DataFrame, checks: pd.DataFrame, found: pd.DataFrame
) -> dict:
    """Returns what `result.json` keeps of an explanation."""
    numbers = {
        f"{name}_{measure}": float(row[measure])
        for name, row in table.iterrows()
        for measure in faithfulness.MEASURES
    }
    numbers |= {
        f"{name}_{column}": float(row[column])
        for name, row in checks.iterrows()
        for column in checks.columns
    }
    suspected = found[found["suspected"].astype(bool)]
    return {
        "explained": subject.unit,
        "metrics": {**numbers, "num_suspected": len(suspected)},
        "trusted": trusted(table),
        "shortcuts": suspected[["class", "region", "turned", "low", "high"]].to_dict("records"),
    }
