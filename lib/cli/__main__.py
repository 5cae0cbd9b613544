"""`python -m lib.cli` is the command `darkroom`."""

import sys

from lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
