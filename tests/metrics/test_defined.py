import math

import anomalib.metrics
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from helpers.brightness import PictureData
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE
from anomalib_memmc.metrics import AUROC, F1Score
from anomalib_memmc.scoring import ReconstructionScorer


def value(metric, labels, strict=True):
    fields = ["pred_score", "gt_label"] if issubclass(metric, anomalib.metrics.AUROC) else ["pred_label", "gt_label"]
    metric = metric(fields=fields, prefix="image_", strict=strict)
    scores = torch.tensor([0.2, 0.7, 0.4, 0.9])
    batch = ImageBatch(image=torch.rand(4, 3, 4, 4), pred_score=scores, pred_label=scores > 0.5)
    batch.gt_label = None if labels is None else torch.tensor(labels, dtype=torch.bool)
    metric.update(batch)
    return metric.compute()


@pytest.mark.parametrize(("metric", "theirs"), [(AUROC, anomalib.metrics.AUROC), (F1Score, anomalib.metrics.F1Score)])
def test_with_both_classes_they_are_anomalibs(metric, theirs):
    assert value(metric, [0, 1, 1, 1]) == value(theirs, [0, 1, 1, 1]) > 0
    assert metric.__name__ == theirs.__name__
    assert value(metric, None, strict=False) is None


def test_with_one_class_they_are_nan_where_they_are_not_defined():
    assert value(AUROC, [0, 0, 0, 0]).isnan()
    assert value(AUROC, [1, 1, 1, 1]).isnan()
    assert value(F1Score, [0, 0, 0, 0]).isnan()
    assert value(F1Score, [1, 1, 1, 1]) == pytest.approx(2 / 3)


def test_a_test_part_of_normal_images_is_said_to_have_no_auroc(picture_parts, tmp_path, capsys):
    picture_parts["test"] = picture_parts["test"][picture_parts["test"]["label_index"] == 0].reset_index(drop=True)
    model = MemMCMAE(**TINY_MEMMC, scorer=ReconstructionScorer(num_masks=2), visualizer=False)
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    (results,) = engine.test(model, datamodule=PictureData(picture_parts))
    undefined = {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_AUPRO", "pixel_F1Score", "pixel_OracleIoU"}
    assert undefined <= {name for name, number in results.items() if math.isnan(number)}
    printed = capsys.readouterr().out
    assert "No AUROC: it takes images of both classes, and all are normal." in " ".join(printed.split())
    (row,) = [line for line in printed.splitlines() if "image_AUROC" in line]
    assert "nan" in row
