"""The check of the pinned packages: what uv says comes back in one line. No index is asked here."""

from lib import paths
from tools import lock_check


def test_a_file_that_cannot_be_resolved_is_reported_with_its_cause(tmp_path):
    wrong = tmp_path / "requirements-gpu.txt"
    wrong.write_text("numpy=2.0\n")
    told = lock_check.resolve(wrong, python="3.12", platform="linux")
    assert "numpy=2.0" in told and "\n" not in told


def test_a_file_without_packages_needs_none(tmp_path):
    (tmp_path / "requirements-jax.txt").write_text("# nothing\n")
    assert (
        lock_check.resolve(tmp_path / "requirements-jax.txt", python="3.12", platform="linux")
        is None
    )
    assert [path.name for path in tmp_path.iterdir()] == [
        "requirements-jax.txt"
    ]  # what uv says of it lies nowhere


def test_every_list_of_requirements_is_checked():
    assert set(lock_check.PLATFORMS) == {
        path.name for path in paths.checkout().glob("requirements*.txt")
    }
