"""Pages of text: books, papers, tables, letters, lists and screens."""

from __future__ import annotations

import cv2
import numpy as np

from . import lettering
from .canvas import polygon, ring
from .drawing import Box, Drawing
from .palettes import Colour, Style, mix
from .paper import scanned, sheet
from .scenes import scene


def page(rng: np.random.Generator, style: Style, *, width: int, height: int) -> Drawing:
    """Returns a scanned page."""
    dark = rng.random() < 0.12
    ink = mix((28, 26, 30), style.colours[4], 0.4)
    ground = mix(ink, (10, 12, 16), 0.4) if dark else None
    ink = mix(style.colours[7], style.colours[5], 0.25) if dark else ink
    image = sheet(rng, style, width=width, height=height, colour=ground)
    layouts = (_book, _book, _paper, _table, _letter, _poster, _record)
    box = layouts[int(rng.integers(len(layouts)))](image, rng, ink, style)
    return scanned(rng, Drawing(image, box), skew=3.5)


def _book(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    size = width * rng.uniform(0.014, 0.032)
    font = _font(rng)
    top = _title(image, rng, box, ink, font) if rng.random() < 0.5 else box[1]
    _paragraphs(image, rng, (box[0], top, box[2], box[3]), ink, size=size, font=font)
    return box


def _paper(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    font, columns = _font(rng), int(rng.integers(2, 4))
    top = _title(image, rng, box, ink, font)
    gap = width * 0.035
    each = (box[2] - box[0] - gap * (columns - 1)) / columns
    inset = int(rng.integers(-2, columns))
    for column in range(columns):
        left, start = box[0] + column * (each + gap), top
        if column == inset:
            start = _figure(
                image,
                rng,
                (left, top, left + each, top + (box[3] - top) * rng.uniform(0.3, 0.6)),
                style,
                ink,
            )
        _paragraphs(
            image,
            rng,
            (left, start, left + each, box[3]),
            ink,
            size=width * rng.uniform(0.012, 0.018),
            font=font,
        )
    return box


def _table(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    font = _font(rng)
    top = _title(image, rng, box, ink, font)
    rows, columns = int(rng.integers(6, 18)), int(rng.integers(3, 7))
    high, wide = (box[3] - top) / rows, (box[2] - box[0]) / columns
    rules = int(rng.integers(3))
    for row in range(rows + 1):
        y = top + row * high
        if rules == 2 or row in (0, 1, rows):
            cv2.line(
                image, (round(box[0]), round(y)), (round(box[2]), round(y)), ink, 1, cv2.LINE_AA
            )
        for column in range(columns if row < rows else 0):
            word = (
                str(rng.choice(lettering.WORDS))
                if row == 0 or column == 0
                else f"{rng.uniform(0, 100):.{int(rng.integers(3))}f}"
            )
            at = (box[0] + column * wide + wide * 0.1, y + high * 0.68)
            lettering.put(
                image,
                word[: int(wide / high / 0.4) + 2],
                at,
                height=min(high * 0.45, wide * 0.16),
                colour=ink,
                font=font,
            )
    if rules:
        for column in range(columns + 1):
            x = round(box[0] + column * wide)
            cv2.line(image, (x, round(top)), (x, round(box[3])), ink, 1, cv2.LINE_AA)
    return box[0], top, box[2], box[3]


def _letter(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    size = width * rng.uniform(0.026, 0.05)
    blue = mix(ink, (30, 40, 120), rng.uniform(0, 0.8))
    y, lines = box[1] + size, 0
    if rng.random() < 0.4:
        for rule in np.arange(box[1] + size, height, size * 2):
            cv2.line(
                image,
                (0, round(rule)),
                (width, round(rule)),
                mix(blue, (220, 225, 235), 0.75),
                1,
                cv2.LINE_AA,
            )
    while y < box[3]:
        full = rng.random() < 0.85
        lettering.write(
            image,
            rng,
            (box[0], y),
            width=(box[2] - box[0]) * (1 if full else rng.uniform(0.3, 0.8)),
            height=size,
            colour=blue,
        )
        y, lines = y + size * (2 if full else 2.6), lines + 1
    if rng.random() < 0.3:
        _figure(
            image,
            rng,
            (box[0] + (box[2] - box[0]) * 0.5, box[3] - height * 0.25, box[2], box[3]),
            style,
            blue,
        )
    return box


def _poster(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    y, font = box[1], _font(rng)
    accent = mix(style.colours[5], ink, 0.2)
    if rng.random() < 0.4:
        y = _figure(
            image, rng, (box[0], y, box[2], y + height * rng.uniform(0.2, 0.45)), style, ink
        )
    while y < box[3] - height * 0.04:
        size = height * rng.uniform(0.02, 0.085)
        words = lettering.line_to_fill(
            rng, width=(box[2] - box[0]) * rng.uniform(0.5, 1), height=size
        )
        words = words.upper() if rng.random() < 0.5 else words
        lettering.put(
            image,
            words,
            (box[0], y + size),
            height=size,
            colour=accent if rng.random() < 0.3 else ink,
            font=font,
        )
        y += size * rng.uniform(1.5, 2.3)
    return box


def _record(image: np.ndarray, rng: np.random.Generator, ink: Colour, style: Style) -> Box:
    # A catalogue card or form: boxed fields, a stamp, a few lines.
    height, width = image.shape[:2]
    box = _margins(rng, width, height)
    y, font = box[1], _font(rng)
    while y < box[3] - height * 0.1:
        high = height * rng.uniform(0.07, 0.16)
        split = box[0] + (box[2] - box[0]) * rng.uniform(0.25, 0.75)
        for left, right in ((box[0], split), (split, box[2])):
            cv2.rectangle(
                image, (round(left), round(y)), (round(right), round(y + high)), ink, 1, cv2.LINE_AA
            )
            lettering.put(
                image,
                str(rng.choice(lettering.WORDS)),
                (left + 3, y + high * 0.32),
                height=high * 0.2,
                colour=ink,
                font=font,
            )
            if rng.random() < 0.7:
                lettering.write(
                    image,
                    rng,
                    (left + 5, y + high * 0.85),
                    width=(right - left) * 0.8,
                    height=high * 0.3,
                    colour=mix(ink, (30, 40, 120), 0.5),
                )
        y += high
    if rng.random() < 0.5:
        centre, radius = (
            (rng.uniform(0.5, 0.85) * width, rng.uniform(0.5, 0.85) * height),
            width * rng.uniform(0.06, 0.12),
        )
        for scale in (1.0, 0.8):
            points = np.rint(ring(centre, (radius * scale, radius * scale))).astype(np.int32)
            cv2.polylines(
                image, [points], True, style.colours[5], max(1, round(width / 200)), cv2.LINE_AA
            )
    return box


def _margins(rng: np.random.Generator, width: int, height: int) -> Box:
    left, top = width * rng.uniform(0.05, 0.14), height * rng.uniform(0.05, 0.14)
    return left, top, width - left * rng.uniform(0.7, 1.3), height * rng.uniform(0.8, 0.95)


def _font(rng: np.random.Generator) -> int:
    return int(lettering.FONTS[int(rng.integers(len(lettering.FONTS)))])


def _title(image: np.ndarray, rng: np.random.Generator, box: Box, ink: Colour, font: int) -> float:
    size = image.shape[1] * rng.uniform(0.03, 0.06)
    words = lettering.line_to_fill(
        rng, width=(box[2] - box[0]) * rng.uniform(0.4, 0.95), height=size
    ).title()
    lettering.put(image, words, (box[0], box[1] + size), height=size, colour=ink, font=font)
    return box[1] + size * 2.2


def _paragraphs(
    image: np.ndarray, rng: np.random.Generator, box: Box, ink: Colour, *, size: float, font: int
) -> None:
    left, top, right, bottom = box
    size = max(size, 4.5)
    lead, y = size * rng.uniform(1.7, 2.3), top + size
    left_over = int(rng.integers(3, 10))
    while y < bottom:
        left_over -= 1
        share = 1.0 if left_over else rng.uniform(0.2, 0.8)
        words = lettering.line_to_fill(rng, width=(right - left) * share, height=size)
        lettering.put(image, words, (left, y), height=size, colour=ink, font=font)
        y += lead
        if not left_over:
            left_over, y = int(rng.integers(3, 10)), y + lead * rng.choice([0.0, 0.7])


def _figure(
    image: np.ndarray, rng: np.random.Generator, box: Box, style: Style, ink: Colour
) -> float:
    # A picture in the text, grey or in colour; now and then only a diagram's bars.
    left, top, right, bottom = (max(0, round(v)) for v in box)
    target = image[top:bottom, left:right]
    if min(target.shape[:2]) < 12:
        return box[1]
    high, wide = target.shape[:2]
    if rng.random() < 0.6:
        inner = scene(rng, style, width=wide, height=high).image
        if rng.random() < 0.5:
            inner = cv2.cvtColor(cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        target[:] = inner
    else:
        for index, share in enumerate(rng.uniform(0.2, 0.95, 6)):
            x = left + (index + 0.2) * wide / 6
            polygon(
                image,
                np.array(
                    [
                        [x, bottom],
                        [x, bottom - share * high],
                        [x + wide / 10, bottom - share * high],
                        [x + wide / 10, bottom],
                    ]
                ),
                ink,
            )
        cv2.rectangle(image, (left, top), (right, bottom), ink, 1)
    return bottom + image.shape[1] * 0.03
