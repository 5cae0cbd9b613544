"""The command line `darkroom`. Commands import what they need when they run.

Exit codes: 0 done; 1 a run failed or was stopped; 2 the request was wrong, said in one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from lib import processes
from lib.cli.commands import add, add_to, argument
from lib.errors import DarkroomError, few, suggest, visible
from lib.parameter_types import SPOKEN

FIRST_STEPS = """Three things to do first:
  darkroom run quickstart              clean, train and compare on real pictures
  darkroom lab                         open the notebooks; begin with 0_tutorial
  darkroom clean path/to/your/folder   see what is wrong with your own pictures
"""

_ASK = "complete -o default -C 'darkroom completion words' darkroom"
SHELLS = {
    "bash": _ASK,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit && {_ASK}",
    "fish": "complete -c darkroom -a '(COMP_LINE=(commandline -cp) darkroom completion words)'",
}
"""What makes a shell complete `darkroom`, to be evaluated in its start-up file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except DarkroomError as error:
        sentence = visible(str(error))
        if "--json" in words:
            print(json.dumps({"error": sentence}, ensure_ascii=False))
        print(f"darkroom: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("darkroom: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        spoken = errno.errorcode.get(error.errno or 0) in ("ENOSPC", "EROFS", "EACCES", "EDQUOT")
        if os.environ.get("DARKROOM_TRACEBACK") or not (spoken or error.filename):
            return _unexpected(error)
        print(f"darkroom: {error.strerror}: {error.filename or 'the disk'}", file=sys.stderr)
        return 1
    except Exception as error:
        return _unexpected(error)


def _run(words: list[str]) -> int:
    if words[:2] == ["completion", "words"]:  # a shell asks
        print(*candidates(os.environ.get("COMP_LINE", "")), sep="\n")
        return 0
    parser, commands = _parser()
    if not words:
        parser.print_help()
        return 0
    if words == ["--version"]:
        print(f"darkroom {version()}")
        return 0
    if not words[0].startswith("-") and words[0] not in commands:
        near = suggest(words[0], list(commands))
        raise DarkroomError(
            f"There is no command {words[0]!r}.{near} `darkroom` alone lists them all."
        )
    arguments, rest = parser.parse_known_args(words)
    given = vars(arguments)
    if "rest" in given:
        given["rest"] = rest
    elif rest:
        known = [name for row in commands[words[0]]._actions for name in row.option_strings]
        raise DarkroomError(
            f"`darkroom {words[0]}` does not take {rest[0]!r}.{suggest(rest[0], known)} "
            f"See: darkroom {words[0]} --help"
        )
    module, _, name = given.pop("function").partition(":")
    # A backend announces its instruction sets and missing drivers.
    with processes.without_native_messages():
        command = getattr(importlib.import_module(module), name)
    return command(**given)


def completion(shell: str) -> int:
    """Prints what makes a shell complete `darkroom`."""
    print(SHELLS[shell])
    return 0


def candidates(line: str) -> list[str]:
    """Returns what may stand in the place of the last word of a command line."""
    *words, last = line.split(" ")[1:]
    parser, _ = _parser()
    for word in words:
        below = [row.choices for row in parser._actions if row.nargs == argparse.PARSER]
        parser = below[0].get(word, parser) if below else parser
    valued = [row for row in parser._actions if row.option_strings and row.nargs != 0]
    asked = [row for row in valued if words and words[-1] in row.option_strings]
    if asked or last.startswith("-"):
        names = [name for row in parser._actions for name in row.option_strings]
        names = asked[0].choices or () if asked else names
    else:
        known = [row.choices or () for row in parser._actions if not row.option_strings]
        names = [*(name for choices in known for name in choices), *_names(words[:1])]
    return sorted(name for name in names if name.startswith(last))


def _names(command: list[str]) -> list[str]:
    """The names of what a command takes: studies, data sets or notebooks."""
    from lib import paths

    folders = {
        **dict.fromkeys(("run", "check"), (paths.studies, "*.toml")),
        **dict.fromkeys(("status", "results", "apply", "export"), (paths.logs, "[!.]*/")),
        **dict.fromkeys(("clean", "best", "data", "store"), (paths.datasets, "[!.]*/")),
        "list": (paths.notebooks, "*.ipynb"),
    }
    with contextlib.suppress(DarkroomError, KeyError, ValueError):  # outside of any project
        ((folder, pattern),) = (folders[name] for name in command)
        return [path.name.removesuffix(pattern[1:]) for path in folder().glob(pattern)]
    return []


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


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence, as every other refusal, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raises DarkroomError in the words of a user for what argparse has refused."""
        name, _, why = message.removeprefix("argument ").partition(": ")
        rows = {row.metavar or row.dest: row for row in self._actions}
        if typed := re.fullmatch(r"invalid (int|float) value: (.*)", why):
            message = f"{name} must be {SPOKEN[typed[1]]}. Received: {typed[2]}"
        elif chosen := re.fullmatch(r"invalid choice: '(.*)' \(choose from (.*)\)", why):
            choices = chosen[2].replace("'", "")
            near = suggest(chosen[1], choices.split(", "))
            message = f"{name} must be one of {choices}. Received: {chosen[1]!r}.{near}"
        elif why.startswith("expected "):
            message = f"{name} needs a value"
        elif name == "the following arguments are required":
            absent = {key: rows[key] for key in why.split(", ") if key in rows}
            words = [
                f"{key.upper()} ({row.help or few(list(row.choices or ()))})"
                for key, row in absent.items()
            ]
            message = f"Missing: {', '.join(words) or why}"
        end = "" if message.endswith(("?", ".")) else "."
        raise DarkroomError(f"{message}{end} See: {self.prog} --help")


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Any]]:
    parser = _Parser(
        prog="darkroom",
        description="Image-classification experiments in Keras, from a folder of pictures to "
        f"results that hold.\n\n{FIRST_STEPS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = {"action": "store_true", "default": argparse.SUPPRESS}
    parser.add_argument("--version", **about, help="print the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_to(commands)
    shell = argument("shell", 'such as bash: eval "$(darkroom completion bash)"', choices=SHELLS)
    add(commands, "completion", "lib.cli:completion", "make a shell complete commands", shell)
    return parser, commands.choices
