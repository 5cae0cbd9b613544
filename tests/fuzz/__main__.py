"""Feeds our parsers what nobody meant: `python -m tests.fuzz [NAME ...] [--seconds 600] [--found
FOLDER]`.

Coverage-guided by atheris (extra `fuzz`, Linux). Every crash of a new kind is written to
`FOLDER/<name>/crashes/` with its traceback, and the fuzzer goes on; what it learns is kept in
`FOLDER/<name>/inputs/` for a later call. A crash is any exception but the package's own, five
seconds on one input, or 500 MB more than at the beginning.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    sys.path.insert(0, str(HERE.parent))
    from targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=list(TARGETS),
        metavar="NAME",
        help=f"some of: {', '.join(TARGETS)}",
    )
    parser.add_argument("--seconds", type=int, default=600, help="for each name")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir(), "darkroom-fuzz"))
    asked = parser.parse_args()
    crashes = []
    for name in asked.names:
        folder = asked.found / name
        print(f"== {name}", flush=True)
        subprocess.run(
            [sys.executable, HERE / "one.py", name, folder, str(asked.seconds)], check=False
        )
        crashes += sorted(folder.glob("crashes/*"))
    print(f"Crashes: {', '.join(map(str, crashes)) or 'none'}.")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
