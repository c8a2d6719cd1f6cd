"""Features of a frozen pretrained network, on a grid of places (not in the paper)."""

import math
from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from anomalib.models.components.feature_extractors import TimmFeatureExtractor
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from anomalib_memmc.arguments import require_positive
from anomalib_memmc.extras import install
from anomalib_memmc.model import lite0

_PIXELS_AT_ONCE = 2**18  # of a batch, on a CPU: the first layers' values of more do not stay in the cache


class FrozenFeatures(nn.Module):
    """Layers of a frozen network of timm, brought to one grid and joined.

    It is built without weights, so that building a model needs no network: :meth:`load_weights` loads the pretrained
    ones, once, and they are in every checkpoint from then on.

    Args:
        backbone: A model of timm. It is given pixels standardised by ImageNet's mean and spread, as anomalib's
            detectors give them, also where timm's own training used others.
        layers: Its layers, as anomalib's PaDiM names them, at least one.
        image_size: Height and width of the images in pixels.
        grid: Rows and columns of the places; None takes those of the finest layer. Finer layers are averaged, coarser
            ones enlarged bilinearly.
        pre_trained: Whether :meth:`load_weights` loads timm's pretrained weights (ImageNet); False leaves random ones.
        in_channels: Channels of the images, 1 or 3.
        scale: How many times larger the network is given the images: of deep layers, which see most but whose places
            are large, more than 1 makes them finer; less than 1 takes less time.

    Raises:
        ValueError: If ``scale`` is not above 0, the network has no such layer, or takes no images of so many channels.
    """

    has_weights: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str],
        image_size: tuple[int, int],
        grid: tuple[int, int] | None = None,
        pre_trained: bool = True,
        in_channels: int = 3,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_positive("scale", scale)
        if in_channels not in (1, 3):
            msg = (
                f"The pretrained features of {backbone} are of colour images, or of grey ones as colour: they need "
                f"in_channels of 1 or 3, got {in_channels}. Leave the features out, or give such images."
            )
            raise ValueError(msg)
        self.backbone = backbone
        self.layers = list(layers)
        self.size = (max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale)))
        try:
            shapes = self._build()
        except Exception:  # anomalib, timm and torch raise many kinds
            _require_layers(backbone, self.layers)
            raise
        self.grid = grid or (max(shape[2] for shape in shapes), max(shape[3] for shape in shapes))
        self.width = sum(shape[1] for shape in shapes)
        self.register_buffer("has_weights", torch.tensor(not pre_trained))
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features of every place: images (B, 1 or 3, H, W) in [0, 1] -> (B, D, rows, columns), float32."""
        as_one = images.device.type != "cpu" or torch.compiler.is_compiling()  # exporting is, too
        at_once = max(1, _PIXELS_AT_ONCE // math.prod(self.size))
        return torch.cat([self._joined(part) for part in ([images] if as_one else images.split(at_once))])

    def _build(self) -> list[torch.Size]:
        """Build the extractor; shapes of its layers (1, D, h, w)."""
        with torch.random.fork_rng(devices=[]):  # the initial weights of the masked autoencoder must not change
            self.extractor = TimmFeatureExtractor(self.backbone, self.layers, pre_trained=False).requires_grad_(False)
        self.extractor.to(memory_format=torch.channels_last)
        with torch.no_grad():
            found = self.extractor.eval()(torch.zeros(1, 3, *self.size))
        if len(found) < max(1, len(self.layers)):
            msg = f"{self.backbone} gives {len(found)} of {len(self.layers)} layers."
            raise ValueError(msg)
        return [found[layer].shape for layer in self.layers]

    def _joined(self, images: Tensor) -> Tensor:
        """The layers on one grid, of as many images as are given at once."""
        colour = (_resized(images, self.size).expand(-1, 3, -1, -1) - self.pixel_mean) / self.pixel_std
        colour = colour.to(
            next(self.extractor.parameters()).dtype, memory_format=torch.channels_last
        )  # faster on a CPU
        found = self.extractor(colour)
        return torch.cat([_resized(found[layer].float(), self.grid) for layer in self.layers], dim=1)

    def load_weights(self) -> None:
        """Load the pretrained weights, unless they are loaded or not wanted.

        Raises:
            RuntimeError: If the weights cannot be had.
        """
        if self.has_weights:
            return
        try:
            self._load()
        except Exception as error:  # offline, huggingface_hub and timm raise many kinds
            msg = (
                f"The pretrained weights of {self.backbone} cannot be had: {error}. Connect to the network once, put "
                f"them into the Hugging Face cache, or for {lite0.BACKBONE} {install('benchmark')}."
            )
            raise RuntimeError(msg) from error
        self.has_weights.fill_(True)

    def _load(self) -> None:
        """From the pip package where it has them, else from timm."""
        if self.backbone.partition(".")[0] != lite0.BACKBONE or not lite0.is_installed():
            pretrained = TimmFeatureExtractor(self.backbone, self.layers, pre_trained=True)
            self.extractor.load_state_dict(pretrained.state_dict())
            return
        inner = self.extractor.feature_extractor
        weights = lite0.load_weights()
        inner.load_state_dict({name: weights[name] for name in inner.state_dict()})


def _require_layers(backbone: str, layers: Sequence[str]) -> None:
    """Refuse a network that timm has not, and layers that it has not, none, or one twice.

    Raises:
        ValueError: If they are refused.
    """
    of_any_block = "vit" in backbone.lower()  # anomalib's extractor takes the features of any block of a ViT
    try:
        with torch.random.fork_rng(devices=[]):
            network = cast(Any, timm.create_model(backbone, features_only=not of_any_block))
    except RuntimeError as error:  # timm's word for an unknown name
        msg = f"backbone must be a model of timm with features, got {backbone!r}: {error}."
        raise ValueError(msg) from error
    known = (
        [f"blocks.{index}" for index in range(len(getattr(network, "blocks", ())))]
        if of_any_block
        else network.feature_info.module_name()
    )
    if not known:
        msg = f"{backbone} has no blocks, of which anomalib takes the features of a network of this name."
        raise ValueError(msg)
    if missing := [layer for layer in layers if layer not in known]:
        msg = f"{backbone} has no layer {', '.join(missing)}; its layers are {', '.join(known)}."
        raise ValueError(msg)
    if not layers or len(set(layers)) < len(layers):
        msg = f"layers must be some of {', '.join(known)}, each once, got {list(layers)}."
        raise ValueError(msg)


def _resized(layer: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, D, h, w) -> (B, D, rows, columns): the mean of what a place covers, or bilinear between places."""
    height, width = layer.shape[-2:]
    if (height, width) == grid:
        return layer
    if height % grid[0] == 0 and width % grid[1] == 0:
        return functional.avg_pool2d(layer, (height // grid[0], width // grid[1]))
    return functional.interpolate(layer, list(grid), mode="bilinear", align_corners=False)
