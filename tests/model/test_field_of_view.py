"""The post-processor with a field of view: what is outside counts nowhere."""

from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_memmc import FieldOfView, NormalQuantilePostProcessor
from anomalib_memmc.model.tissue import post_process

IMAGENET = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
BORDER = 8


@pytest.fixture
def images():
    """Six images of 32 x 32 with a black border at the left."""
    images = 0.2 + 0.7 * torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[..., :BORDER] = 0
    return images


@pytest.fixture
def maps():
    """Their maps: high on the border, where a model errs most."""
    maps = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1)) ** 3
    maps[..., :BORDER] += 5
    return maps


def batch(images, maps, **fields):
    return ImageBatch(image=images, anomaly_map=maps.clone(), pred_score=maps.flatten(1).amax(dim=1), **fields)


def validated(item, pl_module=None, **arguments):
    processor = NormalQuantilePostProcessor(**{"field_of_view": FieldOfView(), **arguments})
    processor.on_validation_epoch_start(None, None)
    processor.on_validation_batch_end(None, pl_module, item)
    processor.on_validation_epoch_end(None, None)
    return processor


def test_thresholds_and_scales_are_those_of_the_tissue_alone(images, maps):
    processor = validated(batch(images, maps))
    inside = maps[..., BORDER:]
    assert processor.pixel_threshold.item() == pytest.approx(inside.quantile(0.99).item(), rel=1e-5)
    assert processor.pixel_min.item() == pytest.approx(inside.quantile(0.5).item(), rel=1e-5)
    assert processor.pixel_max.item() == pytest.approx(inside.quantile(0.99).item(), rel=1e-5)
    without = validated(batch(images, maps), field_of_view=None)
    assert without.pixel_threshold > 5
    assert processor.image_threshold == without.image_threshold


def test_labelled_validation_ignores_the_outside_too(images, maps):
    masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    masks[3:, 8:20, 12:24] = True
    maps[3:, :, 8:20, 12:24] += 1
    labels = masks.flatten(1).any(dim=1)
    processor = validated(batch(images, maps, gt_mask=masks, gt_label=labels))
    host, inside = PostProcessor(), slice(BORDER, None)
    host.on_validation_batch_end(
        None, None, batch(images[..., inside], maps[..., inside], gt_mask=masks[..., inside], gt_label=labels)
    )
    host.on_validation_epoch_end(None, None)
    assert processor.pixel_threshold == host.pixel_threshold


@pytest.mark.parametrize("enable_normalization", [True, False])
def test_outside_is_the_least_of_the_tissue_and_never_anomalous(images, maps, enable_normalization):
    processor = validated(batch(images, maps), enable_normalization=enable_normalization)
    plain = validated(batch(images[..., BORDER:], maps[..., BORDER:]), enable_normalization=enable_normalization)
    item, cut = batch(images, maps), batch(images[..., BORDER:], maps[..., BORDER:])
    processor.on_test_batch_end(None, None, item)
    plain.on_test_batch_end(None, None, cut)
    torch.testing.assert_close(item.anomaly_map[..., BORDER:], cut.anomaly_map, rtol=1e-5, atol=1e-6)
    assert torch.equal(item.pred_mask[..., BORDER:], cut.pred_mask)
    assert not item.pred_mask[..., :BORDER].any()
    least = item.anomaly_map[..., BORDER:].amin(dim=(1, 2), keepdim=True)
    assert (item.anomaly_map[..., :BORDER] == least).all()


def test_even_where_all_tissue_is_anomalous_the_outside_is_not(images, maps):
    processor = validated(batch(images, maps))
    item = batch(images, maps + 10)
    processor.on_predict_batch_end(None, None, item)
    assert item.pred_mask[..., BORDER:].all()
    assert not item.pred_mask[..., :BORDER].any()


@pytest.mark.parametrize("transform", [IMAGENET, Compose([Resize((32, 32)), Compose([IMAGENET, IMAGENET])])], ids=str)
def test_what_a_pre_processor_normalised_is_undone(images, maps, transform):
    """PaDiM and PatchCore standardise the batch's images before any callback sees predictions."""
    pl_module = SimpleNamespace(pre_processor=PreProcessor(transform))
    expected, item = validated(batch(images, maps)), batch(images, maps)
    expected.on_test_batch_end(None, None, item)

    seen = transform(images)
    assert seen.min() < -1
    processor, other = validated(batch(seen, maps), pl_module), batch(seen, maps)
    processor.on_test_batch_end(None, pl_module, other)
    assert torch.equal(processor.pixel_threshold, expected.pixel_threshold)
    assert torch.equal(other.anomaly_map, item.anomaly_map)
    assert torch.equal(other.pred_mask, item.pred_mask)
    assert torch.equal(other.image, seen)


def test_normalised_pixels_of_unknown_origin_are_refused(images, maps):
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\]"):
        validated(batch(IMAGENET(images), maps))


def test_maps_of_another_size_get_a_field_of_theirs(images, maps):
    small = torch.nn.functional.avg_pool2d(maps, 4)
    processor, item = validated(batch(images, small)), batch(images, small)
    processor.post_process_batch(item)
    assert processor.pixel_threshold < 1
    assert (item.anomaly_map[..., : BORDER // 4] == item.anomaly_map.amin(dim=(1, 2), keepdim=True)).all()


def test_a_never_validated_one_passes_raw_values_of_the_tissue(images, maps):
    processor, item = NormalQuantilePostProcessor(field_of_view=FieldOfView()), batch(images, maps)
    processor.post_process_batch(item)
    assert torch.equal(item.anomaly_map[..., BORDER:], maps[:, 0, :, BORDER:])
    assert item.anomaly_map.max() < 1


def test_a_call_needs_the_images(images, maps):
    processor = validated(batch(images, maps))
    predictions = InferenceBatch(pred_score=torch.rand(6), anomaly_map=maps)
    with pytest.raises(ValueError, match=r"hands its post-processor none .*post_processor\(predictions, images\)"):
        processor(predictions)
    item = batch(images, maps)
    processor.post_process_batch(item)
    result = post_process(processor, predictions, images)
    assert torch.equal(result.anomaly_map[:, 0], item.anomaly_map)
    assert torch.equal(result.pred_mask[:, 0], item.pred_mask)
    assert processor(InferenceBatch(pred_score=torch.rand(6))).pred_mask is None
    assert post_process(None, predictions, images) is predictions
    assert post_process(PostProcessor(), predictions, images).anomaly_map is not None


def test_export_gives_the_same_numbers(images, maps):
    processor = validated(batch(images, maps)).eval()

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.processor = processor

        def forward(self, images, maps):
            return tuple(self.processor(InferenceBatch(pred_score=maps.amax((1, 2, 3)), anomaly_map=maps), images))

    graph = torch.export.export(Wrapped(), (images, maps)).module()
    for exported, eager in zip(graph(images, maps), Wrapped()(images, maps), strict=True):
        assert torch.equal(exported, eager)


def test_settings_of_a_checkpoint_are_plain_and_come_back():
    config = NormalQuantilePostProcessor(field_of_view=FieldOfView(radius=0.03)).checkpoint_config()
    assert config["field_of_view"]["init_args"] == {"darkness": 0.06, "radius": 0.03}
    loaded = NormalQuantilePostProcessor()
    loaded.load_checkpoint_config(config)
    assert loaded.field_of_view.radius == 0.03
    loaded.load_checkpoint_config({})  # as a checkpoint from before the option
    assert loaded.field_of_view.radius == 0.03
    loaded.load_checkpoint_config(NormalQuantilePostProcessor().checkpoint_config())
    assert loaded.field_of_view is None
