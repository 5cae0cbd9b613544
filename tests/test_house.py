"""The direction of imports, and what the rooms may not import at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lib import hashing

HOUSE = Path(hashing.__file__).parent
# Each room imports only from those before it and from itself.
ROOMS = (
    "",
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
    "spread",
    "web",
    "cli",
)
WITHOUT_KERAS = ("", "evaluation", "reporting", "batch", "baselines", "cli")
MODULES = sorted(HOUSE.rglob("*.py"))


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_upwards_only(path):
    own = ROOMS.index(room(name_of(path)))
    found = [
        name for name in hashing.imported(ast.parse(path.read_text())) if hashing.module_file(name)
    ]
    late = [name for name in found if ROOMS.index(room(name)) > own]
    assert not late, f"{name_of(path)} imports {late}, which stand below it"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room(name_of(path)) in WITHOUT_KERAS], ids=name_of
)
def test_rooms_without_keras_never_name_it(path):
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


def test_the_first_rooms_load_no_backend():
    script = (
        "import sys, lib, lib.runs, lib.cli, lib.batch.study, lib.evaluation.comparison, "
        "lib.reporting.report\n"
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
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{path.name}:{node.lineno} asserts"
            if isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") in (
                "Exception",
                "BaseException",
            ):
                assert not isinstance(node.body[0], ast.Pass | ast.Continue), (
                    f"{path.name}:{node.lineno} swallows"
                )
