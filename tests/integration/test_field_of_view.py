"""A field of view from end to end: from a configuration, through training, checkpoint and export, for every model."""

import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC

from anomalib_memmc import MemMCMAE, NormalQuantilePostProcessor
from anomalib_memmc.benchmark.job import build
from anomalib_memmc.data import read_image

FIELD = {
    "class_path": "anomalib_memmc.NormalQuantilePostProcessor",
    "init_args": {"field_of_view": {"class_path": "anomalib_memmc.FieldOfView", "init_args": {"darkness": 0.1}}},
}
TRANSFORMS = [
    {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [64, 64]}},
    {
        "class_path": "torchvision.transforms.v2.Normalize",
        "init_args": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    },
]
STANDARDISE = {
    "class_path": "anomalib.pre_processing.PreProcessor",
    "init_args": {
        "transform": {"class_path": "torchvision.transforms.v2.Compose", "init_args": {"transforms": TRANSFORMS}}
    },
}
RESNET = {
    "backbone": "resnet18",
    "pre_trained": False,
    "layers": ["layer1", "layer2"],
    "pre_processor": STANDARDISE,
}
SCORER = {"class_path": "anomalib_memmc.scoring.ReconstructionScorer", "init_args": FOUR_MASKS}
MODELS = {
    "MemMCMAE": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**TINY_MEMMC, "scorer": SCORER}},
    "PaDiM": {"class_path": "anomalib.models.Padim", "init_args": {**RESNET, "n_features": 8}},
    "PatchCore": {"class_path": "anomalib.models.Patchcore", "init_args": {**RESNET, "coreset_sampling_ratio": 0.02}},
}


def built(name, folder):
    """A model with a field of view and phantoms, which have a black border around a disc, as a benchmark has them."""
    model = MODELS[name]
    return build(
        {
            "model": {**model, "init_args": {**model["init_args"], "post_processor": FIELD}},
            "data": {
                "class_path": "anomalib_memmc.Phantom",
                "init_args": {**TINY_PHANTOM, "image_size": 64, "root": str(folder)},
            },
            "trainer": {"max_epochs": 1},
        }
    )


def engine_in(folder):
    return Engine(
        default_root_dir=folder,
        max_epochs=1,
        devices=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )


def corners(size):
    """Certainly outside the disc, bool (size, size)."""
    axis = torch.linspace(-1, 1, size)
    return axis[None] ** 2 + axis[:, None] ** 2 > 1.15


@pytest.mark.parametrize("name", MODELS)
def test_no_model_finds_anything_on_the_border(name, tmp_path):
    model, datamodule, _ = built(name, tmp_path / "data")
    assert model.post_processor.field_of_view.darkness == 0.1
    engine = engine_in(tmp_path / "run")
    engine.fit(model, datamodule=datamodule)
    threshold = model.post_processor.pixel_threshold.clone()
    assert torch.isfinite(threshold)
    engine.test(model, datamodule=datamodule)
    batches = engine.predict(model, dataloaders=datamodule.test_dataloader())
    for batch in batches:
        outside = corners(batch.anomaly_map.shape[-1]).expand_as(batch.pred_mask)
        assert not batch.pred_mask[outside].any()
        least = batch.anomaly_map.amin(dim=(1, 2), keepdim=True).expand_as(batch.anomaly_map)
        assert torch.equal(batch.anomaly_map[outside], least[outside])
        assert batch.anomaly_map[~outside].std() > 0

    checkpoint = engine.trainer.checkpoint_callback.best_model_path
    parts = {"post_processor": NormalQuantilePostProcessor(), "evaluator": MemMCMAE.configure_evaluator()}
    loaded = type(model).load_from_checkpoint(checkpoint, **({} if name == "MemMCMAE" else parts))
    assert loaded.post_processor.field_of_view.darkness == 0.1
    assert torch.equal(loaded.post_processor.pixel_threshold, threshold)


@pytest.mark.slow
@pytest.mark.parametrize("export_type", [ExportType.TORCH, ExportType.ONNX])
def test_an_exported_model_leaves_the_border_out_as_a_test_does(export_type, tmp_path):
    model, datamodule, _ = built("MemMCMAE", tmp_path / "data")
    engine = engine_in(tmp_path / "run")
    engine.fit(model, datamodule=datamodule)
    (batch,) = engine.predict(model, dataloaders=datamodule.test_dataloader())
    images = torch.stack([read_image(path).as_subclass(torch.Tensor) for path in batch.image_path])
    file = engine.export(model, export_type=export_type, export_root=tmp_path, input_size=(64, 64))
    if export_type is ExportType.TORCH:
        with torch.no_grad():
            outputs = torch.load(file, weights_only=False)["model"].eval()(images)._asdict()
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
    maps, masks = (torch.as_tensor(outputs[name]).squeeze(1) for name in ("anomaly_map", "pred_mask"))
    torch.testing.assert_close(maps, batch.anomaly_map.as_subclass(torch.Tensor), rtol=0, atol=1e-4)
    assert (masks.bool() == batch.pred_mask).float().mean() > 0.999
    assert not masks[corners(32).expand_as(masks)].any()


def test_padim_says_why_it_cannot_be_called_or_exported_with_one(tmp_path):
    model, _, _ = built("PaDiM", tmp_path)
    model.model.forward = lambda images: InferenceBatch(pred_score=None, anomaly_map=images.mean(dim=1, keepdim=True))
    with pytest.raises(ValueError, match=r"set post_processor\.field_of_view = None"):
        model(torch.rand(1, 3, 64, 64))


def test_pictures_of_reconstructions_leave_the_border_out(tmp_path):
    from anomalib_memmc.callbacks.reconstructions import reconstruction_rows

    model, datamodule, _ = built("MemMCMAE", tmp_path)
    datamodule.setup()
    images = torch.nn.functional.interpolate(torch.stack([datamodule.test_data[0].image]), size=(32, 32))
    with torch.no_grad():
        (row,) = reconstruction_rows(model.eval(), [{"image": images[0], "anomalous": None, "mask": None}])
    assert (row.anomaly_map[corners(32)] == row.anomaly_map.min()).all()


def test_the_command_line_builds_it(tmp_path):
    from anomalib_memmc import cli

    (tmp_path / "field.yaml").write_text(
        "model:\n"
        "  class_path: anomalib_memmc.MemMCMAE\n"
        "  init_args:\n"
        "    post_processor:\n"
        "      class_path: anomalib_memmc.NormalQuantilePostProcessor\n"
        "      init_args: {field_of_view: {class_path: anomalib_memmc.FieldOfView, init_args: {radius: 0.03}}}\n"
    )
    with pytest.raises(SystemExit) as exit_:
        cli.main(
            ["fit", "--config", str(tmp_path / "field.yaml"), "--data", "anomalib_memmc.Phantom", "--print_config"]
        )
    assert exit_.value.code == 0
