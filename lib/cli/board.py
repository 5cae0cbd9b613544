"""TensorBoard without TensorFlow, which our files do not need and which warns of missing GPUs."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs TensorBoard with the arguments of the command line."""
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # its import fails, and TensorBoard uses its own stub
    from tensorboard.main import run_main

    run_main()


if __name__ == "__main__":
    main()
