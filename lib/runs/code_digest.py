"""Digest of the code that decides a run's numbers, so that no other change repeats a finished run.

From the entry points of a stage (`ENTRY_POINTS`) and the cells of its notebook, the functions,
classes and constants that they reach are followed through the packages of `RESULT_BEARING`. Their
code counts, without comments, docstrings, annotations, error messages, printed lines and other
texts of three words or more. Of a table in capitals (`POLICIES`, `BACKBONES`, `PRESETS`) only the
rows count that a parameter or the reached code names: another row repeats nothing, a changed row
repeats the runs that use it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib import hashing, paths

_SHARED = ("data", "models", "evaluation")
RESULT_BEARING = {
    "clean": ("data", "models", "cleaning"),
    "explore": ("data",),
    "train": (*_SHARED, "training"),
    "tune": (*_SHARED, "training", "tuning"),
    "thumbnails": (*_SHARED, "baselines"),
    "compare": ("evaluation",),
    "explain": (*_SHARED, "explain"),
    "features": (*_SHARED, "embeddings"),
    "apply": (*_SHARED, "apply"),
}
"""The packages whose code decides the numbers of a stage; a stage of the user's own takes all of
them. The other packages draw, report, run and serve. What cleaning decided reaches the later stages
by the digest of the data.
"""
PRESENTATION = (
    "lib.data.thumbnails",
    "lib.evaluation.checks",
    "lib.evaluation.outcomes",
    "lib.evaluation.test_set_log",
    "lib.cleaning.leaks",
    "lib.cleaning.plots",
    "lib.cleaning.findings_page",
    "lib.cleaning.findings:DESCRIPTIONS",
    "lib.cleaning.command",
    "lib.training.plots",
    "lib.training.learning_rate_finder:drawing",
    "lib.training.callbacks:DrawCurves",
    "lib.training.finalise:sentence",
    "lib.evaluation.metrics:by_class",
    "lib.training.session:TrainedRun",
    "lib.tuning.plots",
    "lib.tuning.cost_estimate",
    "lib.baselines.plots",
    "lib.baselines.finalise:sentence",
    "lib.baselines.search:verdict",
    "lib.explain.plots",
    "lib.explain.report:sentence",
    "lib.embeddings.plots",
    "lib.apply.report",
    "lib.apply.command",
    "lib.apply.active_learning",
)
"""Modules of those packages, or `module:name` of them, that decide no number."""
ENTRY_POINTS = {
    "clean": ("lib.cleaning.clean:clean", "lib.data.sources:rows"),
    "train": ("lib.training.session:Session",),
    "tune": (
        "lib.tuning.objective:objective",
        "lib.tuning.search:run",
        "lib.tuning.retraining:run",
    ),
    "thumbnails": ("lib.baselines.search:run", "lib.baselines.finalise:finish"),
    "compare": ("lib.evaluation.comparison:comparison",),
    "explain": ("lib.explain.report:Explainer", "lib.explain.report:load_run"),
    "features": ("lib.embeddings.feature_spaces:features", "lib.embeddings.probes:probe_table"),
    "apply": ("lib.apply.folder:apply", "lib.apply.classifier:load"),
}
"""Entry points of a stage's numbers, `module:name`, besides the calls in its notebook."""

_SILENT = ("print", "warn", "progress")
_ROW_ACCESS = ("[]", "in", "get", "keys")
_MESSAGE_WORDS = 3
_IN = ast.In | ast.NotIn
_OF_KEYS = ("list", "tuple", "sorted", "join", "check_choice")


@dataclass(frozen=True)
class _Symbol:
    """A function, class or constant of a module: the digest of its code, the dotted names and the
    texts in it.
    """

    digest: str
    names: frozenset[tuple[str, ...]]
    texts: frozenset[str]
    rows: dict[str, _Symbol] | None = None
    """The rows of a table by key, or the words of a tuple."""


class _Module:
    """A module's definitions by name, analysed when they are reached.

    `imports` has the dotted names that a name may stand for, `statements` what runs at import
    besides definitions.
    """

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        self.imports: dict[str, tuple[str, ...]] = {}
        for statement in _statements(tree.body):
            for name, target in _imported(statement):
                self.imports[name] = tuple(dict.fromkeys((*self.imports.get(name, ()), target)))
        self.defined: dict[str, ast.stmt] = {}
        rest: list[ast.stmt] = []
        for statement in tree.body:
            names = _defined(statement)
            self.defined |= dict.fromkeys(names, statement)
            if not names and not isinstance(statement, ast.Import | ast.ImportFrom):
                rest.append(statement)
        self.statements = _symbol(ast.Module(rest, []))
        self._symbols: dict[ast.stmt, _Symbol] = {}

    def symbol(self, name: str) -> _Symbol:
        statement = self.defined[name]
        if statement not in self._symbols:
            self._symbols[statement] = _symbol(statement)
        return self._symbols[statement]


