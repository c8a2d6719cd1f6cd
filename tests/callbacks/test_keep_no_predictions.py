import pytest
import yaml
from anomalib.cli import AnomalibCLI
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom, cli
from anomalib_memmc.scoring import ReconstructionScorer


def test_python_is_given_every_batch(tmp_path):
    model = MemMCMAE(**TINY_MEMMC, scorer=ReconstructionScorer(num_masks=2), visualizer=False)
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    batches = engine.predict(model, datamodule=Phantom(root=tmp_path, **{**TINY_PHANTOM, "eval_batch_size": 2}))
    assert [len(batch) for batch in batches] == [2, 2]


@pytest.mark.parametrize("command_line", [AnomalibCLI, cli.CLI])
def test_a_command_keeps_none(command_line, tmp_path, monkeypatch):
    returned = []
    predict = Engine.predict
    monkeypatch.setattr(Engine, "predict", lambda *args, **kwargs: returned.append(predict(*args, **kwargs)))
    config = {
        "model": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**TINY_MEMMC, "visualizer": False}},
        "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {"root": str(tmp_path), **TINY_PHANTOM}},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "logger": False},
        "default_root_dir": str(tmp_path),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command_line(["predict", "--config", str(tmp_path / "config.yaml")])
    assert returned
    assert not returned[0]
    (table,) = tmp_path.rglob("predict.csv")
    assert len(table.read_text().splitlines()) == 1 + 4
