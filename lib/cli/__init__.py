"""The command line `darkroom`. Every command's imports are its own, so that help is there at once.

Exit codes: 0 all is well; 1 a run failed or was stopped; 2 the wish itself was wrong, told in one
sentence.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence

from lib.cli import data, models, pages, project, studies
from lib.errors import DarkroomError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if "rest" in arguments:
        arguments.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.command(arguments)
    except DarkroomError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("darkroom: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in ("ENOSPC", "EROFS", "EACCES", "EDQUOT"):
            raise
        print(f"darkroom: {error.strerror}: {error.filename or 'the disk'}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="Image-classification experiments whose numbers can be believed.",
        epilog="Start with: darkroom run quickstart",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for kind in (studies, data, models, pages, project):
        kind.add_to(commands)
    return parser
