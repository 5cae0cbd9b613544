"""Parameters of notebooks: types, ranges, choices, and what is refused.

`lib.parameter_table` declares those of the suite. A notebook of your own declares them in its cell
tagged `parameters`, as literals with types, each with a comment that `papermill --help-notebook`
shows too:

    epochs: int = 12  # 1 to 1000: passes over the train split at most
    architecture: str = "custom"  # one of custom, resnet101v2: the network
    note: str = ""  # any text for the report

The allowed values are before the first ": ": `A to B`, `at least A`, `at most B`, `above A`, `below
B` (two of them joined by a comma), or `one of a, b, c`. Everything else is the meaning. For a list
it holds for each item.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import math
import operator
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib.errors import DarkroomError, few, suggest, visible

_TYPES = {"int": int, "float": float, "bool": bool, "str": str}
SPOKEN = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "names with values",
}
"""What messages call a type."""
_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}) to ({_NUMBER})")
_CLAUSE = re.compile(rf"(at least|at most|above|below) ({_NUMBER})")
_ALLOWED = re.compile(rf"(?:{_NUMBER}\s|at (?:least|most)\b|above\b|below\b|one of\b)")
_TRIMMED = re.compile(r"(\S(.*\S)?)?")
_OPTIONAL = " | None"
_COMPARE = {
    "at least": operator.ge,
    "at most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook."""

    name: str
    type: str
    """`int`, `float`, `bool`, `str`, `dict`, or `list[...]` of one of the first four; with ` |
    None` where it may be left open.
    """
    default: Any
    help: str = ""
    allows: str = ""
    """Allowed values, as in a comment: "1 to 1000", "above 0, at most 1"; choices are in `options`.
    """
    options: tuple[Any, ...] = ()
    """The choices. `"lib.models.backbones:BACKBONES"` means the keys of that table."""
    when: tuple[str, tuple[Any, ...]] | None = None
    """Another parameter and the values of it beside which this one acts; None where it always does.
    """
    group: str = ""
    in_cell: bool = True
    """False for what is set through `options` of the notebook's parameters cell."""
    is_path: bool = False
    """Whether a value may be the path of a file or folder, whose content then belongs to the key of
    a run.
    """
    was: str = ""
    """The name that it had before, which runs on disk still have."""
    in_key: bool = True
    """False for what decides no number, so that another value repeats no finished run."""
    pattern: str = ""
    """A regular expression that a text must match, or may match where there are choices; `help`
    says in words what it allows.
    """
    not_empty: bool = False
    """Whether a text needs a character, or a list an item."""
    is_trimmed: bool = False
    """Whether a text may neither begin or end with a space nor hold control characters."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that are allowed; empty where they are not listed."""
        return tuple(choice for option in self.options for choice in _expanded(option))

    @property
    def limits(self) -> tuple[tuple[str, float], ...]:
        """Such as `(("at least", 1.0), ("at most", 1000.0))`."""
        if match := _RANGE.fullmatch(self.allows):
            return ("at least", float(match[1])), ("at most", float(match[2]))
        clauses = [_CLAUSE.fullmatch(clause.strip()) for clause in self.allows.split(",")]
        return tuple((clause[1], float(clause[2])) for clause in clauses if clause)

    @property
    def kind(self) -> str:
        """The type without ` | None`."""
        return self.type.removesuffix(_OPTIONAL)

    def check(self, value: Any) -> Any:
        """Returns `value` in the declared type (an int becomes a float where a float is declared).

        Raises:
            DarkroomError: for another type, a number out of range, or a word that is not among the
                choices.
        """
        if value is None and self.type.endswith(_OPTIONAL):
            return None
        item = _item_type(self.kind)
        if self.not_empty and isinstance(value, str | list | tuple) and not value:
            raise DarkroomError(f"`{self.name}` is empty. Give {self.help}.")
        if item is None:
            return self._one(value, self.kind)
        if not isinstance(value, list | tuple):
            raise self._refusal(value)
        return [self._one(part, item) for part in value]

    def parse(self, text: str) -> Any:
        """Returns the value that a text, such as one typed on a command line, stands for in the
        declared type.
        """
        item = _item_type(self.kind)
        if self.type.endswith(_OPTIONAL) and text.strip() == "None":
            return None
        if self.kind == "str":
            return self.check(text)
        if self.kind == "bool":
            return self.check(_WORDS.get(text.strip().lower(), text))
        if item == "str" and not text.lstrip().startswith("["):
            return self.check([word.strip() for word in text.split(",") if word.strip()])
        written = f"[{text}]" if item and not text.lstrip().startswith("[") else text
        try:
            value = tomllib.loads(f"value = {written}")["value"]
        # No TOML, numbers of thousands of digits, lists in lists without end.
        except (ValueError, RecursionError):
            value = _literal(text)
        return self.check(text if value is None else value)

    def allowed(self) -> str:
        """Returns what is allowed in words, such as "1 to 1000" or "one of custom, resnet101v2", or
        "".
        """
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return self.allows

    def _one(self, value: Any, kind: str) -> Any:
        if kind == "float" and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        if kind == "dict":
            if not isinstance(value, dict) or not _is_json(value):
                raise self._refusal(value)
            return dict(value)
        if type(value) is not _TYPES[kind] or (kind == "float" and not math.isfinite(value)):
            raise self._refusal(value)
        is_plain = kind != "str" or (_TRIMMED.fullmatch(value) and visible(value) == value)
        if self.is_trimmed and not is_plain:
            raise DarkroomError(
                f"`{self.name}` must not begin or end with a space, nor hold control characters. "
                f"Received: {value!r}."
            )
        choices, near = self.choices, ""
        allowed = self.help if self.pattern else self.allowed()
        if choices:
            names = [str(choice) for choice in choices]
            allowed = f"one of {few(names, 12)}" + (f" ({self.help})" if self.pattern else "")
            near = suggest(str(value), names)
        is_good = all(_COMPARE[word](value, limit) for word, limit in self.limits)
        if choices or self.pattern:
            is_good &= value in choices or bool(
                self.pattern and re.fullmatch(self.pattern, str(value))
            )
        if not is_good:
            raise DarkroomError(
                f"`{self.name}` must be {allowed}{self._open}. Received: {value!r}.{near}"
            )
        return value

    @property
    def _open(self) -> str:
        return ", or None" if self.type.endswith(_OPTIONAL) else ""

    def _refusal(self, value: Any) -> DarkroomError:
        item, example = _item_type(self.kind), ""
        if self.default not in (None, "", [], {}):
            example = f", such as {self.default!r}"
        kind = f"a list, each {SPOKEN[item]}" if item else SPOKEN[self.kind]
        return DarkroomError(
            f"`{self.name}` must be {kind}{self._open}{example}. Received: {value!r}."
        )


