"""A file of thresholds stands beside each checkpoint."""

import json

import pytest

from anomalib_memmc.resuming import AtomicCheckpointIO
from anomalib_memmc.resuming.thresholds_file import thresholds_path

CONTENT = {"epoch": 3, "global_step": 12, "thresholds": {"image_threshold": 1.5}}


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("model.ckpt", "thresholds.json"),
        ("last.ckpt", "thresholds.json"),
        ("epoch=3.ckpt", "epoch=3.thresholds.json"),
    ],
)
def test_it_stands_beside_and_goes_with_its_checkpoint(tmp_path, checkpoint, name):
    path = tmp_path / "weights" / checkpoint
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    file = path.with_name(name)
    assert thresholds_path(path) == file
    written = {"checkpoint": checkpoint, "epoch": 3, "global_step": 12, "image_threshold": 1.5}
    assert json.loads(file.read_text()) == written
    AtomicCheckpointIO().save_checkpoint({**CONTENT, "global_step": 13}, path)
    assert json.loads(file.read_text()) == {**written, "global_step": 13}
    assert len(list(path.parent.iterdir())) == 2
    AtomicCheckpointIO().remove_checkpoint(path)
    assert file.exists() == (name == "thresholds.json")  # which another checkpoint of the run may share


def test_a_checkpoint_without_thresholds_gets_no_file(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "model.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
