"""The counter of live bytes, beside a library's."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from anomalib_memmc.memory.live_bytes import LiveBytes


def test_storages_count_once_and_until_they_are_freed():
    weight = torch.zeros(100)  # 400 bytes
    with LiveBytes([weight, weight.view(10, 10)]) as live:
        assert live.now == 400
        doubled = weight * 2
        assert live.now == 800
        half = doubled[:50]
        doubled = None
        assert (live.now, live.peak) == (800, 800)  # the view holds all of it
        half = None
        assert (live.now, live.peak) == (400, 800)
        live.restart()
        assert live.peak == 400
    assert half is None


def test_it_finds_what_the_tracker_of_torch_finds():
    mem_tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).square().mean()
        loss.backward()

    with FakeTensorMode():
        model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.LayerNorm(128))
        images = torch.empty(32, 64)
        reference = mem_tracker.MemTracker()
        reference.track_external(model, images)
        with reference:
            step()
        model.zero_grad()
        with LiveBytes([*model.parameters(), images]) as live:
            step()
    (expected,) = reference.get_tracker_snapshot("peak").values()
    assert live.peak == expected["Total"]
