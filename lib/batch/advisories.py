"""Has a flaw been published of an installed package? pip-audit asks the Python package index's list of advisories."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig


def check() -> int:
    """Prints a line for each installed package with a known flaw, and what could not be asked; returns 2 for a flaw, else 0."""
    words = ["--progress-spinner", "off", "--format", "json", "--path", sysconfig.get_path("purelib")]
    asked = subprocess.run([sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, check=False)
    lines, flawed = told(asked.stdout)
    said = (asked.stderr.splitlines() or ["nothing"])[-1]
    print("\n".join(lines or [f"advisories: pip-audit gave no answer, but said: {said}"]))
    return 2 if flawed else 0


def told(answer: str) -> tuple[list[str], int]:
    """Returns what pip-audit's JSON says, a line each, and the number of packages with a flaw; nothing for no JSON."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        return [], 0
    flawed = [package for package in packages if package.get("vulns")]
    unasked = [package for package in packages if "skip_reason" in package]
    lines = []
    for package in flawed:
        flaws = [f"{flaw['id']} (mended in {', '.join(flaw['fix_versions']) or 'no version'})" for flaw in package["vulns"]]
        lines.append(f"advisories: {package['name']} {package['version']} has {', '.join(flaws)}")
    asked = len(packages) - len(unasked)
    lines.append(f"advisories: {asked} packages asked, {len(flawed)} with a known flaw, {len(unasked)} could not be asked")
    return lines, len(flawed)
