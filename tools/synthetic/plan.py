"""What is planted where: one entry a file, settled before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import faults
from .kinds import KINDS

WEIGHTS = {"painting": 0.22, "photo": 0.22, "schematic": 0.18, "sketch": 0.2, "text": 0.18}
"""Share of each kind among the drawn pictures: a mild imbalance."""

IN_PLACE: dict[str, float] = {
    "wrong_label": 0.03,
    **dict.fromkeys(faults.LOOKS, 0.005),
    **dict.fromkeys(faults.BYTES, 0.004),
    "wrong_extension": 0.006,
}
"""Faults that befall a drawn picture, and the share of the drawn pictures they befall."""

EXTRA: dict[str, float] = {
    "exact_bytes": 0.012,
    "exact_pixels": 0.008,
    **{f"near_{name}": 0.006 for name in faults.COPIES},
    "two_labels": 0.006,
    **{f"not_an_image_{name}": 0.003 for name in faults.STRANGERS},
}
"""Faults that are a file of their own beside the drawn pictures, and their number as a share of the
drawn pictures.
"""

MINIMUM = 30
"""With faults, so many pictures are the fewest: each fault occurs at least once, and most pictures
are still sound.
"""


@dataclass(frozen=True)
class Entry:
    """One file to come: its true kind, the folder it goes to (`label`), its fault, and the number
    of the file it copies.
    """

    number: int
    kind: str | None
    label: str
    fault: str | None = None
    partner: int | None = None


def settle(num_images: int, *, seed: int, with_faults: bool) -> list[Entry]:
    """Returns the entries in the order of their numbers, which are shuffled so that they betray
    nothing.
    """
    rng = np.random.default_rng([seed, 101])
    names = sorted(KINDS)
    counts = np.floor(np.array([WEIGHTS[name] for name in names]) * num_images).astype(int)
    counts[: num_images - counts.sum()] += 1
    kinds = rng.permutation(np.repeat(names, counts)).tolist()
    entries = [Entry(number, str(kind), str(kind)) for number, kind in enumerate(kinds)]
    if with_faults:
        entries = _befall(entries, rng)
        entries += _beside(entries, rng)
    shuffled = rng.permutation(len(entries)).tolist()
    moved = [
        replace(
            e, number=shuffled[e.number], partner=None if e.partner is None else shuffled[e.partner]
        )
        for e in entries
    ]
    return sorted(moved, key=lambda entry: entry.number)


def _befall(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    order = rng.permutation(len(entries)).tolist()
    spoilt = list(entries)
    for fault, share in IN_PLACE.items():
        for _ in range(max(1, round(share * len(entries)))):
            number = order.pop()
            label = (
                _other(entries[number].label, rng)
                if fault == "wrong_label"
                else entries[number].label
            )
            spoilt[number] = replace(entries[number], fault=fault, label=label)
    return spoilt


def _beside(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    sound = [entry.number for entry in entries if entry.fault is None]
    twofold = [int(number) for number in rng.permutation(sound)]
    extra: list[Entry] = []
    for fault, share in EXTRA.items():
        for _ in range(max(1, round(share * len(entries)))):
            number = len(entries) + len(extra)
            if fault.startswith("not_an_image"):
                extra.append(Entry(number, None, str(rng.choice(sorted(KINDS))), fault))
                continue
            if (
                fault == "two_labels"
            ):  # its partner has no other copy, so that the truth stays simple
                partner = entries[twofold.pop()]
                extra.append(
                    Entry(number, partner.kind, _other(partner.label, rng), fault, partner.number)
                )
                continue
            partner = entries[twofold[int(rng.integers(len(twofold) // 2))]]
            extra.append(Entry(number, partner.kind, partner.label, fault, partner.number))
    return extra


def _other(label: str, rng: np.random.Generator) -> str:
    return str(rng.choice([name for name in sorted(KINDS) if name != label]))
