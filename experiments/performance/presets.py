"""The two models that are measured: the paper's, and the small one of configs/cpu/covidx.yaml with its error score."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomalib_memmc import MaskedAutoencoder, MemMCMAEModel
from anomalib_memmc.benchmark.config import read_config
from anomalib_memmc.configurable import build
from anomalib_memmc.scoring import MaskedScorer
from experiments.performance.device import DEVICE

CONFIG = Path(__file__).parents[2] / "configs" / "cpu" / "covidx.yaml"
PLAIN: dict[str, Any] = {"memory_slots": 0, "multi_level": False, "long_skips": False}
"""Arguments that make a plain MAE of any preset."""


@dataclass(frozen=True)
class Preset:
    """A model's arguments and how many images it is timed with; plain values, which go to other processes.

    Attributes:
        name: What the tables call it.
        images: Images of a batch.
        arguments: Arguments of ``MemMCMAEModel`` without the scorer.
        scoring: Configuration of the scorer, a ``MaskedScorer``.
    """

    name: str
    images: int
    arguments: dict[str, Any] = field(default_factory=dict)
    scoring: dict[str, Any] = field(
        default_factory=lambda: {"class_path": "anomalib_memmc.scoring.ReconstructionScorer"}
    )

    def scorer(self, **changes: Any) -> MaskedScorer:
        """A new scorer, with other arguments where they are given."""
        arguments = {**self.scoring.get("init_args", {}), **changes}
        scorer: MaskedScorer = build({**self.scoring, "init_args": arguments}, MaskedScorer)
        return scorer

    def model(self, scorer: MaskedScorer, **changes: Any) -> MemMCMAEModel:
        """The model in evaluation mode, always with the same weights; arguments override the preset's."""
        torch.manual_seed(0)
        return MemMCMAEModel(scorer=scorer, **{**self.arguments, **changes}).eval().to(DEVICE)

    def batch(self, images: int) -> Tensor:
        """Random images (B, C, H, W)."""
        channels, size = self.arguments.get("in_channels", 3), self.arguments.get("image_size", 224)
        return torch.rand(images, channels, size, size, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def presets(quick: bool) -> list[Preset]:
    """The paper's preset and the CPU's.

    Args:
        quick: Whether to leave out the paper's.

    Returns:
        One or two presets.
    """
    arguments = read_config(CONFIG)["model"]["init_args"]
    known = {"mask_ratio", *inspect.signature(MaskedAutoencoder).parameters}
    network = {name: value for name, value in arguments.items() if name in known}
    errors, _ = arguments["scorer"]["init_args"]["scorers"]  # the features beside them are another network's
    cpu = Preset("CPU", 16, network, errors)
    return [cpu] if quick else [Preset("paper", 1), cpu]
