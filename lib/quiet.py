"""Suppresses the start-up messages of native libraries."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Holds back what native code writes to standard error in the block; when the block fails, all
    of it is given out.

    TensorFlow announces its instruction sets and missing CUDA drivers before it reads its own
    setting to be silent.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
