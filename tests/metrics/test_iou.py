import doctest

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from torch.nn.functional import avg_pool2d

from anomalib_memmc.metrics import IoU, OracleIoU, iou


def images(count, seed=0, size=24):
    """Smooth maps that say something about the masks."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 1, size, size, generator=generator)
    smooth = avg_pool2d(noise, 7, 1, 3)
    masks = smooth > smooth.flatten(1).quantile(0.8, dim=1).view(-1, 1, 1, 1)
    maps = (smooth * 0.7 + 0.15 * torch.rand(noise.shape, generator=generator)).clamp(0, 1)
    return maps, masks.squeeze(1)


def batch(maps, masks, threshold=0.45):
    return ImageBatch(
        image=torch.zeros(len(maps), 3, *maps.shape[-2:]), anomaly_map=maps, pred_mask=maps > threshold, gt_mask=masks
    )


def brute_ious(maps, masks, threshold):
    values = []
    for anomaly_map, mask in zip(maps.squeeze(1).numpy(), masks.numpy(), strict=True):
        if mask.any():
            pred = anomaly_map > np.float32(threshold)
            values.append((pred & mask).sum() / (pred | mask).sum())
    return np.array(values)


def test_iou_is_brute_force_over_anomalous_images():
    maps, masks = images(20)
    masks[::3] = False
    metric = IoU(prefix="pixel_")
    for part in range(0, 20, 6):
        metric.update(batch(maps[part : part + 6], masks[part : part + 6]))
    assert metric.name == "pixel_IoU"
    assert metric.compute().item() == pytest.approx(brute_ious(maps, masks, 0.45).mean(), abs=1e-6)
    # fewer than a hundred: every group is all of them
    assert metric.group_means().unique().numel() == 1


def test_oracle_is_the_best_global_threshold():
    maps, masks = images(12)
    masks[:2] = False
    metric = OracleIoU()
    metric.update(batch(maps, masks))
    curve = np.array([brute_ious(maps, masks, t).mean() for t in metric.thresholds.tolist()])
    np.testing.assert_allclose(metric.mean_curve().numpy(), curve, atol=1e-6)
    assert metric.best_threshold() == metric.thresholds[curve.argmax()]
    assert metric.compute().item() == pytest.approx(curve.max(), abs=1e-6)
    # between grid points there is nothing much better
    finest = max(brute_ious(maps, masks, t).mean() for t in np.unique(maps.numpy())[::4])
    assert metric.compute().item() >= finest - 0.003


def test_oracle_looks_closely_at_both_ends():
    maps, masks = images(6)
    for squeezed in (maps * 1e-3, 1 - (1 - maps) * 1e-3):
        metric = OracleIoU()
        metric.update(batch(squeezed, masks))
        best = max(brute_ious(squeezed, masks, t).mean() for t in np.unique(squeezed.numpy())[::4])
        assert metric.compute().item() >= best - 0.02


@pytest.mark.parametrize("metric_class", [IoU, OracleIoU])
def test_groups_depend_on_the_seed_not_on_the_order(metric_class):
    maps, masks = images(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    forward, shuffled, other = (metric_class(group_size=10, seed=seed) for seed in (0, 0, 1))
    forward.update(batch(maps, masks))
    for part in order.split(7):
        shuffled.update(batch(maps[part], masks[part]))
    other.update(batch(maps, masks))
    assert forward.group_means().unique().numel() == 5
    torch.testing.assert_close(forward.group_means(), shuffled.group_means())
    assert not torch.equal(forward.group_means(), other.group_means())
    whole = brute_ious(maps, masks, 0.45).mean() if metric_class is IoU else forward.mean_curve().max().item()
    assert forward.compute().item() == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize("metric_class", [IoU, OracleIoU])
def test_channel_axis_does_not_matter(metric_class):
    maps, masks = images(4)
    field = maps if metric_class is OracleIoU else maps > 0.45
    values = []
    for preds in (field, field.squeeze(1)):
        for target in (masks, masks.unsqueeze(1)):
            metric = metric_class()
            metric.__class__.__mro__[2].update(metric, preds, target)
            values.append(metric.image_ious())
    assert all(torch.equal(values[0], value) for value in values[1:])


@pytest.mark.parametrize("metric_class", [IoU, OracleIoU])
def test_without_masks(metric_class):
    maps, masks = images(3)
    lenient = metric_class(strict=False)
    lenient.update(batch(maps, None))
    assert lenient.compute() is None
    with pytest.raises(ValueError, match="gt_mask"):
        metric_class().update(batch(maps, None))
    normal = metric_class()
    normal.update(batch(maps, torch.zeros_like(masks)))
    assert torch.isnan(normal.compute())
    normal.reset()
    normal.update(batch(maps, masks))
    assert 0 < normal.compute() <= 1


@pytest.mark.parametrize("metric_class", [IoU, OracleIoU])
def test_states_gathered_from_processes_are_one_set(metric_class):
    maps, masks = images(10)
    whole, *parts = metric_class(), metric_class(), metric_class()
    whole.update(batch(maps, masks))
    for part, chosen in zip(parts, (slice(0, 4), slice(4, 10)), strict=True):
        part.update(batch(maps[chosen], masks[chosen]))
    gathered = metric_class()
    gathered.update(batch(maps[:1], masks[:1]))
    for name in gathered._reductions:
        assert gathered._reductions[name].__name__ == "dim_zero_cat"
        setattr(gathered, name, torch.cat([value for part in parts for value in getattr(part, name)]))
    torch.testing.assert_close(gathered.compute(), whole.compute())


def test_sizes_must_match_and_arguments_make_sense():
    with pytest.raises(ValueError, match="differ in shape"):
        iou._IoU().update(torch.ones(1, 4, 4), torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match="at least 1"):
        IoU(groups=0)


def test_docstring_example():
    assert doctest.testmod(iou).failed == 0
