"""``anomalib-memmc memory``: what it prints, overrides and mistakes; and that the paper's presets fit."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.models import TINY_MEMMC

from anomalib_memmc import cli
from anomalib_memmc.benchmark.config import read_config
from anomalib_memmc.memory.estimate import estimate

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = {
    "model": {"class_path": "MemMCMAE", "init_args": TINY_MEMMC},
    "data": {"class_path": "Phantom", "init_args": {"train_batch_size": 8, "root": "nowhere"}},
    "trainer": {"accumulate_grad_batches": 4, "precision": "bf16-mixed"},
}


@pytest.fixture
def run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))

    def call(*arguments):
        assert cli.main(["memory", "--config", str(tmp_path / "config.yaml"), *arguments]) == 0
        return capsys.readouterr().out

    return call


def test_json_has_the_numbers_of_the_estimate(run):
    printed = json.loads(run("--json"))
    found = estimate(CONFIG)
    assert printed["parameters"] == found.parameters
    assert (printed["micro_batch"], printed["accumulate"]) == (8, 4)
    assert printed["peak_gib"] == pytest.approx(found.peak_bytes / 2**30, abs=1e-3)
    assert printed["optimizer_gib"] == pytest.approx(found.optimizer_bytes / 2**30, abs=1e-3)
    assert printed["saved_mib_per_image"] == pytest.approx(found.saved_bytes_per_image / 2**20, abs=1e-2)
    assert list(printed["largest_micro_batch"]) == ["8", "16", "24", "40", "80"]
    assert printed["largest_micro_batch"]["24"] == found.largest(20 * 2**30)


def test_text_says_what_a_step_is(run):
    printed = run()
    assert "A step of 32 images: 4 x 8, in bf16-mixed, on a GPU." in printed
    for name in ("parameters", "optimizer state", "saved activations", "peak", "80 GiB"):
        assert name in printed


def test_overrides(run):
    plain = json.loads(run("--json"))
    options = ["--trainer.precision", "32-true", "--data.init_args.train_batch_size=16"]
    changed = json.loads(run("--json", *options))
    assert changed["micro_batch"] == 16
    assert changed["saved_mib_per_image"] > plain["saved_mib_per_image"]
    lean = json.loads(run("--json", *options, "--model.init_args.recompute", "decoder"))
    assert lean["saved_mib_per_image"] < changed["saved_mib_per_image"]
    on_cpu = run("--trainer.accelerator", "cpu")
    assert "on a CPU" in on_cpu
    assert "left free, for the process and" in on_cpu


def test_nothing_is_allocated(run):
    printed = json.loads(run("--json", "--model.init_args.encoder_dim", "32768"))
    assert printed["optimizer_gib"] > 150
    assert printed["largest_micro_batch"]["80"] == 0


def test_mistakes_end_in_one_message(tmp_path, capsys):
    assert cli.main(["memory", "--config", "missing.yaml"]) == 1
    assert "missing.yaml does not exist" in capsys.readouterr().err
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "model": {"class_path": "anomalib.models.Padim"}}))
    assert cli.main(["memory", "--config", str(path)]) == 1
    assert "MemMCMAE" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hyperkvasir.yaml", "covidx.yaml"])
def test_the_papers_presets_train_its_batch_within_20_gib(name):
    found = estimate(read_config(CONFIGS / name))
    assert found.micro_batch * found.accumulate == 256
    assert found.peak_bytes < 20 * 2**30
