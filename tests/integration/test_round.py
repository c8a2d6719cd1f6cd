"""anomalib's own round over our model: fit, test, validate, train, predict and the exports."""

from pathlib import Path

import pytest
import torch
from anomalib.data import ImageBatch, get_datamodule
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer
from anomalib.engine import Engine
from anomalib.models import get_model, list_models

from anomalib_memmc import MemMCMAE, register
from anomalib_memmc.data import read_image

SMALL = {
    "image_size": [64, 48],
    "patch_size": 16,
    "encoder_dim": 32,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_dim": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "memory_slots": 4,
    "scorer": {
        "class_path": "anomalib_memmc.scoring.MahalanobisScorer",
        "init_args": {"num_masks": 4, "mask_sampler": "complementary"},
    },
    "picture_every": 1,
}

FULL_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}  # OpenVINO's default on many processors is bfloat16


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    register()
    return get_datamodule(
        {
            "class_path": "Phantom",
            "init_args": {
                "root": str(tmp_path_factory.mktemp("phantom")),
                "image_size": 64,
                "num_train": 12,
                "num_test_normal": 4,
                "num_test_anomalous": 4,
                "num_val_normal": 4,
                "train_batch_size": 4,
                "eval_batch_size": 4,
                "num_workers": 0,
            },
        }
    )


def engine_in(folder: Path, **arguments) -> Engine:
    return Engine(default_root_dir=folder, max_epochs=1, devices=1, accelerator="cpu", logger=False, **arguments)