def check(
    values: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    *,
    where: str,
    text: bool = False,
) -> dict[str, Any]:
    """Returns `values` in their declared types.

    Args:
        values: some of the parameters; those of `options` by their names or within `options`.
        parameters: all that there are, by name.
        where: what the error names, such as "3_train" or "arm 'a' of stage 'train'".
        text: whether a string stands for a value of another type, as on a command line: "false" for
            False.

    Raises:
        DarkroomError: for an unknown name, with a suggestion, or a wrong value.
    """
    checked: dict[str, Any] = {}
    for name, value in _flat(values, parameters, where=where, text=text):
        if name not in parameters:
            raise _unknown(name, parameters, where)
        if name in checked:
            raise DarkroomError(
                f"{where} sets `{name}` twice, by itself and in `options`. Set it once."
            )
        parameter = parameters[name]
        if text and parameter.kind == "str" and type(value) in (int, float):
            value = str(value)  # papermill reads 2024 as a number
        as_text = isinstance(value, str) and (
            text or (value == "None" and parameter.type.endswith(_OPTIONAL))
        )
        checked[name] = parameter.parse(value) if as_text else parameter.check(value)
    return checked


def has_options(parameters: Mapping[str, Parameter]) -> bool:
    """Returns whether a notebook takes some of its parameters through `options`."""
    return any(not parameter.in_cell for parameter in parameters.values())