def digest(stage: str, cells: Iterable[str], values: object, *, root: Path | None = None) -> str:
    """Returns the digest of the code that decides the numbers of a run.

    Args:
        stage: the stage of the run, such as `train`.
        cells: the sources of the notebook's code cells, without the parameters.
        values: the parameters, whose words choose the rows of tables.
        root: the folder that contains `lib`; by default this checkout.
    """
    walk = _Walk(root or paths.checkout(), stage, set(_words(values)))
    notebook = _analysed("\n".join(cells))
    for symbol in (*map(notebook.symbol, notebook.defined), notebook.statements):
        walk.follow(notebook, symbol.names)
    for entry in ENTRY_POINTS.get(stage, ()):
        module, _, name = entry.partition(":")
        walk.add(module, name, ())
    return walk.digest()


class _Walk:
    """Collects the code that is reached; `texts` are the words that choose rows of tables."""

    def __init__(self, root: Path, stage: str, texts: set[str]) -> None:
        self._stage, self._texts = stage, texts
        self._parts: dict[tuple[str, str], str] = {}
        self._tables: dict[tuple[str, str], _Module] = {}
        self._file = functools.cache(functools.partial(hashing.module_file, root=root))

    def digest(self) -> str:
        while self._add_rows():
            pass
        return hashing.digest(
            *(text for key in sorted(self._parts) for text in (*key, self._parts[key]))
        )

    def follow(self, module: _Module, chains: Iterable[tuple[str, ...]]) -> None:
        for chain in chains:
            for target in module.imports.get(chain[0], ()):
                self._add_dotted(f"{target}.{'.'.join(chain[1:])}".rstrip("."))

    def add(self, module_name: str, name: str, rest: tuple[str, ...]) -> None:
        """Adds a symbol of a module, with all that it reaches."""
        file = self._file(module_name)
        if file is None or not self._counts(module_name, name):
            return
        module = _module(file, file.stat().st_mtime_ns)
        if name not in module.defined:
            self.follow(module, [(name, *rest)])
            return
        symbol = module.symbol(name)
        self._take(module_name, module, "", module.statements)
        if symbol.rows is not None and rest[:1] and rest[0] in _ROW_ACCESS:
            self._tables[module_name, name] = module
        else:
            self._take(module_name, module, name, symbol)

    def _take(self, module_name: str, module: _Module, name: str, symbol: _Symbol) -> None:
        if (module_name, name) in self._parts:
            return
        self._parts[module_name, name] = symbol.digest
        self._texts |= symbol.texts
        for chain in symbol.names:
            if chain[0] in module.defined:
                self.add(module_name, chain[0], chain[1:])
        self.follow(module, symbol.names)

    def _add_dotted(self, dotted: str) -> None:
        parts = dotted.split(".")
        if parts[0] != "lib":
            return
        for end in range(len(parts), 0, -1):
            name = ".".join(parts[:end])
            file = self._file(name)
            if file is None:
                continue
            if end < len(parts):
                self.add(name, parts[end], tuple(parts[end + 1 :]))
            else:  # the module itself is handed on: all of it counts
                for symbol in _module(file, file.stat().st_mtime_ns).defined:
                    self.add(name, symbol, ())
            return

    def _counts(self, module: str, name: str) -> bool:
        packages = RESULT_BEARING.get(
            self._stage, tuple({name for names in RESULT_BEARING.values() for name in names})
        )
        if f"{module}.".split(".")[1] not in (*packages, ""):
            return False
        is_intake = module.startswith(("lib.data.sources", "lib.data.intake"))
        if is_intake and self._stage in RESULT_BEARING and self._stage != "clean":
            return False  # what they read is in the digest of the data
        return not any(place in (module, f"{module}:{name}") for place in PRESENTATION)

    def _add_rows(self) -> bool:
        before = len(self._parts)
        for (module_name, table), module in list(self._tables.items()):
            for key, row in module.symbol(table).rows.items():
                if key in self._texts:
                    self._take(module_name, module, f"{table}[{key}]", row)
        return len(self._parts) > before


@functools.lru_cache(maxsize=2048)
def _module(file: Path, changed_ns: int) -> _Module:
    return _analysed(file.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=256)
