"""TensorBoard without TensorFlow: our files do not need it, and without it there are no warnings of
missing GPUs.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs TensorBoard with the arguments of the command line."""
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import of it fails, and TensorBoard goes on by itself
    from tensorboard.main import run_main

    run_main()


if __name__ == "__main__":
    main()
