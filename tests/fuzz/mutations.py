"""How the fuzzer changes what has a grammar: one value at a time, so that most of what comes out
can still be read.
"""

import copy
import json
import random
import re

_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    7.5,
    1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    2**70,
    -(2**63),
    "",
    "x",
    "y",
    "all",
    "../x",
    "a/b",
    "keep",
    "train",
    "test",
    "label",
    "\0",
    "\ud800",
    "é" * 200,
    [],
    [None],
    [1, 2],
    ["x", "y"],
    [[]],
    {},
    {"a": 1},
    {"": None},
)
_LITERALS = (
    "true",
    "0",
    "-1",
    "3",
    "1e400",
    "nan",
    "inf",
    "99999999999999999999",
    "0x7f",
    "1979-05-27",
    "07:32:00",
    "1j",
    '""',
    '"x"',
    '"../x"',
    "'custom'",
    '"plain"',
    '"\\u0000"',
    '"""\n"""',
    "b'x'",
    "f'x'",
    "_",
    "None",
    "...",
    "1 + 1",
    "[]",
    "[0]",
    "[0, 0]",
    "[true]",
    '["begin"]',
    "[[]]",
    "[None]",
    "(1, 2)",
    "{}",
    "{a = 1}",
    '{"" = 2}',
    "{1: 2}",
)


def json_text(data: bytes, rng: random.Random) -> bytes | None:
    """One node of a JSON text made another, left out, doubled or moved; None where the text is no
    JSON.
    """
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(root, rng)
    return json.dumps(root[0]).encode()


def json_lines(data: bytes, rng: random.Random) -> bytes | None:
    """As `json_text`, in one line of many; or lines left out, doubled or exchanged."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    changed = json_text(lines[place], rng) if rng.random() < 0.8 else rng.choice(lines)
    if changed is None:
        return None
    return b"\n".join(
        [*lines[:place], *([changed] * rng.choice((0, 1, 1, 1, 1, 2))), *lines[place + 1 :]]
    )


def assignments(data: bytes, rng: random.Random) -> bytes | None:
    """One `name = value` of a text given another value or name, or a line left out, doubled or
    moved.
    """
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        name, equals, value = lines[place].partition(b"=")
        if equals and rng.random() < 0.7:
            literal = rng.choice(_LITERALS).encode()
            lines[place] = (
                name
                + b"= "
                + (re.sub(rb"[^#\s][^#]*", lambda _: literal, value, count=1) or literal)  # noqa: B023
            )
        else:
            other = rng.choice(lines)
            lines[place : place + 1] = rng.choice(
                ([], [other], [lines[place], other], [name + b" = 1"])
            )
        lines = lines or [b""]
    return b"\n".join(lines)


def _change(root: list, rng: random.Random) -> None:
    places = list(_places(root))
    holder, key = rng.choice(places)
    act = rng.random()
    if act < 0.6:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    elif act < 0.8:
        other, there = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[there]))
    elif isinstance(holder, dict):
        value = holder.pop(key)
        if act < 0.9:
            holder[str(rng.choice(_VALUES))] = value
    elif holder is not root:
        holder[key : key + 1] = [] if act < 0.9 else [holder[key]] * 2


def _places(node):
    keys = range(len(node)) if isinstance(node, list) else list(node)
    for key in keys:
        yield node, key
        if isinstance(node[key], list | dict):
            yield from _places(node[key])