@pytest.fixture(scope="module")
def trained(datamodule, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    model = get_model("mem_mcmae", **SMALL)
    engine = engine_in(folder)
    engine.fit(model, datamodule=datamodule)
    return model, engine, Path(engine.trainer.checkpoint_callback.best_model_path)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The trained model as a file of a type, exported once."""
    model, engine, checkpoint = trained
    files = {}

    def export(export_type):
        if export_type is not ExportType.TORCH:
            pytest.importorskip("onnx")
            pytest.importorskip("onnxscript")
        if export_type not in files:
            root = tmp_path_factory.mktemp(str(export_type))
            files[export_type] = engine.export(
                model, export_type=export_type, export_root=root, input_size=(64, 64), ckpt_path=str(checkpoint)
            )
        return files[export_type]

    return export


def test_names_find_the_model():
    register()
    assert "mem_m_c_m_a_e" in list_models()
    assert isinstance(get_model({"class_path": "anomalib_memmc.MemMCMAE", "init_args": SMALL}), MemMCMAE)
    assert isinstance(get_model("MemMCMAE", **SMALL), MemMCMAE)


def test_fit_leaves_finite_thresholds_and_a_safe_checkpoint(trained):
    model, _, checkpoint = trained
    assert torch.isfinite(model.post_processor.image_threshold)
    assert torch.isfinite(model.post_processor.pixel_threshold)
    loaded = MemMCMAE.load_from_checkpoint(checkpoint, weights_only=True)
    assert loaded.hparams["image_size"] == [64, 48]
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert torch.equal(loaded.post_processor.image_threshold, model.post_processor.image_threshold)


def test_test_from_the_checkpoint_reports_every_metric(trained, datamodule, tmp_path):
    _, _, checkpoint = trained
    (results,) = engine_in(tmp_path).test(MemMCMAE(**SMALL), datamodule=datamodule, ckpt_path=checkpoint)
    names = {
        "image_AUROC",
        "image_F1Score",
        "pixel_AUROC",
        "pixel_AUPRO",
        "pixel_F1Score",
        "pixel_IoU",
        "pixel_OracleIoU",
    }
    assert names <= set(results)
    assert all(0 <= results[name] <= 1 for name in names)
    assert list(tmp_path.rglob("predictions.csv"))
    assert len(list(tmp_path.rglob("images/**/*.png"))) == 8
    assert list(tmp_path.rglob("reconstructions/test.png"))


def test_validate_and_train(datamodule, tmp_path):
    engine = engine_in(tmp_path)
    model = MemMCMAE(**SMALL)
    engine.train(model, datamodule=datamodule)
    engine.validate(model, datamodule=datamodule)
    assert list(tmp_path.rglob("model.ckpt"))
    assert list(tmp_path.rglob("reconstructions/epoch_*.png"))


def test_predict_on_a_folder_and_on_one_image(trained, datamodule, tmp_path):
    _, _, checkpoint = trained
    folder = datamodule.folder / "anomalous"
    images = sorted(folder.glob("*.png"))
    engine = engine_in(tmp_path)
    of_folder = engine.predict(MemMCMAE(**SMALL), data_path=folder, ckpt_path=checkpoint)
    scores = torch.cat([batch.pred_score for batch in of_folder])
    of_image = engine.predict(MemMCMAE(**SMALL), data_path=images[0], ckpt_path=checkpoint)
    assert len(scores) == len(images)
    assert torch.allclose(of_image[0].pred_score, scores[:1], atol=1e-5)
    assert of_image[0].anomaly_map.shape[-2:] == (64, 48)


@pytest.mark.parametrize("export_type", [ExportType.TORCH, ExportType.ONNX, ExportType.OPENVINO])
def test_export_gives_the_numbers_of_a_test(export_type, trained, exported, datamodule, tmp_path, monkeypatch):
    model, _, _ = trained
    file = exported(export_type)
    image = read_image(sorted((datamodule.folder / "anomalous").glob("*.png"))[0]).as_subclass(torch.Tensor)
    model.eval()
    with torch.no_grad():
        expected = model.post_processor(model.model(model.pre_processor.transform(image[None])))
    if export_type is ExportType.TORCH:
        monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
        prediction = TorchInferencer(path=file, device="cpu").predict(image)
        score, anomaly_map = prediction.pred_score, prediction.anomaly_map
    elif export_type is ExportType.OPENVINO:
        monkeypatch.chdir(tmp_path)  # OpenVINO keeps a cache where it is called
        prediction = OpenVINOInferencer(path=file, device="CPU", config=FULL_PRECISION).predict(
            image.permute(1, 2, 0).numpy()
        )
        score, anomaly_map = prediction.pred_score, prediction.anomaly_map
    else:
        outputs = run_exported(export_type, file, image[None].numpy())
        score, anomaly_map = outputs["pred_score"], outputs["anomaly_map"]
    assert torch.as_tensor(score).detach().ravel().numpy() == pytest.approx(expected.pred_score.numpy(), abs=1e-5)
    difference = torch.as_tensor(anomaly_map).detach().squeeze() - expected.anomaly_map.squeeze()
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("export_type", [ExportType.ONNX, ExportType.OPENVINO])
def test_an_export_takes_any_batch(export_type, trained, exported):
    """Batches of 1 and 5, larger than a tile, with the whole map of every image."""
    model, _, _ = trained
    file = exported(export_type)
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        expected = model(images)
    for batch in (images, images[:1]):
        outputs = run_exported(export_type, file, batch.numpy())
        for name in ("pred_score", "anomaly_map"):
            theirs, ours = torch.as_tensor(outputs[name]), getattr(expected, name)[: len(batch)]
            torch.testing.assert_close(theirs.flatten(), ours.flatten(), rtol=0, atol=1e-4)


def run_exported(export_type, file, images) -> dict:
    """Outputs of an exported model by name."""
    if export_type is ExportType.ONNX:
        session = pytest.importorskip("onnxruntime").InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"input": images}), strict=True))
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(file), "CPU", FULL_PRECISION)
    return {output.get_any_name(): value for output, value in compiled([images]).items()}


@pytest.mark.parametrize("export_type", [ExportType.TORCH, ExportType.OPENVINO])
def test_inferencers_score_a_folder_as_a_prediction_does(
    export_type, trained, exported, datamodule, tmp_path, monkeypatch
):
    _, _, checkpoint = trained
    file = exported(export_type)
    folder = datamodule.folder / "anomalous"
    expected = engine_in(tmp_path).predict(MemMCMAE(**SMALL), data_path=folder, ckpt_path=checkpoint)
    expected = {
        path: score for batch in expected for path, score in zip(batch.image_path, batch.pred_score, strict=True)
    }
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.chdir(tmp_path)  # OpenVINO keeps a cache where it is called
    if export_type is ExportType.TORCH:
        inferencer = TorchInferencer(path=file, device="cpu")
    else:
        inferencer = OpenVINOInferencer(path=file, device="CPU", config=FULL_PRECISION)
    files = sorted(folder.glob("*.png"))
    assert len(files) == len(expected)
    for file in files:
        score = torch.as_tensor(inferencer.predict(str(file)).pred_score).detach().flatten()
        assert score.item() == pytest.approx(expected[str(file)].item(), abs=1e-4)


def test_the_image_is_scored_alike_alone_in_a_batch_and_in_another_order(trained, datamodule):
    model, _, _ = trained
    datamodule.setup()
    batch = ImageBatch.collate([datamodule.test_data[i] for i in range(8)])
    images = torch.nn.functional.interpolate(batch.image, size=(64, 48))
    model.eval()
    with torch.no_grad():
        together, backwards = model(images), model(images.flip(0))
        alone = model(images[3:4])
    for name in ("pred_score", "anomaly_map"):
        value = getattr(together, name)
        assert torch.allclose(getattr(backwards, name).flip(0), value, atol=1e-5)
        assert torch.allclose(getattr(alone, name), value[3:4], atol=1e-5)
