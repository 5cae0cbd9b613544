"""Plays the server of JupyterLab: for each line of standard input, [notebook, stage, home], it runs
the notebook in a kernel, and prints the kernel's id and, when it has ended, 0 or 1.

The kernels are forked from a process that has loaded the libraries, so that nearly all that a
kernel does is the notebook's own work, and that is where it is killed.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from lib.batch import kernel


def run(notebook, stage, home):
    """Runs the cells as a person does from the first to the last; raises what ends them."""
    os.environ["DARKROOM_HOME"] = home
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        manager = kernel.manager(Path(folder), stage=stage)
        client = NotebookClient(nbformat.read(notebook, 4), km=manager)
        client.resources = {"metadata": {"path": home}}
        client.on_notebook_start = lambda **_: print(manager.provisioner.pid, flush=True)
        try:
            with Path(home, "said").open("w") as said:
                client.execute(stdout=said, stderr=said)
        finally:
            with contextlib.suppress(ProcessLookupError):  # a person closes the notebook
                os.kill(manager.provisioner.pid, signal.SIGKILL)


if __name__ == "__main__":
    os.environ.update(kernel.template(dict(os.environ)))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            run(*json.loads(line))
            print(0, flush=True)
        except Exception as error:
            print(error, file=sys.stderr, flush=True)
            print(1, flush=True)
    kernel.stop_template()
