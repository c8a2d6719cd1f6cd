"""One image file is judged as a test judges it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_memmc import Detector
from anomalib_memmc.data import ImageReadError, read_image
from anomalib_memmc.reporting.pictures import mean_prediction


@pytest.fixture(scope="module")
def detector(trained):
    return Detector(str(trained.checkpoint), "cpu")


def test_a_judgement_is_that_of_the_test(detector, trained):
    for row in trained.predictions.iloc[[0, 5, 20]].to_dict("records"):
        result = detector.judge(row["image_path"])
        for name in ("score", "threshold", "label", "percentile", "p_value", "spread"):
            assert getattr(result, name) == pytest.approx(row[name], abs=1e-6), name
        assert result.error is None


def test_map_and_reconstruction_are_the_models(detector, trained):
    path = trained.predictions["image_path"][0]
    result, model = detector.judge(path), detector.model
    image = model.pre_processor.transform(read_image(path)).as_subclass(torch.Tensor)[None]
    with torch.no_grad():
        expected, reconstruction = model(image), model.model.reconstruct(image)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map[0, 0])
    assert torch.equal(result.anomaly_map > result.map_threshold, expected.pred_mask[0, 0])
    mean = mean_prediction(image, reconstruction.pixels, reconstruction.masks)[0]
    torch.testing.assert_close(result.reconstruction, mean)


def test_a_pixel_is_the_mean_of_its_predictions_where_it_was_hidden():
    image = torch.full((1, 1, 2, 4), 9.0)
    predicted = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 2, 4)
    masks = torch.tensor([[[True, False], [True, False], [False, False]]])  # of two patches; the second is never hidden
    mean = mean_prediction(image, predicted, masks)
    assert mean[0, 0].tolist() == [[1.5, 1.5, 9, 9], [1.5, 1.5, 9, 9]]


def test_a_file_that_cannot_be_read_is_one_error(detector, tmp_path):
    (tmp_path / "bad.png").write_text("text")
    with pytest.raises(ImageReadError, match=r"bad\.png"):
        detector.judge(tmp_path / "bad.png")
    with pytest.raises(ImageReadError, match=r"gone\.png"):
        detector.judge(tmp_path / "gone.png")


def test_16_bits_are_judged_like_8(detector, trained, tmp_path):
    path = Path(trained.predictions["image_path"][0])
    grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
    grey[0, 0], grey[0, 1] = 0, 255  # the full range, to which a deep image is stretched
    Image.fromarray((grey * 16).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "flat.png")
    deep, flat = (detector.judge(tmp_path / name).score for name in ("deep.png", "flat.png"))
    assert deep == pytest.approx(flat, abs=1e-5)
