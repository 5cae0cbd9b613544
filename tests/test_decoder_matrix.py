import subprocess
import sys

import decoder_matrix
import numpy as np
import pytest

from lib.data import decode

CASES = list(decoder_matrix.cases())


def test_there_are_enough_files_of_every_kind():
    assert len(CASES) >= 60 and len({name for name, _, _ in CASES}) == len(CASES)
    told = [expected for _, _, expected in CASES if isinstance(expected, str)]
    assert {"not_an_image", "unsupported", "too_large", "truncated", "corrupted"} <= set(
        told
    ) and len(CASES) - len(told) >= 40


@pytest.mark.parametrize("name, data, expected", CASES, ids=[name for name, _, _ in CASES])
def test_a_file_is_judged_right(name, data, expected):
    if isinstance(expected, str):
        with pytest.raises(decode.ImageError) as refused:
            decode.decode(data)
        assert refused.value.reason in expected.split(" or ")
        return
    decoded = decode.decode(data)
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape == expected.shape
    assert np.abs(decoded.pixels.astype(int) - expected.astype(int)).max() <= 8


def test_the_bomb_costs_no_memory(tmp_path):
    """In a process of its own, so that what the decoders take outside of Python counts as well."""
    (tmp_path / "bomb.png").write_bytes(decoder_matrix.bomb())
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom lib.cleaning.measurements import "
        "measure\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\ntold = measure(Path(sys.argv[1]))\nprint(told.problem, peak() - before)"
    )
    asked = [sys.executable, "-c", script, str(tmp_path / "bomb.png")]
    problem, grown = subprocess.run(
        asked, capture_output=True, text=True, check=True
    ).stdout.split()
    assert problem == "too_large" and float(grown) < 100
    assert 45_000 < (tmp_path / "bomb.png").stat().st_size < 55_000