def cell_values(values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Returns flat values as the parameters cell takes them: those without a line of their own go
    into `options`.

    Options at their defaults are left out.
    """
    own = {name: value for name, value in values.items() if parameters[name].in_cell}
    if has_options(parameters):
        own["options"] = {
            name: value
            for name, value in values.items()
            if name not in own and value != parameters[name].default
        }
    return own


def is_active(name: str, values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> bool:
    """Returns whether a parameter acts beside the others; a choice that is not among the values
    does not count.
    """
    choice, allowed = (parameters[name].when if name in parameters else None) or ("", ())
    return choice not in values or values[choice] in allowed


def check_conditions(values: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> None:
    """Raises DarkroomError for a value that differs from its default and has no effect beside the
    others.
    """
    for name, value in values.items():
        parameter = parameters.get(name)
        if parameter is None or value == parameter.default or is_active(name, values, parameters):
            continue
        choice, allowed = parameter.when
        raise DarkroomError(
            f"`{name}` acts only with {choice} = {' or '.join(map(repr, allowed))}. Received: "
            f"{name} = {value!r} with {choice} = {values[choice]!r}. Leave it at "
            f"{parameter.default!r}, or change {choice}."
        )


def declared(source: str, *, where: str) -> dict[str, Parameter]:
    """Returns the parameters that a parameters cell declares, by name, in order; `where` names the
    notebook in errors.

    Raises:
        DarkroomError: for a cell that holds anything but annotated literals with readable comments.
    """
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except SyntaxError as error:
        why = f"line {error.lineno}, {error.msg}"
        raise DarkroomError(f"The parameters cell of {where} is not Python: {why}.") from None
    # Zero bytes, brackets without end.
    except (ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise DarkroomError(f"The parameters cell of {where} is not Python: {error}.") from None
    rows: dict[str, Parameter] = {}
    for statement in statements:
        name, kind, default = _assignment(statement, source, where)
        if default is None:  # `epochs: int = None`, since papermill reads no `int | None`
            kind = kind.removesuffix(_OPTIONAL) + _OPTIONAL
        comment = comments.get(statement.end_lineno or 0, "")
        if "=" in comment:
            raise DarkroomError(
                f"The comment of `{name}` in {where} must not hold '=': papermill cannot read it "
                "then."
            )
        allowed, meaning = _split(comment)
        options = _options(allowed, kind=_item_type(kind) or kind, name=name, where=where)
        row = Parameter(name, kind, default, meaning, "" if options else allowed, options)
        rows[name] = replace(row, default=row.check(default))
    return rows


def assigned(source: str) -> dict[str, Any]:
    """Returns the names and values of a cell that holds nothing but literals under names; {} for
    any other cell.
    """
    values = {}
    try:
        for node in ast.parse(source).body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            values |= {target.id: ast.literal_eval(node.value) for target in targets}
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        return {}
    return values


def _flat(
    values: Mapping[str, Any], parameters: Mapping[str, Parameter], *, where: str, text: bool
) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name != "options" or name in parameters or not has_options(parameters):
            yield name, value
            continue
        table = Parameter("options", "dict", {})
        given = table.parse(value) if text and isinstance(value, str) else table.check(value)
        for inner in given:
            if inner in parameters and parameters[inner].in_cell:
                raise DarkroomError(
                    f"`{inner}` is a parameter of {where} itself. Set it there, not in `options`."
                )
        yield from given.items()


def _unknown(name: str, parameters: Mapping[str, Parameter], where: str) -> DarkroomError:
    today = next((row.name for row in parameters.values() if row.was == name), None)
    if today:
        return DarkroomError(f"The parameter `{name}` of {where} is called `{today}` now.")
    near = suggest(name, list(parameters)) or f" It has: {few(list(parameters), 8)}."
    return DarkroomError(f"{where} has no parameter `{name}`.{near}")


@functools.cache
def _expanded(option: Any) -> tuple[Any, ...]:
    """The keys of the table that an option refers to, read from its source, so that no check loads
    Keras; else the option.
    """
    module, colon, table = str(option).partition(":")
    if not module.startswith("lib.") or not colon:
        return (option,)
    stem = Path(__file__).resolve().parent.parent.joinpath(*module.split("."))
    file = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if table in [getattr(target, "id", "") for target in targets]:
            keys = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts
            return tuple(ast.literal_eval(key) for key in keys)
    raise LookupError(f"There is no table {table} in {module}.")


def _assignment(statement: ast.stmt, source: str, where: str) -> tuple[str, str, Any]:
    def written(node: ast.AST) -> str:
        # As it stands there: ast.unparse is lost in brackets within brackets.
        return (ast.get_source_segment(source, node) or "")[:200]

    is_row = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    if not is_row or statement.value is None:
        raise DarkroomError(
            f"The parameters cell of {where} must hold only lines such as `epochs: int = 12  # 1 "
            f"to 1000: meaning`. Received: {written(statement)!r}."
        )
    name, kind = statement.target.id, written(statement.annotation)
    plain = kind.removesuffix(_OPTIONAL)
    if plain not in (*_TYPES, "dict") and _item_type(plain) is None:
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


def _literal(text: str) -> Any:
    with contextlib.suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return ast.literal_eval(text)
    return None


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


def _options(allowed: str, *, kind: str, name: str, where: str) -> tuple[Any, ...]:
    """The choices of a comment; what it allows otherwise must be readable as limits of a number."""
    if allowed.startswith("one of ") and kind in ("str", "int", "float"):
        with contextlib.suppress(ValueError):  # words instead of numbers are refused below
            return tuple(
                _TYPES[kind](word.strip()) for word in allowed.removeprefix("one of ").split(",")
            )
    clauses = [clause.strip() for clause in allowed.split(",")] if allowed else []
    readable = _RANGE.fullmatch(allowed) or all(_CLAUSE.fullmatch(clause) for clause in clauses)
    if not readable or (clauses and kind not in ("int", "float")):
        raise DarkroomError(
            f"What is allowed for `{name}` in {where} cannot be read: {allowed!r}. Write `A to B`, "
            "`at least A`, `at most B`, `above A`, `below B` or `one of a, b, c`, then a colon."
        )
    return ()
