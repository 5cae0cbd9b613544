"""What a notebook may be told: the names, types, defaults, limits and meanings in its cell tagged
`parameters`.

The cell is the one source. It holds annotated literals, each with a comment that `papermill
--help-notebook` shows too:

    epochs: int = 12  # 1 to 1000: passes over the train split at most
    architecture: str = "custom"  # one of custom, resnet101v2: the network
    dropout: float = 0.2  # at least 0, below 1: share of the units that is dropped
    note: str = ""  # any text for the report

Before the first ": " stands what is allowed: `A to B`, `at least A`, `at most B`, `above A`, `below
B` (two of them joined by a comma), or `one of a, b, c`. Everything else is the meaning. For a list
it holds for each item.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
import re
import sys
import tokenize
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib.errors import DarkroomError, suggest

_TYPES = {"int": int, "float": float, "bool": bool, "str": str}
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}) to ({_NUMBER})")
_CLAUSE = re.compile(rf"(at least|at most|above|below) ({_NUMBER})")
_ALLOWED = re.compile(rf"(?:{_NUMBER}\s|at (?:least|most)\b|above\b|below\b|one of\b)")
_COMPARE = {
    "at least": lambda value, limit: value >= limit,
    "at most": lambda value, limit: value <= limit,
    "above": lambda value, limit: value > limit,
    "below": lambda value, limit: value < limit,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook."""

    name: str
    type: str
    """`int`, `float`, `bool`, `str`, `dict`, or `list[...]` of one of the first four."""
    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    """Such as `(("at least", 1.0), ("at most", 1000.0))`."""

    def check(self, value: Any) -> Any:
        """Returns `value` in the declared type (an int becomes a float where a float is declared).

        Raises DarkroomError for another type, a number out of range, or a word that is not among
        the choices.
        """
        item = _item_type(self.type)
        if item is None:
            return self._one(value, self.type)
        if not isinstance(value, list | tuple):
            raise self._refusal(value)
        return [self._one(each, item) for each in value]

    def parse(self, text: str) -> Any:
        """Returns the value that `text`, typed on a command line, stands for in the declared type."""
        if self.type == "str":
            return self.check(text)
        if self.type == "bool":
            return self.check(_WORDS.get(text.strip().lower(), text))
        if _item_type(self.type) == "str" and not text.lstrip().startswith("["):
            return self.check([each.strip() for each in text.split(",") if each.strip()])
        written = (
            f"[{text}]" if _item_type(self.type) and not text.lstrip().startswith("[") else text
        )
        try:
            value = tomllib.loads(f"value = {written}")["value"]
        except (
            ValueError,
            RecursionError,
        ):  # no TOML, numbers of thousands of digits, lists in lists without end
            raise self._refusal(text) from None
        return self.check(value)

    def allowed(self) -> str:
        """Returns what is allowed in words, such as "1 to 1000" or "one of custom, resnet101v2", or
        "".
        """
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if [word for word, _ in self.limits] == ["at least", "at most"]:
            return f"{self.limits[0][1]:g} to {self.limits[1][1]:g}"
        return ", ".join(f"{word} {limit:g}" for word, limit in self.limits)

    def _one(self, value: Any, kind: str) -> Any:
        if kind == "float" and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        if kind == "dict":
            if not isinstance(value, dict) or not _is_json(value):
                raise self._refusal(value)
            return dict(value)
        if type(value) is not _TYPES[kind] or (kind == "float" and not math.isfinite(value)):
            raise self._refusal(value)
        if self.choices and value not in self.choices:
            near = suggest(str(value), [str(choice) for choice in self.choices])
            raise DarkroomError(
                f"`{self.name}` must be {self.allowed()}. Received: {value!r}.{near}"
            )
        if not all(_COMPARE[word](value, limit) for word, limit in self.limits):
            raise DarkroomError(f"`{self.name}` must be {self.allowed()}. Received: {value!r}.")
        return value

    def _refusal(self, value: Any) -> DarkroomError:
        return DarkroomError(
            f"`{self.name}` must be of type {self.type}, such as {self.default!r}. Received: "
            f"{value!r}."
        )


