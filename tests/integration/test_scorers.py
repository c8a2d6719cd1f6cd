"""Scorers as components: in YAML, in checkpoints, in exports, from another package, and over several processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import get_model
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC
from helpers.runs import Kept, assert_equal, fit

from anomalib_memmc import MemMCMAE, Phantom, cli, register
from anomalib_memmc.scoring import MahalanobisScorer, ReconstructionScorer, StructureMap

CONFIG = {
    "class_path": "anomalib_memmc.scoring.MahalanobisScorer",
    "init_args": {
        "error_map": {"class_path": "anomalib_memmc.scoring.StructureMap", "init_args": {"scale": 1}},
        "cell_size": 4,
        **FOUR_MASKS,
    },
}


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    return Phantom(root=tmp_path_factory.mktemp("phantom"), **TINY_PHANTOM)


def engine_in(folder, **arguments):
    return Engine(
        **{
            "default_root_dir": folder,
            "max_epochs": 1,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            **arguments,
        }
    )


@pytest.fixture(scope="module")
def trained(datamodule, tmp_path_factory):
    """A model with a learnt scorer, and its checkpoint."""
    model = MemMCMAE(**TINY_MEMMC, scorer=MahalanobisScorer(StructureMap(), cell_size=4, **FOUR_MASKS), seed=0)
    engine = engine_in(tmp_path_factory.mktemp("results"))
    engine.fit(model, datamodule=datamodule)
    return model, engine.trainer.checkpoint_callback.best_model_path


def test_the_checkpoint_holds_plain_values_and_what_was_learnt(trained):
    model, path = trained
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    saved = checkpoint["hyper_parameters"]
    assert saved["scorer"]["class_path"] == CONFIG["class_path"]
    assert saved["scorer"]["init_args"] == {
        **CONFIG["init_args"],
        "relative": False,
        "mask_seed": 0,
        "mask_ratio": None,
        "chunk_size": None,
        "blur_sigma": 0.0,
    }
    assert saved["gate"] == "channel"  # a default of the network, forwarded and never named here
    assert saved["mask_ratio"] == 0.75
    assert torch.equal(checkpoint["state_dict"]["model.scorer.mean"], model.model.scorer.mean)
    loaded = MemMCMAE.load_from_checkpoint(path, weights_only=True)
    assert loaded.model.scorer.is_fitted
    assert loaded.hparams["scorer"] == saved["scorer"]


def test_the_engine_rebuilds_the_scorer_without_being_told(trained, datamodule, tmp_path):
    model, path = trained
    untold = MemMCMAE(**TINY_MEMMC)
    (results,) = engine_in(tmp_path).test(untold, datamodule=datamodule, ckpt_path=path)
    assert untold.model.scorer.config() == model.model.scorer.config()
    assert torch.equal(untold.model.scorer.whitening, model.model.scorer.whitening)
    told = MemMCMAE(**TINY_MEMMC, scorer=CONFIG)
    (expected,) = engine_in(tmp_path).test(told, datamodule=datamodule, ckpt_path=path)
    assert results == expected


def test_a_told_scorer_that_learns_otherwise_is_refused(trained, datamodule, tmp_path):
    other = MemMCMAE(**TINY_MEMMC, scorer=ReconstructionScorer(**FOUR_MASKS))
    with pytest.raises(ValueError, match=r"scorer='anomalib_memmc.scoring.MahalanobisScorer' \(here 'anomalib_memmc"):
        engine_in(tmp_path).test(other, datamodule=datamodule, ckpt_path=trained[1])


def test_loading_with_another_scorer_is_checked_too(trained, caplog):
    """Lightning puts what a caller passes into the checkpoint's hyper-parameters before the model sees them."""
    model, path = trained
    same = MahalanobisScorer(StructureMap(), cell_size=4, **FOUR_MASKS)
    loaded = MemMCMAE.load_from_checkpoint(path, scorer=same, weights_only=True)
    assert torch.equal(loaded.model.scorer.mean, model.model.scorer.mean)
    for other in (
        ReconstructionScorer(**FOUR_MASKS),
        {**CONFIG, "init_args": {**CONFIG["init_args"], "mask_seed": 5}},
    ):
        with pytest.raises(ValueError, match="measured with other scoring"):
            MemMCMAE.load_from_checkpoint(path, scorer=other)
    with pytest.raises(ValueError, match="cross_residual=False \\(here True\\)"):
        MemMCMAE.load_from_checkpoint(path, cross_residual=True)


def test_a_scorer_set_afterwards_is_the_one_in_the_checkpoint(datamodule, tmp_path):
    model = MemMCMAE(**TINY_MEMMC, scorer=ReconstructionScorer(**FOUR_MASKS))
    model.model.set_scorer(MahalanobisScorer(cell_size=8, **FOUR_MASKS))
    engine = engine_in(tmp_path)
    engine.fit(model, datamodule=datamodule)
    loaded = MemMCMAE.load_from_checkpoint(engine.trainer.checkpoint_callback.best_model_path)
    assert torch.equal(loaded.model.scorer.mean, model.model.scorer.mean)
    assert loaded.hparams["scorer"]["init_args"]["cell_size"] == 8


@pytest.mark.parametrize("scorer", ["mahalanobis", MahalanobisScorer])
def test_what_is_no_scorer_is_refused(scorer):
    with pytest.raises(TypeError, match="scorer must be a Scorer of"):
        MemMCMAE(**TINY_MEMMC, scorer=scorer)


