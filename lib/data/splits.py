"""Train, validation and test splits: by group, stratified, seeded, and stored.

A group (verified near-duplicates, united with groups that the user or the source names) never
straddles two splits. A split is a table on disk
that is never overwritten; its name tells method, fractions, seed, target and the images that it
divides.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, eye_array, hstack, kron

from lib import files, hashing
from lib.data import groups, targets
from lib.data.dataset import Dataset
from lib.errors import DarkroomError

NAMES = ("train", "val", "test")
METHODS = ("grouped", "random", "source", "source_val")
COARSE = 0.05
"""Share of a class from which its largest group is coarse: the next class makes up for what this
one leaves open.
"""
_FOLD = re.compile(r"fold (\d+) of (\d+)")
_RUNS = re.compile(r"runs of (\d+)")
_EVERY_FOLD = re.compile(r"folds of (\d+)")


@dataclasses.dataclass(frozen=True)
class Split:
    """One division of a data set. `frame` has `path`, `split`, `label` (the target's class),
    `group`, `pixels`, by path.
    """

    id: str
    method: str
    target: str
    frame: pandas.DataFrame
    class_names: list[str]
    source_note: str = ""
    """Description of the source's own split if it is not used."""

    def of(self, name: str) -> pandas.DataFrame:
        """Returns the rows of one split, `train`, `val` or `test`, sorted by path."""
        return self.frame[self.frame["split"] == name].reset_index(drop=True)

    def data_hash(self) -> str:
        """Digest of accepted paths, pixels, labels and split: two results with equal ones were
        measured on the same data.
        """
        columns = (self.frame[name].astype(str) for name in ("path", "pixels", "label", "split"))
        return hashing.digest(*(part for row in zip(*columns, strict=True) for part in row))

    @property
    def is_multilabel(self) -> bool:
        """Whether an image has any number of classes; its label is then a list of names."""
        return targets.parse(self.target).rule == "all"

    def counts(self) -> pandas.DataFrame:
        """Returns the number of images, one row a class and one column a split.

        A multilabel image counts for each of its classes.
        """
        rows = self.frame.explode("label")
        table = pandas.crosstab(rows["label"], rows["split"])
        return table.reindex(index=self.class_names, columns=list(NAMES), fill_value=0)

    def sentence(self) -> str:
        """Returns the method and the resulting shares, which groups may move from those asked."""
        number, counts = len(self.frame), self.frame["split"].value_counts()
        shares = ", ".join(
            f"{name} {counts.get(name, 0):,} ({100 * counts.get(name, 0) / max(number, 1):.1f} %)"
            for name in NAMES
        )
        num_groups = self.frame["group"].nunique()
        grouped = f"{num_groups:,} groups" if num_groups < number else "no two of them in a group"
        sentence = f"{number:,} images ({grouped}), split method {self.method}: {shares}."
        straddling = int(self.of("test")["group"].isin(self.of("train")["group"]).sum())
        leak = (
            f"{straddling:,} test images are in a group with training images, which this method "
            "does not prevent, so the score may be too good; split_method = 'grouped' does."
        )
        return " ".join(filter(None, [sentence, leak if straddling else "", self.source_note]))


def ensure(
    dataset: Dataset,
    *,
    method: str = "grouped",
    fractions: tuple[float, float, float] = (0.6, 0.15, 0.25),
    seed: int = 0,
    target: str = "label",
    limit_per_class: int = 0,
) -> Split:
    """Returns the split of a data set, made and stored at the first call and read at every later
    one.

    Args:
        dataset: a data set that has been cleaned; only its accepted images are divided.
        method: `grouped`; `random` (keeps named groups together, but near-duplicates may straddle
            it, and every result says so); `runs of N` (also keeps N neighbours in the order of file
            names together); `source` (train, validation and test as the source has them; where it
            has no validation, that is taken from its train images); `source_val` (the same, with
            the source's validation images as test); `fold K of N`; or `folds of N`, where the seed
            walks through the folds: seeds 0 to N - 1 are the N folds of one division, the next N of
            another.
        fractions: the final shares of train, val and test, which sum to 1. For `source` and folds
            the test share follows from the method, and the first two keep their proportion.
        seed: which of the possible splits.
        target: the column to learn and to stratify by, see `targets.truth`; for one class against
            the rest the division is that of the whole column, so that both targets test the same
            images.
        limit_per_class: largest number of images a class, chosen by the seed; 0 takes all.

    Raises:
        DarkroomError: for shares that do not sum to 1, an unknown method, or classes too small to
            be divided.
    """
    method, seed = _walked(method, seed)
    _check(method, fractions)
    rows = dataset.accepted().sort_values("path", ignore_index=True)
    multilabel = targets.parse(target).rule == "all"
    truth = targets.several(rows, target) if multilabel else targets.truth(rows, target)
    known = truth.notna()
    if multilabel:  # an empty cell says that an image has no class, a missing one says nothing
        known = truth.map(bool) | (rows[targets.parse(target).column] == "")
    stratum = targets.truth(rows, targets.stratum(targets.for_split(target)))
    rows = rows.assign(label=truth, stratum=stratum)[known].reset_index(drop=True)
    if runs := _RUNS.fullmatch(method):
        runs_of_names = groups.by_runs(rows["path"].tolist(), int(runs[1]))
        rows = rows.assign(group=groups.united([rows["group"], pandas.Series(runs_of_names)]))
    if limit_per_class:
        rows = _limit(rows, limit_per_class, seed, keeps_source=method.startswith("source"))
    divided = hashing.digest(
        *(f"{row.path}\0{row.label}\0{row.group}" for row in rows.itertuples())
    )[:8]
    id = _identity(method, fractions, seed=seed, target=target, divided=divided)
    path = dataset.folder / "splits" / f"{id}.parquet"
    if path.is_file():
        assigned = rows["path"].map(_stored(path))
    else:
        assigned = _assign(rows, method=method, fractions=fractions, seed=seed)
        _refuse_gaps(rows, assigned, method)
        # of nothing but the name, so two writers at once write the same bytes
        files.write_parquet(path, pandas.DataFrame({"path": rows["path"], "split": assigned}))
    frame = rows[["path", "label", "group", "pixels"]].assign(split=assigned)
    return Split(
        id,
        method,
        target,
        frame,
        class_names=sorted(rows["label"].explode().dropna().unique()),
        source_note="" if method.startswith("source") else _source_note(rows, assigned),
    )


def _source_note(rows: pandas.DataFrame, assigned: pandas.Series) -> str:
    own = rows["source_split"]
    counts = {name: int(own.eq(name).sum()) for name in NAMES}
    held_out = "test" if counts["test"] else "val"
    if not counts[held_out]:
        return ""
    trained = int((own.eq(held_out) & assigned.eq("train")).sum())
    listed = ", ".join(f"{name} {number:,}" for name, number in counts.items() if number)
    return (
        f"The source has a split of its own ({listed}), which is not used: {trained:,} of its "
        f"{counts[held_out]:,} {held_out} images are trained on, so the score does not compare "
        f"with published ones; split_method = '{'source' if held_out == 'test' else 'source_val'}' "
        "uses it."
    )


def of_parameters(dataset: Dataset, parameters: Mapping[str, Any]) -> Split:
    """Returns the split that the parameters of a notebook describe, see `ensure`."""
    return ensure(
        dataset,
        method=parameters["split_method"],
        fractions=tuple(parameters["fractions"]),
        seed=parameters["split_seed"],
        target=parameters["target"],
        limit_per_class=parameters.get("limit_per_class", 0),
    )


def _stored(path: Path) -> pandas.Series:
    cached = files.read_cache(path)
    if cached is None or not {"path", "split"} <= set(cached[0].columns):
        raise DarkroomError(
            f"{path} is damaged; delete it, and the same division is made again from its name."
        )
    return cached[0].set_index("path")["split"]


def _walked(method: str, seed: int) -> tuple[str, int]:
    every = _EVERY_FOLD.fullmatch(method)
    if not every or not int(every[1]):
        return method, seed
    folds = int(every[1])
    return f"fold {seed % folds + 1} of {folds}", seed // folds


def _check(method: str, fractions: tuple[float, float, float]) -> None:
    fold = _FOLD.fullmatch(method)
    if method not in METHODS and not fold and not _RUNS.fullmatch(method):
        known = f"{', '.join(METHODS)}, 'runs of N', 'fold K of N' or 'folds of N'"
        raise DarkroomError(f"A split's method is one of {known}. Received: {method!r}.")
    if fold and not 1 <= int(fold[1]) <= int(fold[2]) <= 100:
        raise DarkroomError(f"Folds count from 1 to N, with N at most 100. Received: {method!r}.")
    sums_to_one = math.isclose(sum(fractions), 1, abs_tol=1e-6)
    if len(fractions) != 3 or min(fractions) <= 0 or not sums_to_one:
        raise DarkroomError(
            "The fractions of train, val and test are the final shares: each above 0, and their "
            f"sum is 1. Received: {list(fractions)}, whose sum is {sum(fractions):g}."
        )


def _identity(
    method: str, fractions: tuple[float, ...], *, seed: int, target: str, divided: str
) -> str:
    shares = "-".join(f"{100 * share:g}" for share in fractions)
    safe = re.sub(r"[^\w.-]+", "_", target)
    # "source" once took validation from all images but the test images: another division.
    name = {"source": "source_own"}.get(method, method).replace(" ", "_")
    return f"{name}_{shares}_seed{seed}_{safe}_{divided}"


def _assign(
    rows: pandas.DataFrame, *, method: str, fractions: tuple[float, float, float], seed: int
) -> pandas.Series:
    rng = np.random.default_rng(seed)
    is_multilabel = len(rows) and isinstance(rows["label"].iloc[0], list)
    labels = rows["label"] if is_multilabel else rows["stratum"]
    owners = rows["group"] if method != "random" else _named_groups(rows)
    fold = _FOLD.fullmatch(method)
    if method.startswith("source"):
        assigned = _source_split(rows, method)
        if assigned.eq("val").any():
            return assigned
        test = assigned.eq("test")
    elif fold:
        shares = {str(number + 1): 1 / int(fold[2]) for number in range(int(fold[2]))}
        test = _fill(labels, owners, shares=shares, rng=rng) == fold[1]
    else:
        return _fill(labels, owners, shares=dict(zip(NAMES, fractions, strict=True)), rng=rng)
    kept = sum(fractions[:2])
    shares = {"train": fractions[0] / kept, "val": fractions[1] / kept}
    assigned = pandas.Series("test", index=rows.index)
    assigned[~test] = _fill(labels[~test], owners[~test], shares=shares, rng=rng)
    return assigned


def _named_groups(rows: pandas.DataFrame) -> pandas.Series:
    """Named groups; a row without one is a group of its own."""
    if "source_group" not in rows.columns:
        return pandas.Series(rows.index, index=rows.index)
    return groups.united([rows["source_group"]])


def in_proportion(rows: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    """Returns the rows in an order of which every beginning has the groups in their proportions."""
    groups_of = rows.groupby(by, sort=False, dropna=False)
    place = (groups_of.cumcount() + 0.5) / groups_of[by[0]].transform("size")
    return rows.loc[place.sort_values(kind="stable").index]


def _limit(
    rows: pandas.DataFrame, limit: int, seed: int, *, keeps_source: bool = False
) -> pandas.DataFrame:
    shuffled = rows.iloc[np.random.default_rng([seed, 1]).permutation(len(rows))]
    if keeps_source:  # a few images of each class are still of every split
        shuffled = in_proportion(shuffled, ["stratum", "source_split"])
    return (
        shuffled.groupby("stratum", sort=False, dropna=False)
        .head(limit)
        .sort_values("path", ignore_index=True)
    )


def _fill(
    labels: pandas.Series,
    owners: pandas.Series,
    *,
    shares: dict[str, float],
    rng: np.random.Generator,
) -> pandas.Series:
    """Gives each group, large ones first and else in random order, to the split that misses most of
    the group's classes.

    Groups of several classes come before those of one, which then even out what those left. At the
    end no class of enough groups lacks a split.
    """
    if len(labels) and isinstance(labels.iloc[0], list):
        chosen = _fill_multilabel(labels, owners, shares=shares, rng=rng)
        return _fill_gaps(chosen, labels, owners, shares=shares)
    table = pandas.DataFrame({"label": labels, "group": owners, "row": np.arange(len(labels))})
    chosen = np.empty(len(labels), dtype=object)
    by_group = table.groupby("group", sort=True)
    members = by_group["row"].agg(list)
    mixed = by_group["label"].nunique() > 1
    counts = table["label"].value_counts()
    missing = {
        name: {label: share * n for label, n in counts.items()} for name, share in shares.items()
    }

    def shuffled(some: pandas.Series) -> list[list[int]]:
        rows = list(some)
        rng.shuffle(rows)
        return sorted(rows, key=len, reverse=True)

    values = labels.to_numpy()
    for rows in shuffled(members[mixed]):
        own = dict(Counter(values[rows]).most_common())
        need = {
            name: sum(n * lacking[label] / counts[label] for label, n in own.items())
            for name, lacking in missing.items()
        }
        neediest = max(need, key=need.get)
        for label, n in own.items():
            missing[neediest][label] -= n
        chosen[rows] = neediest
    pure = by_group["label"].first()[~mixed]
    carried = dict.fromkeys(shares, 0.0)  # what the classes so far have left open
    for label in sorted(pure.unique()):
        own = shuffled(members[pure.index[pure == label]])
        left = {name: missing[name][label] for name in shares}
        coarse = len(own[0]) >= COARSE * sum(map(len, own))
        over = carried if coarse else dict.fromkeys(shares, 0.0)
        for rows in own:
            neediest = max(left, key=lambda name, left=left, over=over: left[name] + over[name])
            left[neediest] -= len(rows)
            chosen[rows] = neediest
        carried = {name: carried[name] + left[name] for name in shares}
    return _fill_gaps(pandas.Series(chosen, index=labels.index), labels, owners, shares=shares)


def _fill_gaps(
    chosen: pandas.Series, labels: pandas.Series, owners: pandas.Series, *, shares: dict[str, float]
) -> pandas.Series:
    """Moves whole groups so that each class with at least as many groups as there are splits is in
    all of them, as few images as possible and near the shares; unchanged where that cannot be.

    It is an integer program over the groups of the classes with a gap, and over all groups where
    these alone cannot fill it.
    """
    names = list(shares)
    group, _ = pandas.factorize(owners)
    sizes = np.bincount(group)
    place = np.zeros(len(sizes), int)
    place[group] = pandas.Index(names).get_indexer(chosen)
    pairs = pandas.DataFrame({"group": group, "label": labels.to_numpy()}).explode("label")
    pairs = pairs.dropna().drop_duplicates()
    label = pandas.factorize(pairs["label"])[0]
    member = coo_array((np.ones(len(pairs)), (label, pairs["group"]))).tocsr()  # (classes, groups)
    member.resize(member.shape[0], len(sizes))
    in_split = np.eye(len(names))[place]  # (groups, splits)
    is_divisible = member.sum(axis=1) >= len(names)
    gap = is_divisible & ((member @ in_split) == 0).any(axis=1)
    for movable in (member[gap].sum(axis=0) > 0, np.ones(len(sizes), bool)):
        if not gap.any():
            break
        moved = _moved(movable, member[is_divisible], in_split, sizes, list(shares.values()))
        if moved is not None:
            place[movable] = moved
            return pandas.Series(np.array(names, object)[place[group]], index=chosen.index)
    return chosen


def _moved(
    movable: np.ndarray,
    member: csr_array,
    in_split: np.ndarray,
    sizes: np.ndarray,
    shares: list[float],
) -> np.ndarray | None:
    """The split of each movable group, or None where no choice puts every class into every
    split.
    """
    number, parts = int(movable.sum()), in_split.shape[1]
    fixed = member[:, ~movable] @ in_split[~movable]  # (classes, splits), groups that stay
    own, each_split = member[:, movable], eye_array(parts)
    placed = kron(sizes[None, movable], each_split)  # (splits, groups x splits)
    open_images = np.array(shares) * sizes.sum() - sizes[~movable] @ in_split[~movable]
    distance = hstack([placed, -each_split]), hstack([placed, each_split])  # from the shares
    none = coo_array((own.shape[0] * parts, parts))
    once = hstack([kron(eye_array(number), np.ones((1, parts))), coo_array((number, parts))])
    stays = (sizes[:, None] * in_split)[movable].ravel()
    solution = milp(
        np.concatenate([-stays, np.ones(parts)]),
        integrality=np.repeat([1, 0], [number * parts, parts]),
        bounds=Bounds(0, np.repeat([1, np.inf], [number * parts, parts])),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(hstack([kron(own, each_split), none]), 1 - fixed.ravel(), np.inf),
            LinearConstraint(distance[0], -np.inf, open_images),
            LinearConstraint(distance[1], open_images, np.inf),
        ],
        options={"mip_rel_gap": 0.02, "node_limit": 200},
    )
    if solution.x is None:
        return None
    return solution.x[: number * parts].reshape(number, parts).argmax(axis=1)


def _fill_multilabel(
    labels: pandas.Series,
    owners: pandas.Series,
    *,
    shares: dict[str, float],
    rng: np.random.Generator,
) -> pandas.Series:
    """Iterative stratification: places the groups of the rarest remaining label first.

    Each goes to the split that lacks most images of that label, then to the one that lacks most
    images at all.

    Source: Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, ECML 2011.
    """
    names, chosen = list(shares), np.empty(len(labels), dtype=object)
    classes = sorted(set(labels.explode().dropna()))
    column = {label: number for number, label in enumerate(classes)}
    group, distinct = pandas.factorize(owners, sort=True)
    members = [np.flatnonzero(group == number) for number in range(len(distinct))]
    counts = np.zeros((len(members), len(classes)))  # (groups, classes)
    for row, own in enumerate(labels):
        counts[group[row], [column[label] for label in own]] += 1
    sizes = np.array([len(rows) for rows in members], float)
    parts = np.array([shares[name] for name in names])
    lacking, room = np.outer(parts, counts.sum(axis=0)), parts * sizes.sum()
    waiting = list(rng.permutation(len(members)))
    while waiting:
        left = counts[waiting].sum(axis=0)
        present = np.flatnonzero(left)
        label = present[left[present].argmin()] if len(present) else None
        having = [one for one in waiting if label is None or counts[one, label]]
        for one in sorted(having, key=lambda number: -sizes[number]):
            wanted = room if label is None else lacking[:, label]
            best = max(range(len(names)), key=lambda part: (round(wanted[part], 9), room[part]))
            lacking[best] -= counts[one]
            room[best] -= sizes[one]
            chosen[members[one]] = names[best]
        placed = set(having)
        waiting = [one for one in waiting if one not in placed]
    return pandas.Series(chosen, index=labels.index)


def _source_split(rows: pandas.DataFrame, method: str) -> pandas.Series:
    """The source's own division; where it names no train images, these are all the others."""
    own = rows["source_split"].astype(object)
    without = own.isna()
    if without.any() and own.eq("train").any():
        raise DarkroomError(
            f"The method {method!r} takes the source's split, and {int(without.sum()):,} images "
            f"have none, such as {rows.loc[without, 'path'].iloc[0]}: name the split of their "
            "folder by the option split_names=FOLDER:train, or leave it out by ignore=FOLDER."
        )
    own = own.where(~without, "train")
    counts = {name: int(own.eq(name).sum()) for name in NAMES}
    received = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    if method == "source_val":
        if not counts["val"] or not counts["train"] or counts["test"]:
            raise DarkroomError(
                "The method 'source_val' needs images that the source itself calls train and val, "
                f"and none that it calls test. Received: {received}."
            )
        return own.replace("val", "test")
    if not counts["test"] or not counts["train"]:
        hint = "use split_method = 'grouped'"
        if counts["val"]:
            hint += ", or 'source_val' if its val images are the benchmark's test"
        raise DarkroomError(
            "The method 'source' needs images that the source itself calls train and test. "
            f"Received: {received}; {hint}."
        )
    return own


def _refuse_gaps(rows: pandas.DataFrame, assigned: pandas.Series, method: str) -> None:
    rows = rows.assign(split=assigned).explode("label")
    assigned = rows.pop("split")
    counts = pandas.crosstab(rows["label"], assigned).reindex(columns=list(NAMES), fill_value=0)
    empty = counts[(counts == 0).any(axis=1)]
    if empty.empty:
        return
    label = empty.index[0]
    own = rows[rows["label"] == label]
    missing = ", ".join(name for name in NAMES if counts.loc[label, name] == 0)
    raise DarkroomError(
        f"The class {label!r} cannot be divided by the method {method!r}: its {len(own):,} images "
        f"form {own['group'].nunique():,} group(s), which leaves none for {missing}. Add images of "
        "this class, leave the class out, or change the fractions or the groups."
    )
