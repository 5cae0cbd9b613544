"""The command line `darkroom`. Commands import what they need when they run.

Exit codes: 0 done; 1 a run failed or was stopped; 2 the request was wrong, said in one sentence.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from lib.cli import data, models, project, studies
from lib.errors import DarkroomError, suggest, visible

FIRST_STEPS = """Three things to do first:
  darkroom run quickstart              clean, train and compare on real pictures
  darkroom lab                         open the notebooks; begin with 0_tutorial
  darkroom clean path/to/your/folder   see what is wrong with your own pictures
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0


def _run(words: list[str]) -> int:
    parser, commands = _parser()
    if not words:
        parser.print_help()
        print(f"\n{FIRST_STEPS}", end="")
        return 0
    if words == ["--version"]:
        print(f"darkroom {version()}")
        return 0
    if not words[0].startswith("-") and words[0] not in commands:
        near = suggest(words[0], list(commands))
        print(
            f"darkroom: there is no command {words[0]!r}.{near} `darkroom` alone lists them all.",
            file=sys.stderr,
        )
        return 2
    arguments, rest = parser.parse_known_args(words)
    if "rest" in arguments:
        arguments.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return _call(arguments)


def _call(arguments: argparse.Namespace) -> int:
    try:
        return arguments.command(arguments)
    except DarkroomError as error:
        return _refused(visible(str(error)), arguments)
    except KeyboardInterrupt:
        print("darkroom: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in ("ENOSPC", "EROFS", "EACCES", "EDQUOT"):
            return _unexpected(error)
        print(f"darkroom: {error.strerror}: {error.filename or 'the disk'}", file=sys.stderr)
        return 1
    except Exception as error:
        return _unexpected(error)


def _refused(sentence: str, arguments: argparse.Namespace) -> int:
    if getattr(arguments, "json", False):
        import json

        print(json.dumps({"error": sentence}, ensure_ascii=False))
    print(f"darkroom: {sentence}", file=sys.stderr)
    return 2


def _unexpected(error: Exception) -> int:
    """A fault of ours: one sentence with its place, the traceback only on request."""
    if os.environ.get("DARKROOM_TRACEBACK"):
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"darkroom: an unexpected {type(error).__name__} in {place.filename}, line {place.lineno}: "
        f"{error}. Set DARKROOM_TRACEBACK=1 and repeat the command to see all of it.",
        file=sys.stderr,
    )
    return 1


def version() -> str:
    """Returns the version of the suite, as the checkout or else the installed package says."""
    import importlib.metadata
    import tomllib

    from lib import paths

    declared = paths.checkout() / "pyproject.toml"
    if declared.is_file():
        return str(tomllib.loads(declared.read_text("utf-8"))["project"]["version"])
    return importlib.metadata.version("darkroom")


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Any]]:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="Image-classification experiments in Keras, from a folder of pictures to "
        "results that hold.",
        epilog="Start with: darkroom run quickstart",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for kind in (studies, data, models, project):
        kind.add_to(commands)
    return parser, commands.choices
