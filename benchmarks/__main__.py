"""Runs every benchmark, one process after the other: `python -m benchmarks [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    packages = [path.parent.name for path in FOLDER.glob("*/__main__.py")]
    names = sorted([path.stem for path in FOLDER.glob("[a-z]*.py")] + packages)
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
    failed, lines = [], []
    for name in asked.names:
        print(f"== {name}", flush=True)
        words = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if asked.quick else [])]
        with subprocess.Popen(words, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout or ():
                print(line, end="", flush=True)
                lines.append((name, line.strip()))
        if run.returncode:
            failed.append(name)
    _summarise(lines, failed)
    return 1 if failed else 0


def _summarise(lines: list[tuple[str, str]], failed: list[str]) -> None:
    """Prints how many claims hold, and every claim that is short or was skipped."""
    held = sum(line.endswith(") ok") for _, line in lines)
    short = [(name, line) for name, line in lines if line.endswith(") short")]
    skipped = [(name, line) for name, line in lines if "skipped" in line.lower()]
    print(f"== {held} claims hold, {len(short)} are short, {len(skipped)} were skipped")
    for name, line in [*short, *skipped]:
        print(f"{name}: {line}")
    if failed:
        print(f"Did not run to their end: {', '.join(failed)}.")


if __name__ == "__main__":
    sys.exit(main())
