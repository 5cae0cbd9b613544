"""One run: its folder, its key, its lock, its progress and its result.

A run is one notebook with one set of parameters. Its folder is `logs/<study>/<stage>/<unit>`; it
has finished when `result.json` lies there, which is written last. The process that computes holds
the run's lock, and the operating system frees it when that process dies, however it dies.
"""

from lib.runs.keys import changes, key
from lib.runs.record import STATES, about, acquire, finished, held, locked, prepare, read, state
from lib.runs.run import Data, Run, start, unit

__all__ = [
    "STATES",
    "Data",
    "Run",
    "about",
    "acquire",
    "changes",
    "finished",
    "held",
    "key",
    "locked",
    "prepare",
    "read",
    "start",
    "state",
    "unit",
]
