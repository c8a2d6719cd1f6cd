"""State, export and compilation of the whole model."""

import pytest
import torch
from helpers.models import noisy
from torch.export import Dim

from anomalib_memmc.scoring import MahalanobisScorer, ReconstructionScorer, SquaredErrorMap


def squared_errors():
    return ReconstructionScorer(SquaredErrorMap(), num_masks=4)


def blurred_distances():
    return MahalanobisScorer(num_masks=4, chunk_size=2, blur_sigma=1.0)


@torch.no_grad()
def test_state_round_trip(build, images):
    model, other = noisy(build()), build(seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images).anomaly_map, model(images).anomaly_map)
    assert not {"scorer.masks", "scorer.visible", "network.pixel_mean"} & set(model.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("arguments", [{}, {"in_channels": 1, "gate": "token", "scorer": squared_errors}], ids=" ".join)
def test_export_gives_the_same_numbers(build, arguments):
    model = noisy(build(**{**arguments, "scorer": arguments["scorer"]()} if "scorer" in arguments else arguments))
    images = torch.rand(3, arguments.get("in_channels", 3), 32, 48, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: Dim("batch", min=1, max=64)},))
    exported = program.module()
    for batch in (1, 3):
        ours, theirs = model(images[:batch]), exported(images[:batch])
        torch.testing.assert_close(theirs.pred_score, ours.pred_score, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.anomaly_map, ours.anomaly_map, atol=1e-5, rtol=0)


COMPILED = [
    {},
    {"gate": "scalar", "recompute": "gates"},
    {"scorer": blurred_distances, "in_channels": 1},
]


@pytest.mark.parametrize("arguments", COMPILED, ids=" ".join)
def test_compilation_breaks_no_graph(build, images, arguments):
    """Loss, its random masks and scores are one graph each (``fullgraph`` raises otherwise) and the same numbers."""
    model = build(**{**arguments, "scorer": arguments["scorer"]()} if "scorer" in arguments else arguments)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    model.train()
    losses = []
    for run in (model, compiled):
        torch.manual_seed(0)
        losses.append(run(images))
    torch.testing.assert_close(losses[1], losses[0])
    model.eval()
    with torch.no_grad():
        expected, result = model(images), compiled(images)
    torch.testing.assert_close(result.pred_score, expected.pred_score)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map)


def test_compile_wraps_every_block_and_renames_nothing(build, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **kwargs: calls.append((type(self).__name__, kwargs)))
    model = build(compile=True)
    assert calls == [("EncoderBlock", {"fullgraph": True})] * 3 + [("DecoderBlock", {"fullgraph": True})] * 3
    assert list(model.state_dict()) == list(build().state_dict())
