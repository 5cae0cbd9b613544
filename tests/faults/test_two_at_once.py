"""Two runners of one study begin at the same moment: one does the work, the other refuses or finds
it done.
"""

import shutil

import pytest

STUDY = """
question = "Who?"
[[stage]]
name = "begin"
notebook = "begin"
"""


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_two_runners_at_once(one, rounds):
    (one.home / "studies" / "one.toml").write_text(STUDY)
    refused = 0
    for _ in range(rounds):
        both = [one.begin("--json") for _ in range(2)]
        told = [process.communicate(timeout=600) for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes in ([0, 0], [0, 2]), told
        refused += codes == [0, 2]
        if codes == [0, 2]:
            [complaint] = [
                error
                for process, (_, error) in zip(both, told, strict=True)
                if process.returncode == 2
            ]
            assert "is being run by process" in complaint and complaint.count("\n") == 1
        assert one.results().keys() == {"begin/all"}
        assert not (one.home / "logs" / ".earlier").exists()  # nothing was done twice
        shutil.rmtree(one.home / "logs")
    assert refused or rounds < 50
