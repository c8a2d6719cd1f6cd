"""The link ``latest`` leads to weights."""

import pytest

from anomalib_memmc.resuming import link_latest, link_latest_weights


@pytest.fixture
def runs(tmp_path):
    """v0 and v1 have weights, v2 and v10 none; latest is v10."""
    for number in (0, 1, 2, 10):
        (tmp_path / f"v{number}" / "weights" / "lightning").mkdir(parents=True)
    for number in (0, 1):
        (tmp_path / f"v{number}" / "weights" / "lightning" / "model.ckpt").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "v10")
    return tmp_path


def test_a_run_that_begins_leaves_the_link_at_the_last_weights(runs):
    link_latest_weights(runs / "v10")
    assert (runs / "latest").resolve().name == "v1"
    link_latest(runs / "v10")
    assert (runs / "latest").resolve().name == "v10"


def test_a_link_to_another_run_is_not_touched(runs):
    link_latest_weights(runs / "v2")
    assert (runs / "latest").resolve().name == "v10"


def test_without_a_link_none_is_made(runs):
    (runs / "latest").unlink()
    link_latest(runs / "v1")
    link_latest_weights(runs / "v10")
    assert not (runs / "latest").exists()
