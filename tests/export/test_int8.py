"""Exports of 8 bits: made of normal training images, compared on the test part, and refused where they lose."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import openvino
import pandas as pd
import pytest
from anomalib.deploy import CompressionType
from sklearn.metrics import roc_auc_score

from anomalib_memmc import Phantom, cli
from anomalib_memmc.export import int8, module
from anomalib_memmc.export.int8 import compare

pytest.importorskip("nncf")

SIZES = {"image_size": 32, "num_train": 8, "num_test_normal": 4, "num_test_anomalous": 4, "num_workers": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    phantom = Phantom(kind="radiograph", root=tmp_path_factory.mktemp("data"), **SIZES)
    phantom.setup()
    return phantom


def score(folder, images):
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array([compiled(image[None].numpy())["pred_score"][0] for image in images])


class Listener(logging.Handler):
    """A handler of a program's own, that keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def emit(self, record):
        self.heard.append((record.name, record.levelno))


@pytest.fixture(scope="module")
def listener():
    """Told of all that the root's logger and nncf's, which does not pass it on, are told of."""
    loggers = [logging.getLogger(), logging.getLogger("nncf")]
    listener = Listener()
    for each in loggers:
        each.addHandler(listener)
    yield listener
    for each in loggers:
        each.removeHandler(listener)


@pytest.fixture(scope="module")
def command(grey, data, listener, tmp_path_factory):
    """Folder of an export of 8 bits, by the command."""
    del listener
    _, checkpoint = grey
    root = tmp_path_factory.mktemp("int8")
    words = ["--model", "MemMCMAE", "--export_type", "openvino", "--ckpt_path", checkpoint, "--data", "Phantom"]
    words += [f"--data.init_args.{key}={value}" for key, value in SIZES.items()]
    words += ["--data.init_args.kind=radiograph", f"--data.init_args.root={data.root}"]
    words += ["--compression_type", "INT8_PTQ", "--export_root", str(root), "--default_root_dir", str(root)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "MAX_LOSS", 1.0)  # eight images of a model that learnt nothing
        assert cli.main(["export", *words]) == 0
    return root / "weights/openvino"


def test_the_papers_say_what_8_bits_lost(command, root, data):
    written = json.loads((command / "metadata.json").read_text())["int8"]
    images, labels = zip(*[(item.image, int(item.gt_label)) for item in data.test_data], strict=True)
    full, small = score(root / "results/weights/openvino", images), score(command, images)
    difference = np.abs(full - small).max()
    assert 0 < difference < 0.2
    assert written["largest_score_difference"] == pytest.approx(difference, abs=1e-5)
    assert written["image_AUROC"]["float32"] == pytest.approx(roc_auc_score(labels, full))
    assert written["image_AUROC"]["int8"] == pytest.approx(roc_auc_score(labels, small))
    assert (written["normal_images"], written["anomalous_images"]) == (4, 4)
    assert written["calibration_images"] == len(data.normal_data)
    assert "| image AUROC | " in (command / "README.md").read_text()
    assert "8 bits" not in (root / "results/weights/openvino/README.md").read_text()


def test_the_programs_own_handlers_stay_as_they_were(command, listener):
    """nncf's own way to be quiet sets the level of every handler that its logger has, whomever it belongs to."""
    del command
    assert not [level for name, level in listener.heard if name.startswith("nncf") and level < logging.ERROR]
    listener.heard.clear()
    logging.getLogger("anomalib_memmc.callbacks").warning("after the export")
    logging.getLogger("nncf").warning("after the export")
    assert listener.heard == [("anomalib_memmc.callbacks", logging.WARNING), ("nncf", logging.WARNING)]


def test_only_the_network_is_quantised(command):
    operators = openvino.Core().read_model(command / "model.xml").get_ops()
    products = [op for op in operators if op.get_type_name() in {"MatMul", "Convolution"}]
    small = {op.get_friendly_name() for op in products if is_small(op.input_value(1).get_node())}
    assert {name.startswith(("model.network.encoder.", "model.network.decoder.")) for name in small} == {True}
    assert any("mlp.fc1" in name for name in small)
    assert len(small) < len(products)


