"""Runs every benchmark, one process after the other: `python -m benchmarks [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    names = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=names, metavar="NAME", help=f"some of: {', '.join(names)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="each under a minute, with rougher figures"
    )
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(names))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(names)}")
    failed = []
    for name in asked.names:
        print(f"== {name}", flush=True)
        words = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if asked.quick else [])]
        if subprocess.run(words, cwd=FOLDER.parent, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"Did not run to their end: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
