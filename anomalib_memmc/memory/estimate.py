"""The memory of a training step, from a step on fake tensors: every shape and type, and no numbers."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from anomalib_memmc.arguments import require_count
from anomalib_memmc.benchmark.config import class_name, merge
from anomalib_memmc.benchmark.job import parse
from anomalib_memmc.instantiation import constructor_errors
from anomalib_memmc.memory.gpu import like_a_gpu
from anomalib_memmc.memory.live_bytes import LiveBytes
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.model.optimizer import make_optimizer
from anomalib_memmc.scoring.base import Scorer, Scores

_ALIASES = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's
_DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "bf16": torch.bfloat16}


class NoScorer(Scorer):
    """Takes the place of a scorer where nothing is scored: scorers draw masks, which fake tensors cannot."""

    def score(self, network: Any, images: Tensor) -> Scores:
        """Raise an error."""
        raise NotImplementedError


LEAN = {
    "scorer": {"class_path": f"{__name__}.NoScorer"},
    "pretrained": None,
    "seed": None,
    "compile": False,
    "pre_processor": False,
    "post_processor": False,
    "evaluator": False,
    "visualizer": False,
}
"""Arguments of the model that a step's memory does not depend on, or that a fake one cannot have."""


@dataclass(frozen=True)
class Estimate:
    """What a training step takes.

    Attributes:
        on_gpu: Whether the numbers are those of a GPU, or of a CPU.
        precision: Lightning's name of the precision.
        micro_batch: Images of a batch of the data module.
        accumulate: Batches that the trainer accumulates into a step.
        parameters: Parameters that are trained.
        model_bytes: Bytes of all parameters and buffers, without the scorer's.
        gradient_bytes: Bytes of the gradients.
        optimizer_bytes: Bytes of the optimizer's state.
        saved_bytes_per_image: Bytes that the forward pass keeps of each image for the backward pass.
        step_bytes: The most bytes in the optimizer's own step.
        peaks: Images of a batch -> the most bytes at once, for two sizes; the smaller is ``micro_batch``.
    """

    on_gpu: bool
    precision: str
    micro_batch: int
    accumulate: int
    parameters: int
    model_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes_per_image: float
    step_bytes: int
    peaks: dict[int, int]

    @property
    def peak_bytes(self) -> int:
        """The most bytes at once in a step of the configuration."""
        return max(self.step_bytes, self.peaks[self.micro_batch])

    def largest(self, budget: float) -> int:
        """Images of the largest batch within ``budget`` bytes, on the line through ``peaks``; 0 where not one fits."""
        (first, least), (second, most) = sorted(self.peaks.items())
        slope = (most - least) / (second - first)
        return 0 if self.step_bytes > budget else max(0, int(first + (budget - least) // slope))


def estimate(config: dict[str, Any]) -> Estimate:
    """Estimate the memory of a training step without allocating it.

    Forward pass, backward pass and the optimizer's step are run on fake tensors, beside what a training holds: weights,
    the optimizer's state, and the gradients of the batches before. Numbers are those of one GPU, unless the trainer's
    ``accelerator`` is ``cpu``. They leave out what operators take and free on their own, and the scorer's buffers. A
    compiled model counts as if it were not.

    Args:
        config: Sections ``model``, ``data`` and ``trainer`` as for anomalib's command line.

    Returns:
        The estimate.

    Raises:
        ValueError: If the configuration is wrong, its model is not MemMCMAE, or its precision none that is known here.
    """
    if class_name(config.get("model", {})) != MemMCMAE.__name__:
        msg = f"The memory of MemMCMAE can be estimated, not that of {config.get('model')}."
        raise ValueError(msg)
    parser, parsed = parse(merge(config, {"model": {"init_args": LEAN}}))
    with torch.device("meta"), constructor_errors(parser):
        built = parser.instantiate_classes(parsed)
    require_count("trainer.accumulate_grad_batches", built.trainer.accumulate_grad_batches)
    with FakeTensorMode():
        step = _Step(built.model, str(built.trainer.precision or "32-true"), on_gpu=built.trainer.accelerator != "cpu")
        return step.estimate(built.data.train_batch_size, built.trainer.accumulate_grad_batches)


class _Step:
    """A training step on fake tensors; made and used within one ``FakeTensorMode``.

    Args:
        model: The model, its tensors on any device, such as ``meta``; they are replaced.
        precision: One of Lightning's names.
        on_gpu: Whether to take what a GPU takes, or what a CPU takes.
    """

    def __init__(self, model: MemMCMAE, precision: str, on_gpu: bool) -> None:
        self.precision = _ALIASES.get(precision, precision)
        name, _, kind = self.precision.partition("-")
        if name not in _DTYPES or kind not in ("true", "mixed"):
            msg = (
                f"precision must be one of 32-true, bf16-mixed, 16-mixed, bf16-true, 16-true, 64-true, got {precision}."
            )
            raise ValueError(msg)
        self.autocast = _DTYPES[name] if kind == "mixed" else None
        self.dtype = torch.float32 if kind == "mixed" else _DTYPES[name]
        self.on_gpu = on_gpu
        self.model = model.model.train()
        _make_fake(self.model, self.dtype)
        undecayed = self.model.no_weight_decay()
        self.optimizer = make_optimizer(
            self.model, undecayed, model.optimizer, model.lr, model.weight_decay, self.precision
        )
        for group in self.optimizer.param_groups:
            if not group["fused"]:
                group["foreach"] = on_gpu  # torch's default on a GPU: faster, with more memory in passing
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def estimate(self, micro_batch: int, accumulate: int) -> Estimate:
        """Run steps with two sizes of batch; see the attributes of :class:`Estimate`."""
        model_bytes = sum(value.nbytes for value in self._values())
        gradient_bytes = sum(parameter.nbytes for parameter in self.trained)
        step_bytes = self._optimizer_step()
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        sizes = (micro_batch, 2 * micro_batch)
        saved, peaks = zip(*(self._batch(size, accumulate > 1, state) for size in sizes), strict=True)
        return Estimate(
            on_gpu=self.on_gpu,
            precision=self.precision,
            micro_batch=micro_batch,
            accumulate=accumulate,
            parameters=sum(parameter.numel() for parameter in self.trained),
            model_bytes=model_bytes,
            gradient_bytes=gradient_bytes,
            optimizer_bytes=sum(value.nbytes for value in state),
            saved_bytes_per_image=(saved[1] - saved[0]) / micro_batch,
            step_bytes=step_bytes,
            peaks=dict(zip(sizes, peaks, strict=True)),
        )

    def _values(self) -> Iterator[Tensor]:
        return chain(self.model.parameters(), self.model.buffers())

    def _optimizer_step(self) -> int:
        """Make the optimizer's state; return the most bytes of a step."""
        self._make_gradients()
        with LiveBytes([*self._values(), *(p.grad for p in self.trained if p.grad is not None)]) as live:
            self.optimizer.step()
            live.restart()
            self.optimizer.step()
        return live.peak

    def _make_gradients(self) -> None:
        for parameter in self.trained:
            parameter.grad = torch.empty_like(parameter)

    def _batch(self, size: int, accumulating: bool, state: list[Tensor]) -> tuple[int, int]:
        """Forward and backward pass of a batch: bytes that the forward pass keeps, and the most bytes at once."""
        self._make_gradients()  # of the batch before, which are there until the backward pass begins
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        network = self.model.network
        channels = 3 if network.in_channels == 1 else network.in_channels  # data modules give colour images
        images = torch.empty(size, channels, *network.image_size, dtype=self.dtype)
        with (
            like_a_gpu() if self.on_gpu else nullcontext(),
            LiveBytes([*self._values(), *gradients, *state, images]) as live,
        ):
            del gradients
            before = live.now
            with torch.autocast("cpu", self.autocast, enabled=self.autocast is not None):
                loss = self.model(images)
            saved = live.now - before
            if not accumulating:
                self.optimizer.zero_grad()
            loss.backward()
        return saved, live.peak


def _make_fake(model: nn.Module, dtype: torch.dtype) -> None:
    """Put fake tensors on the CPU in the place of all tensors, floats of another type, as ``model.to`` would."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_fake(parameter, dtype), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake(buffer, dtype)


def _fake(value: Tensor, dtype: torch.dtype) -> Tensor:
    dtype = dtype if value.is_floating_point() else value.dtype
    return torch.empty_strided(value.size(), value.stride(), dtype=dtype, device="cpu")
