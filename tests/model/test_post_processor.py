from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.engine import Engine
from anomalib.metrics import F1AdaptiveThreshold
from anomalib.post_processing import PostProcessor
from helpers.brightness import Brightness
from sklearn.metrics import roc_auc_score

from anomalib_memmc.metrics.quantiles import quantile, subsample_pixels
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor


def batch(scores, labels=None, maps=None, masks=None):
    scores = torch.as_tensor(scores, dtype=torch.float32)
    return ImageBatch(
        image=torch.zeros(len(scores), 3, 4, 4),
        pred_score=scores,
        gt_label=None if labels is None else torch.as_tensor(labels, dtype=torch.bool),
        anomaly_map=maps,
        gt_mask=masks,
    )


def validate(processor, *batches):
    processor.on_validation_epoch_start(None, None)
    for item in batches:
        processor.on_validation_batch_end(None, None, item)
    processor.on_validation_epoch_end(None, None)
    return processor


@pytest.fixture
def normals():
    return np.random.default_rng(0).gamma(4, 0.02, 200).astype(np.float32)


@pytest.fixture
def maps():
    return torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) ** 3


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_quantile_is_numpys(q, count):
    values = np.random.default_rng(1).normal(size=count).astype(np.float32)
    assert quantile(torch.tensor(values), q).item() == pytest.approx(np.quantile(values, q), rel=1e-5)


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (128, 96), (100, 33)])
def test_subsample_is_bounded_and_reaches_every_column(size):
    maps = torch.arange(size[0] * size[1]).view(1, 1, *size)
    taken = subsample_pixels(maps, 1024)
    assert taken.shape[1] <= 1024
    assert taken.shape[1] > 500
    assert len((taken % size[1]).unique()) == size[1]
    assert torch.equal(taken, subsample_pixels(maps, 1024))


def test_normals_only_threshold_is_the_quantile(normals, maps):
    processor = NormalQuantilePostProcessor(false_alarm_rate=0.1, pixel_quantile=0.98)
    validate(
        processor,
        *(batch(part, labels=np.zeros(len(part))) for part in np.split(normals, 4)),
        batch(normals[:6], labels=np.zeros(6), maps=maps, masks=torch.zeros(6, 32, 32, dtype=torch.bool)),
    )
    scores = np.sort([*normals, *normals[:6]])
    assert processor.image_threshold.item() == pytest.approx(scores[187 - 1], rel=1e-6)  # of 206: ceil(207 * 0.9)
    assert torch.equal(processor.normal_scores, torch.tensor(scores))
    assert processor.promise[0].item() == pytest.approx(1 - 187 / 207)
    assert processor.promise[3] == 206
    assert processor.pixel_threshold.item() == pytest.approx(np.quantile(maps.numpy(), 0.98), rel=1e-5)


def test_unlabelled_validation_counts_as_normal(normals):
    processor = validate(NormalQuantilePostProcessor(), batch(normals))
    assert processor.image_threshold.item() == pytest.approx(np.sort(normals)[191 - 1], rel=1e-6)


def test_labelled_validation_keeps_f1_adaptive(normals, maps):
    scores = np.concatenate([normals, normals[:50] + 0.08])
    labels = np.concatenate([np.zeros(200), np.ones(50)])
    masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    masks[4:, 8:20, 8:20] = True
    maps[4:, :, 8:20, 8:20] += 1
    map_batch = batch(scores[-6:], labels=[0, 0, 0, 0, 1, 1], maps=maps, masks=masks)
    ours = validate(NormalQuantilePostProcessor(), batch(scores, labels=labels), map_batch)
    host = PostProcessor()
    for item in (batch(scores, labels=labels), map_batch):
        host.on_validation_batch_end(None, None, item)
    host.on_validation_epoch_end(None, None)
    assert ours.image_threshold == host.image_threshold
    assert ours.pixel_threshold == host.pixel_threshold
    assert ours._image_threshold_metric.update_called is False


def test_anomalous_labels_without_masks_give_a_pixel_quantile_of_the_normals(maps):
    processor = validate(NormalQuantilePostProcessor(), batch(np.linspace(0, 1, 6), [0, 0, 0, 1, 1, 1], maps))
    assert processor.pixel_threshold.item() == pytest.approx(np.quantile(maps[:3].numpy(), 0.99), rel=1e-5)


