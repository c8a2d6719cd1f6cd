import anomalib.metrics
import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_memmc.metrics import PixelAUPRO, PixelAUROC


def batches(transform, count=3, seed=0):
    """Maps of noise, higher where the masks are: one image of two regions, one of one, two without."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        masks = torch.zeros(4, 40, 48, dtype=torch.bool)
        masks[:2, 5:15, 8:30] = True
        masks[0, 25:30, 2:9] = True
        noise = torch.randn(masks.shape, generator=generator) + 1.5 * masks
        yield ImageBatch(image=torch.rand(4, 3, 40, 48), anomaly_map=transform(noise), gt_mask=masks)


def normalized(z):
    return 0.5 + 0.5 * z / (1 + z.abs())


VALUES = {
    "as the post-processor leaves them": normalized,
    "far above the threshold": lambda z: normalized(2000 + 300 * z),
    "far below the threshold": lambda z: normalized(300 * z - 2000),
    "steps": lambda z: normalized((2 * z).round()),
    "raw, without an upper end": lambda z: z.exp(),
    "raw and tiny": lambda z: 1e-5 * z.exp(),
}


@pytest.mark.parametrize("transform", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize(
    ("ours", "theirs"), [(PixelAUROC, anomalib.metrics.AUROC), (PixelAUPRO, anomalib.metrics.AUPRO)]
)
def test_histograms_give_anomalibs_area(transform, ours, theirs):
    fields = ["anomaly_map", "gt_mask"]
    ours, theirs = ours(prefix="pixel_"), theirs(fields=fields, prefix="pixel_")
    for batch in batches(transform):
        ours.update(batch)
        if isinstance(theirs, anomalib.metrics.AUROC):  # which squashes values above 1 batch by batch
            batch.anomaly_map = batch.anomaly_map / batch.anomaly_map.max().clamp(min=1e3)
        theirs.update(batch)
    assert ours.name == theirs.name
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), abs=2e-5)


@pytest.mark.parametrize("metric", [PixelAUROC, PixelAUPRO])
def test_memory_does_not_grow_and_parts_add_up(metric):
    whole, parts = metric(), [metric(), metric()]
    sizes = set()
    for index, batch in enumerate(batches(normalized, count=6)):
        whole.update(batch)
        parts[index % 2].update(batch)
        sizes.add(sum(state.numel() for state in whole.metric_state.values()))
    assert len(sizes) == 1
    one, other = parts
    one.merge_state(other)
    assert torch.equal(one.compute(), whole.compute())


@pytest.mark.parametrize("metric", [PixelAUROC, PixelAUPRO])
def test_without_an_anomalous_pixel_or_a_mask(metric):
    image = torch.rand(2, 3, 8, 8)
    value = metric()
    value.update(ImageBatch(image=image, anomaly_map=torch.rand(2, 8, 8), gt_mask=torch.zeros(2, 8, 8).bool()))
    assert value.compute().isnan()
    value = metric(strict=False)
    value.update(ImageBatch(image=image, anomaly_map=torch.rand(2, 8, 8)))
    assert value.compute() is None


def test_perfect_and_inverted_maps():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :2] = True
    for map_, expected in ((mask.float(), 1.0), (1 - mask.float(), 0.0)):
        for metric in (PixelAUROC(), PixelAUPRO()):
            metric.update(ImageBatch(image=torch.rand(1, 3, 8, 8), anomaly_map=map_, gt_mask=mask))
            assert metric.compute() == expected


def test_limit_is_checked():
    with pytest.raises(ValueError, match="fpr_limit"):
        PixelAUPRO(fpr_limit=0)
