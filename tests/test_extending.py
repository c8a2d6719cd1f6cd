"""The code of docs/extending.md, run as a stranger would run it."""

import re
import sys
from pathlib import Path

import pytest
import torch

from anomalib_memmc import MemMCMAE, cli

REPO = Path(__file__).parents[1]
PAGE = (REPO / "docs" / "extending.md").read_text(encoding="utf-8")
TINY = {
    "model.init_args.image_size": 32,
    "model.init_args.encoder_dim": 16,
    "model.init_args.encoder_depth": 1,
    "model.init_args.decoder_dim": 16,
    "model.init_args.decoder_depth": 1,
    "model.init_args.scorer.init_args.num_masks": 4,
    "data.init_args.image_size": 32,
    "data.init_args.num_train": 8,
    "data.init_args.num_test_normal": 2,
    "data.init_args.num_test_anomalous": 2,
    "trainer.max_epochs": 1,
    "trainer.check_val_every_n_epoch": 1,
}


def block(language, start):
    """The page's code block of a language that begins with a text."""
    (text,) = [body for body in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if body.startswith(start)]
    return text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The reader's folder: the page's files, and the presets that a clone has."""
    (tmp_path / "configs").symlink_to(REPO / "configs")
    (tmp_path / "my_scores.py").write_text(block("python", '"""How far'))
    (tmp_path / "test_my_scores.py").write_text(block("python", "import torch\nfrom my_scores"))
    (tmp_path / "mine.yaml").write_text(block("yaml", "config:"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # restored at the end; seed_everything changes it
    monkeypatch.setattr(cli, "configure_logger", lambda: None)
    yield tmp_path
    for module in ("my_scores", "test_my_scores"):
        sys.modules.pop(module, None)


@pytest.mark.slow
@torch.no_grad()
def test_score_of_the_page_trains_tests_and_comes_back_from_its_checkpoint(folder, images):
    tiny = [text for key, value in TINY.items() for text in (f"--{key}", str(value))]
    assert cli.main(["train", "--config", "mine.yaml", *tiny]) == 0
    (checkpoint,) = folder.glob("results/MemMCMAE/Phantom/v0/weights/lightning/model.ckpt")
    model = MemMCMAE.load_from_checkpoint(checkpoint, weights_only=True).eval()
    scorer = model.model.scorer
    assert (type(scorer).__name__, scorer.share, scorer.num_masks) == ("ExcessScorer", 0.05, 4)
    assert scorer.is_fitted
    assert scorer.usual.mean() > 0
    images = images[..., :32, :32]
    exported = torch.export.export(model.model, (images,)).module()
    torch.testing.assert_close(exported(images).pred_score, model.model(images).pred_score, atol=1e-5, rtol=0)


def test_tests_of_the_page_pass(folder):
    import test_my_scores

    tests = [value for name, value in vars(test_my_scores).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
