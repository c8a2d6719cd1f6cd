"""The inspection on phantom images, and its command."""

import copy

import pandas as pd
import pytest
import torch
import yaml
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, PLAIN, TINY_MEMMC, noisy
from sklearn.metrics import roc_auc_score

from anomalib_memmc import FeatureTarget, MemMCMAE, Phantom, cli
from anomalib_memmc.inspection.images import Images
from anomalib_memmc.inspection.operators import inspect_operators
from anomalib_memmc.inspection.start import memory_moves
from anomalib_memmc.inspection.table import number, select
from anomalib_memmc.scoring import MahalanobisScorer, ReconstructionScorer

DATA = {**TINY_PHANTOM, "num_test_normal": 5, "num_test_anomalous": 4}


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    datamodule = Phantom(root=tmp_path_factory.mktemp("inspect"), **DATA)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


@pytest.fixture(scope="module")
def labels(datamodule):
    return torch.tensor(datamodule.test_data.samples["label_index"].to_numpy() == 1)


def build(scorer=None, **overrides):
    scorer = MahalanobisScorer(**FOUR_MASKS) if scorer is None else scorer
    return noisy(MemMCMAE(**{**TINY_MEMMC, **overrides}, scorer=scorer, seed=0).eval())


def inspected(model, datamodule, labels):
    return inspect_operators(model, Images(datamodule.test_data, model), labels, Images(datamodule.normal_data, model))


def test_a_scorer_is_refitted_and_the_model_left_alone(datamodule, labels):
    model = build()
    with torch.no_grad():
        model.model.scorer.fit(model.model.network, Images(datamodule.normal_data, model))
    before = copy.deepcopy(model.model.state_dict())
    table = inspected(model, datamodule, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())
    assert list(select(table, "image_AUROC")["off"]) == [
        "nothing", "memory", "differences of slots", "level 1", "level 2",
    ]  # fmt: skip
    (images,) = Images(datamodule.test_data, model)
    plain = build(memory_slots=0)
    plain.model.load_state_dict(before, strict=False)
    with torch.no_grad():
        expected = roc_auc_score(labels, model.model.score(images).pred_score)
        not_refitted = roc_auc_score(labels, plain.model.score(images).pred_score)
        plain.model.scorer.fit(plain.model.network, Images(datamodule.normal_data, plain))
        refitted = roc_auc_score(labels, plain.model.score(images).pred_score)
    assert number(table, "image_AUROC", off="nothing").value == pytest.approx(expected)
    assert number(table, "image_AUROC_not_refitted", off="nothing").value == pytest.approx(expected)
    assert number(table, "image_AUROC", off="memory").value == pytest.approx(refitted)
    assert number(table, "image_AUROC_not_refitted", off="memory").value == pytest.approx(not_refitted)
    assert number(table, "image_AUROC_change", off="memory").value == pytest.approx(refitted - expected)
    assert number(table, "refit_count").value == 12


@pytest.mark.parametrize("target", [None, {"layers": ["blocks.1"], "pre_trained": False}], ids=["pixels", "features"])
def test_squared_errors_of_pixels_and_their_change(datamodule, labels, target):
    feature_target = None if target is None else FeatureTarget(**target)
    model = build(ReconstructionScorer(**FOUR_MASKS), feature_target=feature_target)
    table = inspected(model, datamodule, labels)
    (images,) = Images(datamodule.test_data, model)

    def errors():
        made = model.model.reconstruct(images)
        hidden = model.model.network.mask_pixels(made.masks)
        return ((made.pixels - images[:, None]).square() * hidden).sum(dim=(1, 2, 3, 4)) / (
            3 * hidden.sum(dim=(1, 2, 3, 4))
        )

    with torch.no_grad():
        before = errors()
        for block in model.model.network.encoder.blocks:
            block.attn.memory_key = None
        after = errors()
    assert number(table, "squared_error", off="nothing", images="normal").value == pytest.approx(
        before[~labels].mean().item(), rel=1e-4
    )
    rise = (after / before - 1)[labels].mean().item()
    assert number(table, "squared_error_change", off="memory", images="anomalous").value == pytest.approx(
        rise, abs=1e-5
    )
    assert not len(select(table, "image_AUROC_not_refitted"))
    assert number(table, "refit_count").value == 0


def test_counts_of_slots_and_tokens(datamodule, labels):
    table = inspected(build(ReconstructionScorer(**FOUR_MASKS)), datamodule, labels)
    assert number(table, "even_share").value == pytest.approx(
        4 / (4 + 1 + 4)
    )  # 4 slots; a class token, 4 of 16 patches
    assert number(table, "memory_slots").value == 4
    assert select(table, "gate", images="all")[["block", "level"]].to_numpy().tolist() == [
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
    ]
    assert list(select(table, "memory_share", images="all")["block"]) == [1, 2]
    assert ((select(table, "slots_of_a_query")["value"].abs()) <= 4).all()


