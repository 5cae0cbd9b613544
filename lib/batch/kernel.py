"""The kernels of runs: this interpreter, independent of registered kernels and user settings.

On Linux the kernels of a study are forked from one process, the template, which has loaded the
libraries: a training begins without the five seconds of processor time that TensorFlow takes to
import. Elsewhere, and by plain papermill, `python -m lib.batch.kernel -f FILE` serves a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import processes

if TYPE_CHECKING:
    from jupyter_client import AsyncKernelManager

TEMPLATE = "DARKROOM_KERNELS"
"""The environment variable that holds the socket of the template."""
_LIBRARIES = (
    "matplotlib_inline.backend_inline",
    "pandas",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "PIL.Image",
    "scipy.special",
    "scipy.sparse",
    "scipy.optimize",
    "sklearn.metrics",
)
_KERAS = ("train", "tune", "explain", "features", "apply")
_STAGES = ("clean", "explore", "thumbnails", "compare", *_KERAS)
"""The stages of the suite's notebooks, for which the template loads libraries."""
_LONGEST_FOLDER = 90  # a socket's path has at most 107 bytes
_START_S = 600.0  # only a guard against hanging

_lock = threading.Lock()
_template: tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str]] | None = None


def template(environment: dict[str, str]) -> dict[str, str]:
    """Returns the environment variable that leads a run's kernel to the template, which is started
    if there is none; {} where kernels start by themselves.
    """
    global _template
    if sys.platform != "linux":
        return {}
    with _lock:
        if _template is not None and _template[0].poll() is not None:
            _stop()
        if _template is None:
            folder = tempfile.TemporaryDirectory(prefix="darkroom-", ignore_cleanup_errors=True)
            if len(folder.name) > _LONGEST_FOLDER:
                return {}
            single = {name: "1" for name in environment if name.endswith("_NUM_THREADS")}
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(Path(folder.name, "kernels")))
                listener.listen(128)
                number = str(listener.fileno())
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "lib.batch.kernel", "--template", number],
                    stdin=subprocess.PIPE,  # it ends when this closes, as it does with this process
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**environment, **single},
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                )
            _template = process, folder
        return {TEMPLATE: str(Path(_template[1].name, "kernels"))}


def stop_template() -> None:
    """Ends the template of this process, and with it its kernels."""
    with _lock:
        _stop()


def _stop() -> None:
    global _template
    if _template is not None:
        process, folder = _template
        process.kill()
        process.wait()
        process.stdin.close()
        folder.cleanup()
        _template = None


def manager(folder: Path, *, stage: str = "") -> AsyncKernelManager:
    """Returns a kernel manager whose connection and sockets are in `folder`, a private and short
    path; `stage` decides what the template loads first.

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
    kernel_manager = OwnKernel(**where)
    if os.environ.get(TEMPLATE):
        kernel_manager.provisioner = _provisioner(kernel_manager, stage)
    return kernel_manager


def _provisioner(kernel_manager: AsyncKernelManager, stage: str) -> Any:
    from jupyter_client.provisioning import LocalProvisioner

    class Forked(LocalProvisioner):
        """Has the template fork a kernel; starts one by itself where the template has died."""

        async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
            try:
                connect = functools.partial(_ForkedKernel, cmd, stage, **options)
                self.process = await asyncio.to_thread(connect)
            except (OSError, EOFError):
                return await super().launch_kernel(cmd, **options)
            self.pid = self.pgid = self.process.pid
            return self.connection_info

    return Forked(kernel_id="kernel", kernel_spec=kernel_manager.kernel_spec, parent=kernel_manager)


class _ForkedKernel:
    """A kernel that the template has forked, as `subprocess.Popen` shows a process.

    When this process ends, the template kills the kernel.
    """

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], stage: str, **options: Any) -> None:
        self._template: Connection = Client(os.environ[TEMPLATE], "AF_UNIX")
        self._template.send(
            {
                "arguments": command[command.index("-f") :],
                "stage": stage,
                "environment": options["env"],
                "cwd": options["cwd"],
                "output": options["stdout"].name,
            }
        )
        if not self._template.poll(_START_S):
            raise EOFError
        self.pid: int = self._template.recv()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self._template.poll(0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is None and self._template.poll(timeout):
            try:
                self.returncode = self._template.recv()
            except (OSError, EOFError):  # the template has died, and the kernel with it
                self.returncode = -signal.SIGKILL
            self._template.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    terminate = kill


def serve_template(listener: socket.socket) -> None:
    """Forks a kernel for each request to `listener`, until the standard input closes.

    A kernel whose runner has closed its connection, or has died, is killed.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    kernels: dict[Connection, int] = {}
    while True:
        for ready in wait([sys.stdin.buffer, listener, woken, *kernels]):
            if ready is sys.stdin.buffer:
                os._exit(0)  # the kernels end with their parent
            elif ready == woken:
                os.read(woken, 4096)
                _reap(kernels)
            elif ready is listener:
                runner = Connection(listener.accept()[0].detach())
                try:
                    _fork(runner, kernels, others=[listener, runner, *kernels])
                except (OSError, EOFError):  # the runner has died
                    if pid := kernels.pop(runner, None):
                        _kill(pid)
                    runner.close()
            elif ready in kernels:
                _kill(kernels.pop(ready))
                ready.close()