def declared(source: str, *, where: str) -> dict[str, Parameter]:
    """Returns the parameters that a parameters cell declares, by name, in order; `where` names the
    notebook in errors.

    Raises DarkroomError for a cell that holds anything but annotated literals with readable
    comments.
    """
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except SyntaxError as error:
        raise DarkroomError(
            f"The parameters cell of {where} is not Python: line {error.lineno}, {error.msg}."
        ) from None
    except (
        ValueError,
        RecursionError,
        MemoryError,
        tokenize.TokenError,
    ) as error:  # zero bytes, brackets without end
        raise DarkroomError(f"The parameters cell of {where} is not Python: {error}.") from None
    found: dict[str, Parameter] = {}
    for statement in statements:
        name, kind, default = _assignment(statement, source, where)
        comment = comments.get(statement.end_lineno or 0, "")
        if "=" in comment:
            raise DarkroomError(
                f"The comment of `{name}` in {where} must not hold '=': papermill cannot read it "
                "then."
            )
        allowed, meaning = _split(comment)
        choices, limits = _limits(allowed, kind=_item_type(kind) or kind, name=name, where=where)
        parameter = Parameter(name, kind, default, meaning, choices, limits)
        found[name] = Parameter(name, kind, parameter.check(default), meaning, choices, limits)
    return found


def check(
    values: Mapping[str, Any], parameters: Mapping[str, Parameter], *, where: str
) -> dict[str, Any]:
    """Returns `values` in their declared types. Raises DarkroomError for an unknown name (with a
    suggestion) or value.
    """
    checked = {}
    for name, value in values.items():
        if name not in parameters:
            raise DarkroomError(
                f"{where} has no parameter `{name}`.{suggest(name, list(parameters))} Its "
                f"parameters: {', '.join(parameters)}."
            )
        checked[name] = parameters[name].check(value)
    return checked


def check_all(
    values: Mapping[str, Any], parameters: Mapping[str, Parameter], *, where: str
) -> dict[str, Any]:
    """Returns `values`, as they were written or as text, in their declared types; see `check`."""
    readable = {
        name: _as_declared(value, parameters[name]) if name in parameters else value
        for name, value in values.items()
    }
    return check(readable, parameters, where=where)


def _as_declared(value: Any, parameter: Parameter) -> Any:
    """A value that a command line may have taken for another type, such as 2024 for a name."""
    if isinstance(value, str) and parameter.type != "str":
        return parameter.parse(value)
    if parameter.type == "str" and type(value) in (int, float):
        return str(value)
    return value


def _assignment(statement: ast.stmt, source: str, where: str) -> tuple[str, str, Any]:
    def written(
        node: ast.AST,
    ) -> str:  # as it stands there; ast.unparse is lost in brackets within brackets
        return (ast.get_source_segment(source, node) or "")[:200]

    if (
        not isinstance(statement, ast.AnnAssign)
        or not isinstance(statement.target, ast.Name)
        or statement.value is None
    ):
        raise DarkroomError(
            f"The parameters cell of {where} must hold only lines such as `epochs: int = 12  # 1 "
            "to 1000: meaning`. "
            f"Received: {written(statement)!r}."
        )
    name, kind = statement.target.id, written(statement.annotation)
    if kind not in (*_TYPES, "dict") and _item_type(kind) is None:
        known = ", ".join([*_TYPES, "dict", *(f"list[{item}]" for item in _TYPES)])
        raise DarkroomError(
            f"`{name}` in {where} must have one of the types {known}. Received: {kind}."
        )
    try:
        return name, kind, ast.literal_eval(statement.value)
    except (ValueError, TypeError, RecursionError):  # such as {[]: 1}
        raise DarkroomError(
            f"`{name}` in {where} must be a literal, since papermill replaces only literals. "
            f"Received: {written(statement.value)!r}; compute it in the next cell."
        ) from None


def _item_type(kind: str) -> str | None:
    match = re.fullmatch(r"list\[(\w+)\]", kind)
    return match[1] if match and match[1] in _TYPES else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _split(comment: str) -> tuple[str, str]:
    head, _, meaning = comment.partition(": ")
    return (head.rstrip(":"), meaning.strip()) if _ALLOWED.match(head) else ("", comment)


def _limits(
    allowed: str, *, kind: str, name: str, where: str
) -> tuple[tuple[Any, ...], tuple[tuple[str, float], ...]]:
    if allowed.startswith("one of ") and kind in ("str", "int", "float"):
        with contextlib.suppress(ValueError):  # words where numbers belong are told below
            return tuple(
                _TYPES[kind](word.strip()) for word in allowed.removeprefix("one of ").split(",")
            ), ()
    if (match := _RANGE.fullmatch(allowed)) and kind in ("int", "float"):
        return (), (("at least", float(match[1])), ("at most", float(match[2])))
    matches = (
        [_CLAUSE.fullmatch(clause.strip()) for clause in allowed.split(",")] if allowed else []
    )
    if None in matches or (matches and kind not in ("int", "float")):
        raise DarkroomError(
            f"What is allowed for `{name}` in {where} cannot be read: {allowed!r}. "
            "Write `A to B`, `at least A`, `at most B`, `above A`, `below B` or `one of a, b, c`, "
            "then a colon."
        )
    return (), tuple((match[1], float(match[2])) for match in matches if match)
