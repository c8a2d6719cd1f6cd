"""Checkpoints are whole or not there."""

import os

import pytest
import torch

from anomalib_memmc.resuming import AtomicCheckpointIO, checkpoint_io, whole_file


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "weights" / "model.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    return path


def saved_step(path):
    return AtomicCheckpointIO().load_checkpoint(path)["step"]


def test_a_file_is_replaced_beside_its_place(old, monkeypatch):
    seen = []

    def replace(source, target):
        seen.append((os.path.dirname(source), saved_step(source), saved_step(target)))
        os.rename(source, target)

    monkeypatch.setattr(whole_file.os, "replace", replace)
    AtomicCheckpointIO().save_checkpoint({"step": 2}, old)
    assert seen == [(str(old.parent), 2, 1)]
    assert saved_step(old) == 2
    assert [path.name for path in old.parent.iterdir()] == ["model.ckpt"]


@pytest.mark.parametrize(
    "error", [RuntimeError("unexpected pos 64 vs 0"), OSError("No space left"), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_the_old_file_alone(old, monkeypatch, error):
    def fail(checkpoint, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with pytest.raises(expected):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, old)
    assert saved_step(old) == 1
    assert [path.name for path in old.parent.iterdir()] == ["model.ckpt"]


def test_a_file_that_is_cut_off_is_named(old):
    os.truncate(old, old.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"model\.ckpt is no whole checkpoint"):
        saved_step(old)


def test_what_the_user_chose_is_left_alone(tmp_path):
    class Own(AtomicCheckpointIO):
        pass

    trainer = type("Trainer", (), {"strategy": type("Strategy", (), {"checkpoint_io": Own()})})
    checkpoint_io.install(trainer)
    assert type(trainer.strategy.checkpoint_io) is Own