def is_small(node):
    """Whether a product's second factor is quantised."""
    while node.get_type_name() in {"Convert", "Multiply", "Subtract", "Reshape", "Transpose"}:
        node = node.input_value(0).get_node()
    return node.get_type_name() == "FakeQuantize" or node.get_element_type().size == 1


def test_float16_is_named_and_halves_the_file(grey, root, tmp_path):
    model, _ = grey
    path = model.to_openvino(tmp_path, compression_type=CompressionType.FP16)
    assert json.loads((path.parent / "metadata.json").read_text())["weights"] == "float16"
    assert "Weights are stored in float16." in (path.parent / "README.md").read_text()
    whole = root / "results/weights/openvino"
    assert path.with_suffix(".bin").stat().st_size < 0.6 * (whole / "model.bin").stat().st_size
    assert "weights" not in json.loads((whole / "metadata.json").read_text())


def test_what_loses_is_refused_and_nothing_is_left(grey, data, tmp_path, monkeypatch):
    model, _ = grey
    monkeypatch.setattr(int8, "MAX_LOSS", -1.0)
    with pytest.raises(ValueError, match=r"image AUROC of \d.*float32 twin \d.*Nothing was written"):
        model.to_openvino(tmp_path / "exports", compression_type="int8_ptq", datamodule=data, input_size=(40, 48))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("anomalous_below", "is_refused"), [(0, False), (40, False), (60, True)])
def test_the_bar_is_half_a_percent(anomalous_below, is_refused):
    labels = np.arange(200) // 100
    full = np.stack([np.arange(200) / 200, labels], axis=1)
    small = full.copy()
    small[0, 0] = (99.5 + anomalous_below) / 200  # one of 100 normal images comes to lie above some anomalous ones
    if is_refused:
        with pytest.raises(ValueError, match=r"AUROC of 0\.9940, its float32 twin 1\.0000: it loses more than 0\.005"):
            compare(full, small, labels, "X")
    else:
        found = compare(full, small, labels, "X")
        assert found["image_AUROC"] == {"float32": 1.0, "int8": pytest.approx(1 - anomalous_below / 10_000)}
        assert found["largest_score_difference"] == small[0, 0]
        assert found["verdicts_that_differ"] == 0


def test_an_image_without_a_score_is_refused():
    whole, without = np.array([[0.1, 0], [0.9, 1]]), np.array([[np.nan, 1], [0.9, 1]])
    with pytest.raises(ValueError, match="export of 8 bits gives 1 of 2 test images of X no score"):
        compare(whole, without, np.array([0, 1]), "X")
    with pytest.raises(ValueError, match="twin of the export gives 1 of 2 test images of X no score"):
        compare(without, whole, np.array([0, 1]), "X")


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("compression", ["INT8_PTQ", "FP16"])
def test_other_exports_refuse_a_compression(grey, tmp_path, capsys, kind, compression):
    _, checkpoint = grey
    words = ["--model", "MemMCMAE", "--export_type", kind, "--ckpt_path", checkpoint, "--export_root", str(tmp_path)]
    assert cli.main(["export", *words, "--compression_type", compression, "--default_root_dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"--compression_type {compression} is of OpenVINO exports: take --export_type openvino" in error
    assert not list(tmp_path.iterdir())


def normals_only():
    test = SimpleNamespace(samples=pd.DataFrame({"label_index": [0, 0, 0]}))
    return SimpleNamespace(name="Normals", setup=lambda: None, test_data=test)


@pytest.mark.parametrize(
    ("kind", "datamodule", "reason"),
    [
        ("int8_ptq", None, "name the data, as in --data Folder"),
        ("int8_ptq", normals_only(), "normal and anomalous test images: Normals has 3 and 0"),
        ("int8", normals_only(), "INT8 is not offered"),
        ("int8_acq", normals_only(), "INT8_ACQ is not offered"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(kind, datamodule, reason, grey, tmp_path):
    model, _ = grey
    with pytest.raises(ValueError, match=reason):
        model.to_openvino(tmp_path, compression_type=CompressionType(kind), datamodule=datamodule)
    assert not list(tmp_path.iterdir())


def test_without_its_package_it_is_one_message(grey, tmp_path, monkeypatch):
    model, _ = grey
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(RuntimeError, match=r"needs nncf: pip install 'anomalib-memmc\[int8\]'"):
        model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ)
    assert not list(tmp_path.iterdir())