def test_moves_of_the_memory_from_its_seed():
    model = MemMCMAE(**TINY_MEMMC, seed=5)
    assert memory_moves(model) == [0, 0]
    first, second = (block.attn for block in model.model.network.encoder.blocks)
    with torch.no_grad():
        first.memory_key.mul_(1.1)
        first.memory_value.mul_(0.9)
        second.memory_value.mul_(1.2)
    norms = second.memory_key.norm(), second.memory_value.norm() / 1.2
    expected = [0.1, 0.2 * norms[1].item() / torch.stack(norms).norm().item()]
    assert memory_moves(model) == pytest.approx(expected, rel=1e-4)
    model.seed = 6  # unrelated values
    assert memory_moves(model) == []
    assert memory_moves(MemMCMAE(**TINY_MEMMC)) == []
    assert memory_moves(MemMCMAE(**{**TINY_MEMMC, "memory_slots": 0}, seed=5)) == []


def test_a_compiled_model_is_looked_into(datamodule, labels):
    table = inspected(build(ReconstructionScorer(num_masks=1), compile=True, multi_level=[2]), datamodule, labels)
    assert len(select(table, "gate", images="all")) == 2


def test_images_of_one_class(datamodule, labels):
    with pytest.raises(ValueError, match="normal and anomalous test images"):
        inspected(build(), datamodule, labels & False)


def test_images_beyond_the_memory_are_read_each_time(datamodule, monkeypatch):
    model = build()
    kept = list(Images(datamodule.test_data, model, [4, 1]))
    monkeypatch.setattr("anomalib_memmc.inspection.images._KEPT", 0)
    read = Images(datamodule.test_data, model, [4, 1])
    assert read.kept is None
    for _ in range(2):
        torch.testing.assert_close(list(read), kept)
    torch.testing.assert_close(
        kept[0][1], model.pre_processor.transform(datamodule.test_data[1].image).as_subclass(torch.Tensor)
    )


@pytest.fixture(scope="module")
def checkpoints(datamodule, tmp_path_factory):
    """Of a model with both operators, and of one with neither."""
    paths = []
    for operators in ({}, PLAIN):
        model = MemMCMAE(**{**TINY_MEMMC, **operators}, scorer=MahalanobisScorer(**FOUR_MASKS), seed=0)
        engine = Engine(
            default_root_dir=tmp_path_factory.mktemp("run"), max_epochs=1, accelerator="cpu", devices=1, logger=False
        )
        engine.fit(model, datamodule=Phantom(root=datamodule.root, **DATA))
        paths.append(engine.trainer.checkpoint_callback.best_model_path)
    return paths


@pytest.fixture
def run(datamodule, checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"class_path": "anomalib_memmc.MemMCMAE"},
        "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {**DATA, "root": "nowhere"}},
    }
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(config))

    def call(*arguments, checkpoint=checkpoints[0]):
        root = ["--data.init_args.root", str(datamodule.root)]
        return cli.main(["inspect", "--checkpoint", str(checkpoint), "--config", "preset.yaml", *root, *arguments])

    return call


def test_the_command_writes_table_words_and_figure(run, tmp_path, capsys):
    assert run("--output", "out") == 0
    table = pd.read_csv(tmp_path / "out" / "inspect.csv")
    assert list(table.columns) == ["measure", "images", "value", "standard_error", "block", "level", "off"]
    text = (tmp_path / "out" / "inspect.txt").read_text()
    assert "Does the memory hold normal patterns?" in text
    assert "Training moved the memory by" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "out" / "inspect.png").stat().st_size > 10_000


def test_the_command_on_a_model_with_neither_operator(run, checkpoints, tmp_path):
    assert run("--output", "out", checkpoint=checkpoints[1]) == 0
    text = (tmp_path / "out" / "inspect.txt").read_text()
    assert "has no memory" in text
    assert "attends to no encoder levels" in text
    assert list(select(pd.read_csv(tmp_path / "out" / "inspect.csv"), "image_AUROC")["off"]) == ["nothing"]


def test_a_missing_checkpoint(run, capsys):
    assert run(checkpoint="missing.ckpt") == 1
    assert "There is no checkpoint missing.ckpt" in capsys.readouterr().err


def test_the_anomalous_images_of_a_stratum(run, datamodule, tmp_path, capsys):
    samples = datamodule.test_data.samples
    strata = samples["stratum"][samples["label_index"] == 1]
    assert run("--stratum", strata.iloc[0]) == 0
    table = pd.read_csv(tmp_path / "results" / "inspect" / "inspect.csv")
    assert number(table, "image_count", images="anomalous").value == (strata == strata.iloc[0]).sum()
    assert number(table, "image_count", images="normal").value == 5
    assert run("--stratum", "elsewhere") == 1
    assert f"'elsewhere'; there are: {', '.join(sorted(set(strata)))}" in capsys.readouterr().err