def _analysed(source: str) -> _Module:
    return _Module(source)


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        names = [
            node.id
            for target in statement.targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name)
        ]
        return (
            names
            if all(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
            else []
        )
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _statements(body: list[ast.AST]) -> Iterator[ast.AST]:
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(statement, part, None)
            yield from _statements(inner) if isinstance(inner, list) else ()


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield from (
            (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
        )


def _symbol(node: ast.AST) -> _Symbol:
    annotated = [
        part for parent in ast.walk(node) for part in _annotations(parent)
    ]  # classes whose methods are called
    node = _Essence().visit(node)
    texts = {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    names = {chain for part in (node, *annotated) for chain in _names(part)}
    return _Symbol(hashing.digest(ast.dump(node)), frozenset(names), frozenset(texts), _rows(node))


def _annotations(node: ast.AST) -> list[ast.AST]:
    return [
        part
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
    ]


def _rows(node: ast.AST) -> dict[str, _Symbol] | None:
    """The rows of a table, or the words of a tuple, in capitals; None for anything else."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not all(isinstance(target, ast.Name) and target.id.isupper() for target in targets):
        return None
    value = node.value
    if isinstance(value, ast.Dict):
        keys, rows = value.keys, value.values
    elif isinstance(value, ast.Tuple | ast.List | ast.Set):
        keys = rows = value.elts
    else:
        return None
    if not all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in keys):
        return None
    return {key.value: _symbol(row) for key, row in zip(keys, rows, strict=True)}


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yields the dotted names in a piece of code; a last part such as "[]" or "in" says that only
    rows of it are used.
    """
    if chain := _chain(node):
        yield chain
        return
    if isinstance(node, ast.Subscript) and (chain := _chain(node.value)):
        yield (*chain, "[]")
        yield from _names(node.slice)
        return
    for part, by_row in _parts(node):
        chain = _chain(part)
        if chain and by_row:
            yield (*chain, "in")
        else:
            yield from _names(part)


def _parts(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Yields the parts of a node, and whether a table there is only asked for its keys."""
    if isinstance(node, ast.Compare):
        yield node.left, False
        for operator, value in zip(node.ops, node.comparators, strict=True):
            for part in getattr(value, "elts", [value]):  # x in (None, *CHOICES)
                yield (
                    getattr(part, "value", part) if isinstance(part, ast.Starred) else part,
                    isinstance(operator, _IN),
                )
    elif (
        isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in _OF_KEYS
    ):
        yield node.func, False
        yield from ((part, True) for part in node.args)
        yield from ((part.value, False) for part in node.keywords)
    else:
        yield from ((part, False) for part in ast.iter_child_nodes(node))


def _chain(node: ast.AST) -> tuple[str, ...]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


class _Essence(ast.NodeTransformer):
    """Leaves out docstrings, annotations, error messages, printed lines, and texts of three words
    or more.
    """

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for part in ("body", "orelse", "finalbody"):
            block = getattr(node, part, None)
            if isinstance(block, list):
                setattr(node, part, _shortened(block) or ([ast.Pass()] if part == "body" else []))
        for part in ("annotation", "returns", "type_comment"):
            if getattr(node, part, None) is not None:
                setattr(node, part, ast.Constant(None) if isinstance(node, ast.AnnAssign) else None)
        return super().generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:  # noqa: N802
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        is_class = isinstance(kind, ast.Name) and kind.id[:1].isupper()
        return ast.Raise(exc=kind if is_class else None, cause=None)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:  # noqa: N802
        written = " ".join(part.value for part in node.values if isinstance(part, ast.Constant))
        return ast.Constant("...") if _is_message(written) else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:  # noqa: N802
        return (
            ast.Constant("...") if isinstance(node.value, str) and _is_message(node.value) else node
        )


def _is_message(text: str) -> bool:
    return len(text.split()) >= _MESSAGE_WORDS and "\\" not in text


def _shortened(block: list[ast.stmt]) -> list[ast.stmt]:
    kept = [statement for statement in block if not _is_silent(statement)]
    leaves = (ast.Return, ast.Yield, ast.YieldFrom, ast.Break, ast.Continue)
    before = [part for statement in kept[:-1] for part in ast.walk(statement)]
    if (
        kept
        and isinstance(kept[-1], ast.Raise)
        and not any(isinstance(part, leaves) for part in before)
    ):
        return kept[-1:]  # what comes before only prepares the message
    return kept


def _is_silent(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Constant):
        return True
    name = (
        getattr(value.func, "id", getattr(value.func, "attr", ""))
        if isinstance(value, ast.Call)
        else ""
    )
    return name in _SILENT


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (word for pair in value.items() for part in pair for word in _words(part))
    elif isinstance(value, list | tuple):
        yield from (word for part in value for word in _words(part))