def test_only_anomalous_validation_images_keep_anomalibs_answer():
    metric = F1AdaptiveThreshold(fields=["pred_score", "gt_label"])
    item = batch([0.3, 0.5, 0.9], labels=[1, 1, 1])
    metric.update(item)
    processor = validate(NormalQuantilePostProcessor(), item)
    assert processor.image_threshold == metric.compute()
    assert torch.isfinite(processor(InferenceBatch(pred_score=torch.rand(3))).pred_score).all()


def test_scores_never_tie_and_auroc_is_kept(normals):
    processor = validate(NormalQuantilePostProcessor(), batch(normals, labels=np.zeros(200)))
    threshold = processor.image_threshold.item()
    scores = torch.linspace(0, 100 * threshold, 10_001)
    out = processor(InferenceBatch(pred_score=scores)).pred_score
    assert (out.diff() > 0).all()
    assert out.min() > 0
    assert out.max() < 1

    rng = np.random.default_rng(2)
    test = np.concatenate([rng.gamma(4, 0.02, 300), rng.gamma(4, 0.1, 300) + 0.3]).astype(np.float32)
    labels = np.repeat([0, 1], 300)
    assert (test > normals.max()).sum() > 250
    item = batch(test, labels=labels)
    processor.post_process_batch(item)
    assert roc_auc_score(labels, item.pred_score.numpy()) == roc_auc_score(labels, test)
    assert torch.equal(item.pred_label, torch.tensor(test) > threshold)


def test_half_at_threshold_and_quarter_at_the_typical_normal(normals):
    processor = validate(NormalQuantilePostProcessor(), batch(normals, labels=np.zeros(200)))
    points = torch.stack([processor.image_threshold, torch.tensor(float(np.median(normals)))])
    out = processor(InferenceBatch(pred_score=points)).pred_score
    torch.testing.assert_close(out, torch.tensor([0.5, 0.25]), atol=1e-4, rtol=0)


def test_half_precision_scores_do_not_tie(normals):
    processor = validate(NormalQuantilePostProcessor(), batch(normals, labels=np.zeros(200)))
    scores = torch.tensor([8.0, 8.125, 9.0], dtype=torch.bfloat16)
    assert (processor(InferenceBatch(pred_score=scores)).pred_score.diff() > 0).all()


@pytest.mark.parametrize("scores", [[0.2], [0.2] * 5, [0.0] * 5, [0.2, 0.2 + 1e-7]])
def test_degenerate_normals(scores):
    processor = validate(NormalQuantilePostProcessor(), batch(scores, labels=np.zeros(len(scores))))
    probe = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.6, 0.9, 0.91])
    out = processor(InferenceBatch(pred_score=probe))
    assert (out.pred_score.diff() > 0).all()
    assert ((out.pred_score > 0) & (out.pred_score < 1)).all()
    assert out.pred_label.tolist() == (probe > processor.image_threshold).tolist()


def test_never_validated_passes_raw_scores(maps):
    processor = NormalQuantilePostProcessor()
    scores = torch.rand(6)
    out = processor(InferenceBatch(pred_score=scores, anomaly_map=maps))
    assert torch.equal(out.pred_score, scores)
    assert torch.equal(out.anomaly_map, maps)
    processor.on_validation_epoch_end(None, None)
    assert torch.isnan(processor.image_threshold)


def test_second_validation_forgets_the_first(normals):
    processor = validate(NormalQuantilePostProcessor(), batch(normals + 5, labels=np.zeros(200)))
    processor.on_validation_batch_end(None, None, batch(normals + 9))  # interrupted
    validate(processor, batch(normals, labels=np.zeros(200)))
    assert processor.image_threshold.item() == pytest.approx(np.sort(normals)[191 - 1], rel=1e-6)


def test_without_normalisation_labels_follow_the_raw_threshold(normals):
    scores = torch.linspace(0, 0.3, 100)
    for sensitivity in (0.5, 0.3, 0.8):
        outputs = []
        for enabled in (True, False):
            processor = NormalQuantilePostProcessor(enable_normalization=enabled, image_sensitivity=sensitivity)
            validate(processor, batch(normals, labels=np.zeros(200)))
            outputs.append(processor(InferenceBatch(pred_score=scores)))
        assert torch.equal(outputs[1].pred_score, scores)
        assert torch.equal(outputs[0].pred_label, outputs[1].pred_label)