def test_what_costs_memory_only_may_differ(trained, datamodule, tmp_path, caplog):
    scorer = MahalanobisScorer(StructureMap(), cell_size=4, chunk_size=2, **FOUR_MASKS)
    engine_in(tmp_path).test(MemMCMAE(**TINY_MEMMC, scorer=scorer), datamodule=datamodule, ckpt_path=trained[1])
    assert "other scoring" not in caplog.text


def test_a_resumed_training_fits_the_scorer_of_the_checkpoint(datamodule, tmp_path):
    kept = Kept(tmp_path / "kept")
    whole = MemMCMAE(**TINY_MEMMC, scorer=MahalanobisScorer(StructureMap(), cell_size=4, **FOUR_MASKS), seed=0)
    fit(datamodule, tmp_path / "whole", callbacks=[kept], model=whole, max_epochs=2)
    (path,) = kept.folder.glob("model-0-*")
    resumed, _ = fit(datamodule, tmp_path / "resumed", ckpt_path=path, model=MemMCMAE(**TINY_MEMMC), max_epochs=2)
    assert isinstance(resumed.model.scorer, MahalanobisScorer)
    assert_equal(resumed, whole)
    mean = torch.load(path, weights_only=True)["state_dict"]["model.scorer.mean"]
    assert not torch.equal(resumed.model.scorer.mean, mean)


def test_an_export_holds_what_was_learnt(trained, tmp_path, monkeypatch):
    model, path = trained
    exported = engine_in(tmp_path).export(
        MemMCMAE(**TINY_MEMMC), ExportType.TORCH, export_root=tmp_path, ckpt_path=str(path)
    )
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loaded = torch.load(exported, weights_only=False)["model"].eval()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).pred_score, model(images).pred_score)


@pytest.mark.parametrize("name", ["mem_mcmae", "MemMCMAE", "anomalib_memmc.MemMCMAE"])
def test_anomalibs_look_up_takes_a_configuration(name):
    register()
    model = get_model(
        {"class_path": name, "init_args": {**TINY_MEMMC, "scorer": CONFIG}} if "M" in name else "MemMCMAE"
    )
    if "M" in name:
        assert model.model.scorer.error_map.scale == 1
    default = get_model("mem_mcmae", **TINY_MEMMC)
    assert default.hparams["scorer"]["init_args"]["num_masks"] == 10


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command line on a configuration with a changed model section."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "configure_logger", lambda: None)

    def run(*arguments, **init_args):
        model = {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**TINY_MEMMC, **init_args}}
        data = {"class_path": "anomalib_memmc.Phantom", "init_args": TINY_PHANTOM}
        trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}
        Path("config.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer}))
        return cli.main(["fit", "--config", "config.yaml", *arguments])

    return run


def test_a_scorer_from_yaml_and_the_command_line(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command("--model.init_args.scorer.init_args.num_masks", "8", "--print_config", scorer=CONFIG)
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert printed["scorer"]["init_args"]["num_masks"] == 8
    assert printed["scorer"]["init_args"]["error_map"]["class_path"].endswith("StructureMap")
    assert printed["encoder_dim"] == 32
    assert printed["gate"] == "channel"  # forwarded, and its default known


@pytest.mark.parametrize(
    ("key", "init_args"),
    [
        ("memory_slot", {"memory_slot": 3}),
        ("encoder_dim", {"encoder_dim": "wide"}),
        ("gate", {"gate": "row"}),
        ("num_mask", {"scorer": {**CONFIG, "init_args": {"num_mask": 3}}}),
        ("reduction", {"scorer": {**CONFIG, "init_args": {"reduction": "max"}}}),
        ("MSSSIMMap", {"scorer": {"class_path": "anomalib_memmc.scoring.MSSSIMMap"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_or_wrong_argument_is_a_usage_error(command, capsys, key, init_args):
    assert command(**init_args) == 2
    assert key in capsys.readouterr().err


def test_help_texts_of_forwarded_arguments_stay(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--model.help", "anomalib_memmc.MemMCMAE"])
    text = " ".join(capsys.readouterr().out.split())
    for argument, words in {
        "encoder_depth": "Blocks of the encoder",
        "gate": "Granularity of the gates of eq. 3",
        "mask_ratio": "Fraction of the patches hidden",
        "warmup_epochs": "Epochs of linear warm-up",
    }.items():
        assert argument in text
        assert words in text


TWO_PROCESSES = """
import sys
import torch
from anomalib.engine import Engine
from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

if __name__ == "__main__":
    processes, folder, phantom, tiny = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
    model = MemMCMAE(**tiny, scorer=MahalanobisScorer(num_masks=4), lr=0.0, seed=0)
    data = Phantom(root=folder, **{**phantom, "num_train": 15})
    strategy = "ddp" if processes > 1 else "auto"
    engine = Engine(default_root_dir=folder + str(processes), max_epochs=1, accelerator="cpu", devices=processes,
                    strategy=strategy, logger=False, enable_progress_bar=False, barebones=False)
    engine.fit(model, datamodule=data)
    if engine.trainer.is_global_zero:
        torch.save(model.model.scorer.state_dict(), f"{folder}/{processes}.pt")
"""


@pytest.mark.slow
def test_two_processes_learn_from_all_normal_images_once(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    for processes in (1, 2):
        command = [
            sys.executable,
            str(script),
            str(processes),
            str(tmp_path / "data"),
            str(TINY_PHANTOM),
            str(TINY_MEMMC),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr[-2000:]
    one, two = (torch.load(tmp_path / "data" / f"{processes}.pt") for processes in (1, 2))
    assert one["is_fitted"]
    for name in ("mean", "whitening"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
