"""The shift test: its changes, its table, its errors."""

import pandas as pd
import pytest
import torch
import yaml
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC
from sklearn.metrics import roc_auc_score

from anomalib_memmc import MemMCMAE, Phantom, cli
from anomalib_memmc.benchmark.shift_test import CHANGES, shift_test
from anomalib_memmc.scoring import ReconstructionScorer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model, its data and its checkpoint."""
    folder = tmp_path_factory.mktemp("shift")
    datamodule = Phantom(root=folder / "data", **TINY_PHANTOM)
    model = MemMCMAE(**TINY_MEMMC, scorer=ReconstructionScorer(**FOUR_MASKS), seed=0)
    engine = Engine(default_root_dir=folder, max_epochs=1, accelerator="cpu", devices=1, logger=False)
    engine.fit(model, datamodule=datamodule)
    return model, datamodule, engine.trainer.checkpoint_callback.best_model_path


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_small_and_keep_the_shape(name):
    torch.manual_seed(0)
    image = torch.rand(3, 40, 60).mul(0.5).add(0.25)
    image = torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    changed = CHANGES[name](image)
    assert changed.shape == image.shape
    assert changed.dtype == torch.float32
    inner = (changed - image)[:, 4:-4, 4:-4].abs().mean()
    assert inner < 0.1
    assert torch.equal(changed, image) == (name == "none")


def test_grey_values_of_noise():
    image = torch.full((3, 100, 100), 0.5)
    torch.manual_seed(0)
    assert (255 * (CHANGES["noise of 3 grey values"](image) - image)).std() == pytest.approx(3, rel=0.05)


def test_without_change_it_is_the_test_itself(trained):
    model, datamodule, _ = trained
    table = shift_test(model, datamodule.test_data)
    assert list(table["change"]) == list(CHANGES)
    model.eval()
    with torch.no_grad():
        images = torch.stack([model.pre_processor.transform(item.image) for item in datamodule.test_data])
        scores = model.model.score(images).pred_score
    labels = datamodule.test_data.samples["label_index"].to_numpy()
    assert table["image_AUROC"][0] == pytest.approx(roc_auc_score(labels, scores))
    alarms = (scores[labels == 0] > model.post_processor.image_threshold).float().mean()
    assert table["false_alarm_rate"][0] == pytest.approx(alarms.item())


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    _, datamodule, checkpoint = trained
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"class_path": "anomalib_memmc.MemMCMAE"},
        "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {**TINY_PHANTOM, "root": "nowhere"}},
    }
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(config))

    def call(*arguments, checkpoint=checkpoint):
        root = ["--data.init_args.root", str(datamodule.root)]
        return cli.main(["shift-test", "--checkpoint", str(checkpoint), "--config", "preset.yaml", *root, *arguments])

    return call


def test_the_command_writes_a_table(run, tmp_path, capsys):
    assert run("--output", "out") == 0
    table = pd.read_csv(tmp_path / "out" / "shift.csv")
    assert list(table.columns) == ["change", "image_AUROC", "false_alarm_rate"]
    assert "gamma 0.8" in capsys.readouterr().out


def test_a_missing_checkpoint(run, capsys):
    assert run(checkpoint="missing.ckpt") == 1
    assert "There is no checkpoint missing.ckpt" in capsys.readouterr().err


def test_a_model_without_threshold(trained):
    with pytest.raises(ValueError, match="no threshold"):
        shift_test(MemMCMAE(**TINY_MEMMC), trained[1].test_data)
