"""The estimate beside what real training takes, by the profiler's record of every allocation."""

import json

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from anomalib_memmc import MemMCMAE
from anomalib_memmc.memory.estimate import estimate

SMALL = {
    "image_size": 64,
    "patch_size": 8,
    "encoder_dim": 96,
    "encoder_depth": 3,
    "encoder_heads": 3,
    "decoder_dim": 64,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "memory_slots": 8,
}
BATCH = 16


def config(model=None, accelerator="cpu", batch=BATCH, **trainer):
    return {
        "model": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": SMALL if model is None else model},
        "data": {"class_path": "anomalib_memmc.Phantom", "init_args": {"train_batch_size": batch}},
        "trainer": {"accelerator": accelerator, **trainer},
    }


def measured_peak(folder, model, **trainer):
    """The most bytes allocated at once in two steps of real training, in all, from the weights on."""
    images = [torch.rand(3, 64, 64) for _ in range(4 * BATCH)]
    loader = DataLoader(images, batch_size=BATCH, collate_fn=lambda batch: ImageBatch(image=torch.stack(batch)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        engine = Engine(
            default_root_dir=folder, accelerator="cpu", logger=False, max_epochs=2, limit_val_batches=0, **trainer
        )
        engine.fit(MemMCMAE(**model, evaluator=False), train_dataloaders=loader)  # without the metrics of a test
    path = folder / "trace.json"
    record.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    totals = [event["args"]["Total Allocated"] for event in sorted(events, key=lambda event: event["ts"])]
    return max(totals) - totals[0]  # records before have left something in the total


@pytest.mark.parametrize(
    ("model", "trainer"),
    [
        ({}, {}),
        ({}, {"accumulate_grad_batches": 2}),
        ({"recompute": "nothing"}, {}),
        ({"recompute": "gates"}, {}),
        ({"recompute": "decoder", "optimizer": "adam"}, {"accumulate_grad_batches": 2}),
        ({"gate": "scalar", "memory_slots": 0}, {"precision": "bf16-mixed"}),
    ],
    ids=str,
)
def test_the_peak_is_that_of_real_training(tmp_path, model, trainer):
    arguments = {**SMALL, **model}
    found = estimate(config(arguments, **trainer))
    assert found.peak_bytes == pytest.approx(measured_peak(tmp_path, arguments, **trainer), rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("recompute", ["nothing", "attention", "gates", "decoder"])
def test_the_peak_on_a_gpu(recompute):
    arguments = {**SMALL, "image_size": 128, "encoder_dim": 384, "recompute": recompute}
    found = estimate(config(arguments, "gpu", 64, precision="bf16-mixed", accumulate_grad_batches=2))
    model = MemMCMAE(**arguments).model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters())
    torch.cuda.reset_peak_memory_stats()
    for step in range(4):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(torch.rand(64, 3, 128, 128, device="cuda"))
        loss.backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert found.peak_bytes == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.1)


def test_the_sizes_that_can_be_counted():
    found = estimate(config(accumulate_grad_batches=2))
    model = MemMCMAE(**SMALL).model.network
    count = sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters == count
    assert found.gradient_bytes == 4 * count
    assert found.optimizer_bytes == pytest.approx(2 * 4 * count, rel=1e-3)  # two moments, and a counter each
    assert found.model_bytes == pytest.approx(4 * count + sum(buffer.nbytes for buffer in model.buffers()), rel=1e-4)


def test_the_saved_activations_are_those_that_autograd_keeps():
    model = MemMCMAE(**SMALL).model.train()

    def saved(batch):
        sizes = {}

        def keep(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(torch.rand(batch, 3, 64, 64))
        assert loss.requires_grad
        return sum(sizes.values())

    expected = (saved(16) - saved(8)) / 8
    assert estimate(config()).saved_bytes_per_image == pytest.approx(expected, rel=0.05)


def test_the_largest_micro_batch_is_the_last_that_fits():
    found = estimate(config(accelerator="gpu"))
    budget = 2 * found.peak_bytes
    most = found.largest(budget)
    beside = estimate(config(accelerator="gpu", batch=most)), estimate(config(accelerator="gpu", batch=most + 1))
    assert beside[0].peak_bytes <= budget < beside[1].peak_bytes
    assert found.largest(found.step_bytes - 1) == 0


def test_what_helps_helps():
    on_gpu = {"accelerator": "gpu", "accumulate_grad_batches": 2}
    peak = estimate(config(**on_gpu)).peak_bytes
    gates, decoder = (estimate(config({**SMALL, "recompute": r}, **on_gpu)).peak_bytes for r in ("gates", "decoder"))
    assert decoder < 0.9 * peak
    assert decoder < gates < peak
    assert estimate(config(precision="bf16-mixed", **on_gpu)).peak_bytes < 0.8 * peak
    assert estimate(config(batch=BATCH // 2, **on_gpu)).peak_bytes < 0.7 * peak


def test_features_as_a_target_are_counted():
    target = {"class_path": "anomalib_memmc.FeatureTarget", "init_args": {"layers": ["blocks.1"]}}
    plain, featured = (estimate(config({**SMALL, "feature_target": value})) for value in (None, target))
    assert featured.model_bytes > plain.model_bytes
    assert featured.peak_bytes > plain.peak_bytes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": {"class_path": "anomalib.models.Padim"}}, "MemMCMAE"),
        ({"trainer": {"accumulate_grad_batches": 0}}, "accumulate_grad_batches"),
        ({"trainer": {"precision": "transformer-engine"}}, "precision must be one of"),
        (
            {"model": {"class_path": "anomalib_memmc.MemMCMAE", "init_args": {**TINY_MEMMC, "encoder_heads": 3}}},
            "heads",
        ),
    ],
)
def test_what_cannot_be_estimated_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        estimate({**config(), **wrong})
