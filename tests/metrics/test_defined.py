import anomalib.metrics
import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_memmc.metrics import AUROC, F1Score


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
