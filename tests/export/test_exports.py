"""What an export of a grey model scores, and the papers beside it."""

import hashlib
import json
import logging
import re

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE
from anomalib_memmc.export import module
from anomalib_memmc.export.metadata import weights_digest
from anomalib_memmc.model.normalization import normalize

KINDS = {"torch": ["model.pt"], "onnx": ["model.onnx", "model.onnx.data"], "openvino": ["model.xml", "model.bin"]}
NAMES = ("pred_score", "pred_label", "anomaly_map", "pred_mask")


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def run(request, root):
    """Outputs of an export by name."""
    if request.param == "onnx":
        session = onnxruntime.InferenceSession(root / "results/weights/onnx/model.onnx")
        names = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(names, session.run(None, {"input": images}), strict=True))
    file = str(root / "results/weights/openvino/model.xml")
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {output.get_any_name(): value for output, value in compiled([images]).items()}


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_grey_and_colour_images_of_any_size_are_scored_as_the_model_does(run, grey):
    model, _ = grey
    for batch in (images(1, 1, 32, 32), images(3, 1, 40, 56), images(2, 3, 24, 32)):
        with torch.no_grad():
            expected = model(batch)._asdict()
        found = run(batch.numpy())
        assert set(found) == set(NAMES)
        for name in NAMES:
            values = expected[name].numpy()
            assert np.asarray(found[name], dtype=float) == pytest.approx(values.astype(float), abs=1e-4), name


def test_an_image_of_another_range_has_no_score_and_is_not_called_normal(run):
    batch = images(3, 1, 32, 32)
    alone = run(batch[:1].numpy())["pred_score"]
    batch[1] *= 255
    batch[2] = (batch[2] - 0.45) / 0.22
    found = run(batch.numpy())
    assert found["pred_score"][0] == pytest.approx(alone[0], abs=1e-4)
    assert np.isnan(found["pred_score"]).tolist() == [False, True, True]
    assert np.isnan(found["anomaly_map"][1:]).all()
    assert found["pred_label"][1:].all()


def test_channels_that_the_model_does_not_take_have_no_score(run):
    assert np.isnan(run(images(1, 4, 32, 32).numpy())["pred_score"]).all()


def test_a_torch_export_scores_as_it_is_loaded(root, grey):
    model, _ = grey
    loaded = torch.load(root / "results/weights/torch/model.pt", weights_only=False)["model"]
    with torch.no_grad():
        assert torch.equal(loaded(images(1, 1, 32, 32)).pred_score, model(images(1, 1, 32, 32)).pred_score)


def test_in_python_they_are_an_error(grey):
    model, _ = grey
    with pytest.raises(ValueError, match="divide 8-bit pixels by 255"):
        model(images(1, 1, 32, 32) * 255)
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        model(images(1, 4, 32, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_describes_the_export(kind, root, grey):
    model, checkpoint = grey
    folder = root / "results/weights" / kind
    metadata = json.loads((folder / "metadata.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*KINDS[kind], "README.md", "metadata.json"])
    assert (metadata["model"], metadata["format"]) == ("MemMCMAE", kind)
    assert metadata["input"]["channels"] == [1, 3]
    assert metadata["input"]["resized_inside_to"] == [32, 32]
    assert metadata["input"]["size"] == "any"
    assert metadata["threshold"]["score"] == model.post_processor.image_threshold.item()
    assert metadata["threshold"]["pred_score"] == 0.5
    score = torch.tensor([0.9, 0.1, 0.4])
    z = (score - metadata["threshold"]["score"]) / metadata["threshold"]["scale"]
    post_processor = model.post_processor
    ends = (post_processor.image_min, post_processor.image_max, post_processor.image_threshold)
    torch.testing.assert_close(0.5 + 0.5 * z / (1 + z.abs()), normalize(score, *ends))
    assert metadata["threshold"]["normal_images"] == 4
    assert metadata["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert metadata["weights_sha256"] == weights_digest(MemMCMAE.load_from_checkpoint(checkpoint, weights_only=True))
    assert set(metadata["outputs"]) == set(NAMES)
    assert metadata["outputs"]["anomaly_map"]["shape"][-2:] == [32, 32]
    for name in KINDS[kind]:
        assert metadata["files"][name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_the_readme_has_the_numbers(root):
    folder = root / "results/weights/onnx"
    text, metadata = (folder / "README.md").read_text(), json.loads((folder / "metadata.json").read_text())
    assert f"above {metadata['threshold']['score']:.6g} for an anomalous image" in text
    assert f"z = (score - {metadata['threshold']['score']:.6g}) / {metadata['threshold']['scale']:.6g}" in text
    assert "1 or 3 channels (grey, or RGB to be averaged), images of any size" in text
    assert metadata["weights_sha256"] in text
    assert not re.search(r"\b(None|nan|null)\b", text)


def test_onnx_metadata_is_that_of_the_file(root):
    folder = root / "results/weights/onnx"
    props = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    written = json.loads((folder / "metadata.json").read_text())
    del written["files"]  # its own checksum cannot be in a file
    assert json.loads(props["anomalib_memmc"]) == written
    assert json.loads(props["anomalib_memmc.threshold"]) == written["threshold"]
    onnx.checker.check_model(folder / "model.onnx")


def test_an_onnx_file_names_no_file_of_this_machine(root):
    content = (root / "results/weights/onnx/model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b"attention.py" not in content


def test_an_export_of_a_fixed_size_says_few_words(grey, tmp_path, capfd, caplog):
    model, _ = grey
    with caplog.at_level(logging.INFO):
        model.to_onnx(tmp_path, "small", input_size=(40, 48))
    printed = capfd.readouterr()
    assert len((printed.out + printed.err).splitlines()) < 10
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("anomalib_memmc", "onnx"))]
    assert said == [f"Exported to {tmp_path / 'weights/onnx'}: small.onnx, metadata.json, README.md"] or (
        said == [f"Exported to {tmp_path / 'weights/onnx'}: small.onnx, small.onnx.data, metadata.json, README.md"]
    )
    metadata = json.loads((tmp_path / "weights/onnx/metadata.json").read_text())
    assert metadata["input"]["size"] == [40, 48]
    shape = onnxruntime.InferenceSession(tmp_path / "weights/onnx/small.onnx").get_inputs()[0].shape
    assert shape[2:] == [40, 48]


@pytest.mark.parametrize(("method", "missing"), [("to_onnx", "onnxscript"), ("to_openvino", "openvino")])
def test_a_missing_package_is_one_message_and_writes_nothing(grey, tmp_path, monkeypatch, method, missing):
    model, _ = grey
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(RuntimeError, match=rf"needs {missing}: pip install 'anomalib-memmc\[export\]'"):
        getattr(model, method)(tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_thresholds_the_papers_say_so(tmp_path):
    MemMCMAE(**TINY_MEMMC).to_torch(tmp_path)
    folder = tmp_path / "weights/torch"
    assert json.loads((folder / "metadata.json").read_text())["threshold"]["score"] is None
    assert "a threshold that was not learnt" in (folder / "README.md").read_text()
