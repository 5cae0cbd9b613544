"""Kernels are forked from one process, and start by themselves where it has died."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys, numpy
loaded = [name for name in ("pandas", "keras", "lib") if name in sys.modules]
print(os.getppid(), numpy.random.random(), os.getcwd(), *loaded)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")
def test_kernels_are_forked_from_one_process(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    own, template, (first, second, last) = json.loads(done.stdout)
    assert first[0] == second[0] == template
    assert first[1] != second[1]  # random numbers
    # Code of the suite is imported by each kernel itself.
    assert first[2:] == second[2:] == [str(tmp_path), "pandas"]
    assert last[0] == own  # the template had been killed


def main(folder: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    from lib.batch import kernel

    os.environ |= kernel.template(dict(os.environ))

    def answer() -> list[str]:
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
        with (folder / "output").open("wb") as output:
            client = NotebookClient(nb, km=kernel.manager(folder, stage="explore"))
            settings = {"env": dict(os.environ), "cwd": str(folder)}
            client.execute(stdout=output, stderr=output, **settings)
        return nb.cells[0].outputs[0]["text"].split()

    answers = [answer(), answer()]
    process = kernel._template[0]
    process.kill()
    process.wait()
    print(json.dumps([str(os.getpid()), str(process.pid), [*answers, answer()]]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
