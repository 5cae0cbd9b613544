"""A Dask cluster of processes on loopback."""

import json
import subprocess
import sys
import time


def start(program, file, *options, **settings):
    """Starts `dask_scheduler` or `dask_worker` by its scheduler file."""
    command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(file)]
    command += ["--no-dashboard", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, **settings)


def start_scheduler(file, **settings):
    """Returns the scheduler's process and its address."""
    process = start("dask_scheduler", file, "--host", "127.0.0.1", "--port", "0", **settings)
    while not file.exists():
        time.sleep(0.1)
    return process, json.loads(file.read_text())["address"]