def test_export_gives_the_same_numbers(normals, maps):
    processor = validate(NormalQuantilePostProcessor(), batch(normals[:6], labels=np.zeros(6), maps=maps)).eval()

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.processor = processor

        def forward(self, scores, anomaly_maps):
            return tuple(self.processor(InferenceBatch(pred_score=scores, anomaly_map=anomaly_maps)))

    scores, test_maps = torch.rand(3), torch.rand(3, 1, 32, 32)
    graph = torch.export.export(Wrapped(), (scores, test_maps)).module()
    item = batch(scores, maps=test_maps)
    processor.post_process_batch(item)
    for exported, eager in zip(graph(scores, test_maps), Wrapped()(scores, test_maps), strict=True):
        assert torch.equal(exported, eager)
    score, label, _, mask = graph(scores, test_maps)
    assert {label.dtype, mask.dtype, score.dtype} == {torch.bool, torch.float32}
    exported = InferenceBatch(*graph(scores, test_maps))
    assert torch.equal(exported.pred_score, item.pred_score)
    assert torch.equal(exported.pred_label, item.pred_label)
    assert torch.equal(exported.anomaly_map.squeeze(), item.anomaly_map.squeeze())
    assert torch.equal(exported.pred_mask.squeeze(), item.pred_mask.squeeze())


def test_too_few_normals_are_said(caplog):
    processor = validate(NormalQuantilePostProcessor(), batch([0.1, 0.4, 0.2]))
    assert processor.image_threshold.item() == pytest.approx(0.4)
    assert processor.promise[0] == 0.25
    assert "3 independent normal images are too few for a false-alarm rate of 0.05: it takes 19" in caplog.text


def test_nothing_is_promised_where_the_threshold_is_learnt_from_anomalous_images_too(caplog):
    item = batch([0.1, 0.4, 0.2, 0.9])
    item.gt_label = torch.tensor([False, False, False, True])
    processor = validate(NormalQuantilePostProcessor(), item)
    assert processor.promise.isnan().all()
    assert "promises" not in caplog.text


def trainer_with(paths, groups):
    samples = pd.DataFrame({"image_path": paths, "group": groups})
    return SimpleNamespace(val_dataloaders=SimpleNamespace(dataset=SimpleNamespace(samples=samples)))


def test_patients_share_a_vote_and_repeated_images_count_once(normals):
    """60 images of 30 patients, two of them seen twice as a distributed sampler does."""
    paths, groups = [f"{i}.png" for i in range(60)], [f"p{i // 2}" for i in range(60)]
    processor, item = NormalQuantilePostProcessor(), batch(normals[:60])
    item.image_path = paths
    again = batch(normals[:2])
    again.image_path = paths[:2]
    processor.on_validation_epoch_start(trainer_with(paths, groups), None)
    for each in (item, again):
        processor.on_validation_batch_end(None, None, each)
    processor.on_validation_epoch_end(None, None)
    assert processor.promise[3] == 30
    assert len(processor.normal_scores) == 60
    assert processor.image_threshold.item() == pytest.approx(np.sort(normals[:60])[60 - 1], rel=1e-6)


@pytest.mark.parametrize("arguments", [{"false_alarm_rate": 0.0}, {"false_alarm_rate": 1.0}, {"pixel_quantile": 1.5}])
def test_wrong_quantiles_are_refused(arguments):
    with pytest.raises(ValueError, match="must lie in"):
        NormalQuantilePostProcessor(**arguments)


def test_checkpoint_keeps_thresholds_and_settings(tmp_path, datamodule):
    model = Brightness(post_processor=NormalQuantilePostProcessor(false_alarm_rate=0.2))
    engine = Engine(default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", devices=1, enable_progress_bar=False)
    engine.fit(model, datamodule=datamodule)
    results = engine.test(model, datamodule=datamodule)
    assert results[0]["image_AUROC"] == 1.0
    restored = Brightness.load_from_checkpoint(engine.trainer.checkpoint_callback.best_model_path)
    assert restored.post_processor.false_alarm_rate == 0.2
    for name, value in model.post_processor.state_dict().items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, restored.post_processor.state_dict()[name])
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images).pred_score, restored(images).pred_score)
