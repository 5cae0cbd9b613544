"""One run: its folder, key, lock, progress and result.

A run is one notebook with one set of parameters. Its folder is `logs/<study>/<stage>/<unit>`; it
has finished when it holds `result.json`, which is written last. The computing process holds the
run's lock, which the operating system releases when that process dies.
"""

from lib.runs.keys import data_digest, key
from lib.runs.record import (
    STATES,
    acquire,
    changes,
    finished,
    held,
    is_older,
    locked,
    read,
    state,
    study_info,
)
from lib.runs.run import (
    NOTEBOOK_VARIABLE,
    Data,
    Run,
    check,
    open_run,
    prepare,
    start,
    unit,
    with_free_arm,
)
