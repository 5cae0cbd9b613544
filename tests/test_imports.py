"""The direction of imports, and what packages may not import at all."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from lib import hashing

LIB = Path(hashing.__file__).parent
# Each package imports only from those before it and from itself.
PACKAGES = (
    "",
    "runs",
    "data",
    "models",
    "evaluation",
    "reporting",
    "cleaning",
    "training",
    "batch",
    "tuning",
    "baselines",
    "explain",
    "embeddings",
    "apply",
    "web",
    "cli",
)
WITHOUT_KERAS = ("", "runs", "evaluation", "reporting", "batch", "baselines", "cli")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(LIB.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(LIB.rglob("*.py"))}


def package(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in PACKAGES else ""


def imports(name: str) -> set[str]:
    """The modules that a module imports, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return found & MODULES.keys() - {name}


@pytest.mark.parametrize("name", MODULES)
def test_packages_import_only_those_before_them(name):
    own = PACKAGES.index(package(name))
    late = [other for other in imports(name) if PACKAGES.index(package(other)) > own]
    assert not late, f"{name} imports {late}, which stand below it"


def test_no_import_circles():
    sorter = graphlib.TopologicalSorter({name: imports(name) for name in MODULES})
    sorter.prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("name", [name for name in MODULES if package(name) in WITHOUT_KERAS])
def test_packages_without_keras_never_name_it(name):
    path = MODULES[name]
    trees = ast.walk(ast.parse(path.read_text()))
    names = {alias.name for node in trees if isinstance(node, ast.Import) for alias in node.names}
    trees = ast.walk(ast.parse(path.read_text()))
    names |= {node.module or "" for node in trees if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {
        "keras",
        "tensorflow",
        "jax",
        "torch",
        "keras_tuner",
    }


def test_the_first_packages_load_no_backend():
    script = (
        "import sys, lib, lib.runs, lib.cli, lib.batch.study, lib.evaluation.comparison, "
        "lib.reporting.comparison_page\n"
        "import lib.data.splits, lib.data.pixel_cache\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
        == "[]\n"
    )


def test_the_package_itself_and_the_command_line_load_nothing_heavy():
    script = "import sys, lib, lib.cli; print(sorted({'numpy', 'pandas', 'matplotlib', 'dask'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
        == "[]\n"
    )


def test_no_assert_and_no_swallowed_exception_in_lib():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{path.name}:{node.lineno} asserts"
            if isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") in (
                "Exception",
                "BaseException",
            ):
                assert not isinstance(node.body[0], ast.Pass | ast.Continue), (
                    f"{path.name}:{node.lineno} swallows"
                )
