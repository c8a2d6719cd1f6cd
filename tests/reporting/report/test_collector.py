from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_memmc.metrics import OracleIoU
from anomalib_memmc.reporting.report import collector
from anomalib_memmc.reporting.report.collector import Collector

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.2]


def module(transform=None):
    post_processor = SimpleNamespace(normalized_image_threshold=torch.tensor(0.5), field_of_view=None)
    return SimpleNamespace(pre_processor=SimpleNamespace(transform=transform), post_processor=post_processor)


def batch(images, start=0, masks=True):
    """The map is the red channel; the truth is bright red."""
    maps, count = images[:, 0], len(images)
    return ImageBatch(
        image=images,
        image_path=[f"{start + index}.png" for index in range(count)],
        gt_label=torch.arange(start, start + count) % 2,
        gt_mask=(maps > 0.8) if masks else None,
        pred_score=torch.linspace(0.1, 0.9, count),
        anomaly_map=maps,
        pred_mask=maps > 0.6,
    )


@pytest.fixture
def pictures():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_iou_is_that_of_the_metrics_image_by_image(pictures):
    taken = Collector(module())
    for start in (0, 3):
        taken.add(batch(pictures[start : start + 3], start))
    cases, found = taken.gathered()
    red = pictures[:, 0]
    truth, predicted = red > 0.8, red > 0.6
    expected = [float((t & p).sum() / (t | p).sum()) for t, p in zip(truth, predicted, strict=True)]
    assert found.learnt == pytest.approx(expected)
    for name, maps in (("best", red), ("brightness", pictures.mean(dim=1))):
        metric = OracleIoU(group_size=6, groups=1)
        metric.update(ImageBatch(image=pictures, anomaly_map=maps, gt_mask=truth))
        assert np.mean(getattr(found, name)) == pytest.approx(float(metric.compute()), abs=1e-6), name
    by_path = {case.path: case.iou for case in cases}
    assert [by_path[f"{index}.png"] for index in range(6)] == pytest.approx(expected)


def test_images_are_kept_as_they_were_before_normalize(pictures):
    transform = Compose([Resize((16, 16)), Normalize(MEAN, STD)])
    taken = Collector(module(transform))
    taken.add(batch(transform(pictures)), loader=1)
    case = next(case for case in taken.gathered()[0] if case.path == "2.png")
    np.testing.assert_allclose(case.image, pictures[2].permute(1, 2, 0) * 255, atol=1)
    assert (case.truth, case.loader) == (0, 1)


def test_without_masks_there_is_no_localisation(pictures):
    taken = Collector(module())
    taken.add(batch(pictures, masks=False))
    cases, found = taken.gathered()
    assert found is None
    assert len(cases) == 6
    assert all(case.mask is None and case.iou is None for case in cases)


def test_what_other_processes_took_counts(pictures, monkeypatch):
    whole, first, other = (Collector(module()) for _ in range(3))
    whole.add(batch(pictures))
    expected = whole.gathered()[1]
    first.add(batch(pictures[:3]))
    other.add(batch(pictures[3:], 3))
    parts = []
    monkeypatch.setattr(collector, "gather_objects", lambda part: parts.append(part) or [part])
    other.gathered()
    monkeypatch.setattr(collector, "gather_objects", lambda part: [part, *parts])
    cases, found = first.gathered()
    for name in ("learnt", "best", "brightness", "centre"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert {case.path for case in cases} == {f"{index}.png" for index in range(6)}
