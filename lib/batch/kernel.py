"""The kernel of a run: this interpreter, independent of registered kernels and user settings.

`python -m lib.batch.kernel -f connection.json` is what `OwnKernel` starts instead of a registered
kernel's command.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import processes

if TYPE_CHECKING:
    from jupyter_client import AsyncKernelManager


def manager(folder: Path) -> AsyncKernelManager:
    """Returns a kernel manager whose connection and sockets are in `folder`, a private and short
    path.

    Sockets in a folder cannot collide, as two runs' TCP ports can; Windows has only TCP.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class OwnKernel(AsyncKernelManager):
        kernel_spec = KernelSpec(  # type: ignore[assignment]
            argv=[sys.executable, "-m", "lib.batch.kernel", "-f", "{connection_file}"],
            display_name="Darkroom",
            language="python",
        )

    where: dict[str, Any] = {"connection_file": str(folder / "kernel.json")}
    if os.name != "nt":
        where |= {"transport": "ipc", "ip": str(folder / "socket")}
    return OwnKernel(**where)


def main() -> None:
    """Serves a kernel until it is asked to stop or its parent dies."""
    if "JPY_PARENT_PID" in os.environ and os.name != "nt":
        processes.die_with_parent(int(os.environ["JPY_PARENT_PID"]))
    if (
        sys.platform == "linux"
    ):  # where memory runs out all the same, the run goes and not its runner
        with contextlib.suppress(OSError):  # where a container forbids it, it stays as it was
            Path("/proc/self/oom_score_adj").write_text("500")
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


if __name__ == "__main__":
    main()
