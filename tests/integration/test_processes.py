"""One and two processes: equal thresholds, metrics, tables and pictures."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_memmc.data.base.ram_folder import RAM_DISK, VARIABLE

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = TESTS / "helpers" / "several_processes.py"


def run(*command, cwd=TESTS):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [str(part) for part in command]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900)


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["phantom", "folder"])
def test_two_processes_give_the_numbers_and_pictures_of_one(kind, tmp_path):
    results = []
    for processes in (1, 2):
        outcome = run(sys.executable, SCRIPT, processes, tmp_path / str(processes), kind)
        assert outcome.returncode == 0, outcome.stderr[-2000:]
        results.append(json.loads((tmp_path / str(processes) / "result.json").read_text()))
    one, two = results
    assert one["learnt"].keys() == two["learnt"].keys()
    for name, value in one["learnt"].items():
        np.testing.assert_allclose(two["learnt"][name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    assert {"image_AUROC", "pixel_AUROC", "pixel_IoU", "pixel_OracleIoU"} <= one["metrics"].keys()
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
    folders = [Path(result["folder"]) for result in results]
    for name in ("predictions.csv", "predict.csv"):
        tables = [pd.read_csv(folder / name) for folder in folders]
        assert len(tables[0]) == 33
        pd.testing.assert_frame_equal(*tables, atol=1e-6)
    for name in ("images", "reconstructions"):
        assert digests(folders[0] / name) == digests(folders[1] / name)
        assert digests(folders[0] / name)
    for folder in folders:
        assert {path.name for path in folder.parent.iterdir()} == {"v0", "latest"}
        assert (folder.parent / "latest").resolve() == folder.resolve()


@pytest.mark.slow
def test_two_processes_go_on_where_two_stopped(tmp_path):
    names = ["last-0-1", "model-0-3", "last-1-5"]  # within an epoch, between two, within the last
    outcome = run(sys.executable, TESTS / "helpers" / "resuming_processes.py", tmp_path, *names)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert json.loads((tmp_path / "differences.json").read_text()) == dict.fromkeys(names, 0.0)


@pytest.mark.slow
@pytest.mark.skipif(not RAM_DISK.is_dir(), reason="this system has no RAM disk")
@pytest.mark.parametrize("launch", [[], ["-m", "torch.distributed.run", "--nproc_per_node", 2]])
def test_two_processes_share_a_cache_in_memory(launch, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)  # a cache of another test's in this process, which would be shared too
    outcome = run(sys.executable, *launch, TESTS / "helpers" / "sharing_processes.py", tmp_path)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    one, other = ((tmp_path / f"{rank}.txt").read_text().split() for rank in (0, 1))
    assert len({*one, *other}) == len(one) + len(other) == 12  # each image once, in two epochs of two processes
    assert len(one) == len(other)
    (folder,) = {Path(name).parents[1] for name in (*one, *other)}
    assert folder.parent == RAM_DISK
    assert not folder.exists()


CONFIG = """
model:
  class_path: MemMCMAE
  init_args:
    {image_size: 32, patch_size: 8, encoder_dim: 32, encoder_depth: 1, encoder_heads: 2, decoder_dim: 32,
     decoder_depth: 1, decoder_heads: 2, memory_slots: 4,
     scorer: {class_path: anomalib_memmc.scoring.ReconstructionScorer, init_args: {num_masks: 2}}}
data:
  class_path: Phantom
  init_args: {image_size: 32, num_train: 9, num_val_normal: 3, num_test_normal: 2, num_test_anomalous: 1,
    train_batch_size: 2, num_workers: 0}
trainer: {accelerator: cpu, devices: 2, strategy: ddp, max_epochs: 1, enable_progress_bar: false, logger: false}
"""


@pytest.mark.slow
def test_torchrun_trains_in_one_folder_resumes_no_other_schedule_and_refuses_too_few_images(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "anomalib_memmc"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", 2, "-m", "anomalib_memmc"]
    runs = tmp_path / "results" / "MemMCMAE" / "Phantom"
    checkpoint = Path("weights") / "lightning" / "model.ckpt"
    fit = [*launch, "fit", "--config", "config.yaml"]
    first = run(*fit, cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    extended = run(*fit, "--trainer.max_epochs", 2, "--ckpt_path", runs / "v0" / checkpoint, cwd=tmp_path)
    assert extended.returncode == 1
    assert "belongs to a run of" in extended.stderr
    second = run(*fit, cwd=tmp_path)
    assert second.returncode == 0, second.stderr[-2000:]
    assert {path.name for path in runs.iterdir()} == {"v0", "v1", "v2", "latest"}  # v1 has the refused configuration
    assert (runs / "latest" / checkpoint).is_file()
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"MemMCMAE"}

    (tmp_path / "model.yaml").write_text(CONFIG[: CONFIG.index("data:")] + CONFIG[CONFIG.index("trainer:") :])
    (image, *_) = tmp_path.glob("datasets/Phantom/*/normal/*.png")
    arguments = ["predict", "--config", "model.yaml", "--data", image, "--ckpt_path", runs / "v2" / checkpoint]
    outcome = run(*command, *arguments, cwd=tmp_path)
    assert outcome.returncode == 1
    assert "1 images for 2 processes" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_two_killed_processes_go_on_by_the_command_of_the_readme(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("memory_slots: 4", "memory_slots: 4, checkpoint_minutes: 0"))
    (tmp_path / "die.yaml").write_text("trainer.callbacks: [{class_path: helpers.runs.Die, init_args: {step: 2}}]")
    fit = [sys.executable, "-m", "anomalib_memmc", "fit", "--config", "config.yaml"]
    assert run(*fit, "--config", "die.yaml", cwd=tmp_path).returncode != 0
    runs = tmp_path / "results" / "MemMCMAE" / "Phantom"
    last = Path("weights") / "lightning" / "last.ckpt"
    assert (runs / "latest").resolve() == runs / "v0"
    resumed = run(*fit, "--ckpt_path", runs / "latest" / last, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "Reading 1 batches again" in resumed.stdout + resumed.stderr
    assert (runs / "latest").resolve() == runs / "v1"
    assert (runs / "v1" / last).with_name("model.ckpt").is_file()