def _fork(runner: Connection, kernels: dict[Connection, int], *, others: list[Any]) -> None:
    request = runner.recv()
    names = ["ipykernel.kernelapp"]
    names += _LIBRARIES if request["stage"] in _STAGES else ()
    names += ["keras"] if request["stage"] in _KERAS and _is_forkable() else []
    for name in names:
        with contextlib.suppress(Exception):  # the run's own import says what is wrong
            importlib.import_module(name)
    gc.freeze()  # otherwise each collection of a kernel scans all objects of the libraries
    parent = os.getpid()
    if pid := os.fork():
        kernels[runner] = pid
        runner.send(pid)
        return
    try:
        for file in others:
            file.close()
        _become(request, parent)
    finally:
        os._exit(1)


def _become(request: dict[str, Any], parent: int) -> None:
    """Makes this forked process the kernel that was asked for."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"], JPY_PARENT_PID=str(parent))
    output = os.open(request["output"], os.O_WRONLY | os.O_APPEND)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, target)
    own = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:0] = [path for path in dict.fromkeys(own) if path not in sys.path]
    if numpy := sys.modules.get("numpy"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(int(os.environ.get("OMP_NUM_THREADS", 0)) or None)
        numpy.random.seed()  # otherwise all kernels would draw the same numbers
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib"]:
        del sys.modules[name]  # the code may have been edited since
    sys.argv = ["kernel", *request["arguments"], f"--IPKernelApp.parent_handle={parent}"]
    main()


def _reap(kernels: dict[Connection, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        for runner in [runner for runner, kernel in kernels.items() if kernel == pid]:
            with contextlib.suppress(OSError):
                runner.send(os.waitstatus_to_exitcode(status))
            del kernels[runner]
            runner.close()


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # it leads a group with its own children as soon as it runs
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _is_forkable() -> bool:
    """Whether Keras may be loaded before a fork: with TensorFlow, and where no GPU is used."""
    from lib.batch import machine

    configured: Any = {}
    with contextlib.suppress(OSError, ValueError):
        home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        configured = json.loads((home / "keras.json").read_text("utf-8"))
    backend = os.environ.get("KERAS_BACKEND") or configured.get("backend", "tensorflow")
    return backend == "tensorflow" and not machine.visible_gpus()


def main() -> None:
    """Serves a kernel until it is asked to stop or its parent dies."""
    if "JPY_PARENT_PID" in os.environ and os.name != "nt":
        processes.die_with_parent(int(os.environ["JPY_PARENT_PID"]))
    if sys.platform == "linux":  # where memory runs out all the same, the run goes first
        with contextlib.suppress(OSError):  # where a container forbids it, it stays as it was
            Path("/proc/self/oom_score_adj").write_text("500")
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--template"]:
        serve_template(socket.socket(fileno=int(sys.argv[2])))
    main()
