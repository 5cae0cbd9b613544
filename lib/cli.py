"""The command line `darkroom`."""


def main() -> int:
    """Runs the command line."""
    return 0
