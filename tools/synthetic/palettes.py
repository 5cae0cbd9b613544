"""Colours, hands and years: what the drawn pictures have in common beyond their kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

PALETTES: dict[str, tuple[str, ...]] = {
    # sky above, sky below, far, middle, near, accent, second accent, light
    "dawn": (
        "#5b6c9d",
        "#f3c5a5",
        "#8d86a8",
        "#6a6b83",
        "#3b4457",
        "#e2725b",
        "#f2b880",
        "#fff0d0",
    ),
    "noon": (
        "#3f8fd2",
        "#cfe8f5",
        "#7fa8b8",
        "#6d9a4e",
        "#3d6b35",
        "#d94f30",
        "#f4c430",
        "#fffbe8",
    ),
    "dusk": (
        "#2b2d5b",
        "#e07a5f",
        "#6d4c73",
        "#4a3556",
        "#241f33",
        "#f2a541",
        "#c8553d",
        "#ffd9a0",
    ),
    "night": (
        "#0b1230",
        "#27406e",
        "#1d2b53",
        "#141d3a",
        "#0a0f20",
        "#f2d16b",
        "#7fb7d6",
        "#f6f1d5",
    ),
    "autumn": (
        "#a9b8c0",
        "#f0e2c6",
        "#b08a5b",
        "#b5612c",
        "#5c3a21",
        "#c8321f",
        "#e3a02f",
        "#fff3d6",
    ),
    "winter": (
        "#9fb4c7",
        "#eef2f5",
        "#b8c6d2",
        "#dbe3ea",
        "#7d8fa0",
        "#a03c3c",
        "#35506b",
        "#ffffff",
    ),
    "coast": (
        "#6db3d1",
        "#f1efe2",
        "#6f97a8",
        "#2f7f93",
        "#c9b38a",
        "#e8613c",
        "#f0f4f4",
        "#fffdf0",
    ),
    "desert": (
        "#76a5c4",
        "#f6ddb8",
        "#c78f6b",
        "#d3a05f",
        "#8a5a3c",
        "#9e3d2b",
        "#47706b",
        "#fff2d2",
    ),
    "forest": (
        "#a7c4b5",
        "#e9efd9",
        "#6c8f7d",
        "#3f6b4f",
        "#1f3d2e",
        "#c65f3a",
        "#dcc66a",
        "#f7fbe4",
    ),
    "grey": (
        "#8f9599",
        "#d9dbdb",
        "#a0a4a6",
        "#6e7275",
        "#35383a",
        "#1f2224",
        "#b9b2a6",
        "#f7f7f4",
    ),
    "rose": (
        "#c9a5b5",
        "#f7e3df",
        "#a4829a",
        "#8a5a78",
        "#4a2f45",
        "#d1495b",
        "#edae49",
        "#fff4ef",
    ),
    "fresco": (
        "#7a9e9f",
        "#eadbc0",
        "#b0a084",
        "#9c6b4e",
        "#5a4636",
        "#b23a2e",
        "#2f5d73",
        "#fbf1dc",
    ),
}
"""Eight colours a palette, as sky above, sky below, far, middle, near, two accents and light."""


@dataclass(frozen=True)
class Hand:
    """One who draws, paints and photographs; what is peculiar to him shows in every kind of
    picture.
    """

    palettes: tuple[str, ...]  # his favourites, chosen in three pictures of four
    years: tuple[int, int]  # first and last year of work
    weight: float  # how thick his lines and strokes are, 1 is usual
    shake: float  # how much his line trembles, 1 is usual
    angle: float  # degrees, the direction of his strokes and hatching
    warmth: int  # added to red and taken from blue, in grey levels


HANDS: dict[str, Hand] = {
    "Amaro": Hand(("dusk", "autumn", "fresco"), (1890, 1932), 1.45, 1.3, 40.0, 9),
    "Bellis": Hand(("noon", "coast", "forest"), (1925, 1968), 0.8, 0.6, 5.0, -3),
    "Corvin": Hand(("night", "winter", "grey"), (1948, 1989), 1.1, 0.8, -50.0, -8),
    "Delia": Hand(("rose", "dawn", "coast"), (1961, 2004), 0.7, 1.6, 70.0, 4),
    "Esko": Hand(("desert", "fresco", "noon"), (1978, 2021), 1.25, 1.0, -20.0, 2),
}
"""The hands by name. Their style and favourite palettes correlate, so that the name can be learnt,
with effort.
"""


@dataclass(frozen=True)
class Style:
    """What one picture owes to hand, year and palette. `colours` are eight RGB triples."""

    artist: str
    hand: Hand
    year: int
    palette: str
    colours: tuple[Colour, ...]


def choose(rng: np.random.Generator) -> Style:
    """Returns a style: a hand, a year of his working life, and most often one of his palettes."""
    artist = str(rng.choice(sorted(HANDS)))
    hand = HANDS[artist]
    favoured = rng.random() < 0.75
    palette = str(rng.choice(hand.palettes if favoured else sorted(PALETTES)))
    year = int(rng.integers(hand.years[0], hand.years[1] + 1))
    drift = rng.integers(-14, 15, (8, 3)) + rng.integers(-10, 11, (1, 3))
    colours = np.clip([parse(code) for code in PALETTES[palette]] + drift, 0, 255)  # (8, 3)
    return Style(
        artist, hand, year, palette, tuple(tuple(int(v) for v in colour) for colour in colours)
    )


def parse(code: str) -> Colour:
    """Returns the RGB triple of a code such as `#5b6c9d`."""
    red, green, blue = bytes.fromhex(code.removeprefix("#"))
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Returns the colour that lies `share` (0 to 1) of the way from the first to the second."""
    return tuple(int(round(a + (b - a) * share)) for a, b in zip(first, second, strict=True))
