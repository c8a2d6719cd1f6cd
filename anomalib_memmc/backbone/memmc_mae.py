"""The encoder as timm's model ``memmc_mae``, whose name detectors take: importing this module registers it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from anomalib_memmc.model.network import MaskedAutoencoder, Normalize

NAME = "memmc_mae"
INPUT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear", "crop_pct": 1.0}
"""What timm should know of the images: they are not standardised, resized as a whole, and not cropped."""
_TOLERANCE = 1e-3
_OF_OTHER_MODELS: Any = ("num_classes", "global_pool", "in_chans", "img_size", "dynamic_img_size")  # given to all

default_cfgs = generate_default_cfgs({NAME: {**INPUT, "num_classes": 0}})


class MemMCBackbone(nn.Module):
    """The encoder over whole images, no patch hidden, with the interface that timm's vision transformers have.

    Images are RGB pixels in [0, 1], of the size that the encoder was trained on. Where it was trained on grey ones,
    colours are averaged.

    Args:
        image_size: Height and width in pixels, one number for a square.
        patch_size: Side of a square patch in pixels.
        in_channels: Channels that the encoder was trained on.
        encoder_dim: Width E of the tokens.
        encoder_depth: Number of blocks.
        encoder_heads: Heads of each block.
        memory_slots: Memory keys and values of each block, 0 for none.
        long_skips: Whether the encoder has long residual connections.
        normalize: What the encoder was trained on; see ``MaskedAutoencoder``.

    Attributes:
        feature_info: For each block, what timm tells of a layer: ``module``, its name from ``blocks.0`` on;
            ``num_chs``, its channels; ``reduction``, pixels of a patch.

    Raises:
        ValueError: If an argument is out of its range, with the reason.
    """

    num_classes = 0
    num_prefix_tokens = 0  # the class token stays inside
    visible: Tensor

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        encoder_dim: int = 768,
        encoder_depth: int = 12,
        encoder_heads: int = 12,
        memory_slots: int = 40,
        long_skips: bool = True,
        normalize: Normalize = "none",
    ) -> None:
        super().__init__()
        self.network = MaskedAutoencoder(
            image_size=image_size,
            patch_size=patch_size,
            in_channels=in_channels,
            encoder_dim=encoder_dim,
            encoder_depth=encoder_depth,
            encoder_heads=encoder_heads,
            memory_slots=memory_slots,
            long_skips=long_skips,
            normalize=normalize,
            decoder_dim=4,
            decoder_depth=1,
            decoder_heads=1,
            multi_level=False,
        )
        del self.network.decoder
        self.num_features = encoder_dim
        self.feature_info = [
            {"module": f"blocks.{index}", "num_chs": encoder_dim, "reduction": patch_size}
            for index in range(encoder_depth)
        ]
        self.register_buffer("visible", torch.arange(self.network.num_patches)[None], persistent=False)

    @property
    def patch_embed(self) -> SimpleNamespace:
        """Where timm's models have ``patch_size``, height and width."""
        return SimpleNamespace(patch_size=(self.network.patch_size,) * 2)

    @property
    def pre_processor(self) -> dict[str, Any]:
        """What makes the encoder's images, as the ``pre_processor`` of a detector's configuration."""
        return {"class_path": "anomalib_memmc.ResizePreProcessor", "init_args": {"size": [*self.network.image_size]}}

    def forward(self, images: Tensor) -> Tensor:
        """The encoder's normalised output.

        Args:
            images: Images (B, 3, H, W), values in [0, 1].

        Returns:
            Class token and patch tokens (B, 1 + N, E).

        Raises:
            ValueError: If the images have another size or range.
        """
        return self.network.encode(self._checked(images), self.visible, ())[0]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Patch tokens after some blocks.

        Args:
            x: Images (B, 3, H, W), values in [0, 1].
            indices: Blocks, counted from 0, negative ones from the end; a number takes the last blocks, None all.
            return_prefix_tokens: Must be False: there are patch tokens only.
            norm: Pass the tokens of every block through the encoder's last norm.
            output_fmt: ``"NCHW"`` for maps (B, E, rows, columns), ``"NLC"`` for tokens (B, N, E), row by row.
            intermediates_only: Return the list alone.

        Returns:
            The encoder's normalised output (B, 1 + N, E), and the maps or tokens of each block; or only these.

        Raises:
            ValueError: If the images have another size or range, a block does not exist, or prefix tokens are asked
                for.
        """
        if return_prefix_tokens:
            msg = f"{NAME} has patch tokens only: leave return_prefix_tokens (return_class_token) at False."
            raise ValueError(msg)
        levels = tuple(index + 1 for index in self._blocks(indices))
        output, tokens = self.network.encode(self._checked(x), self.visible, levels)
        assert tokens is not None
        if norm:
            tokens = self.network.encoder.norm(tokens)
        if output_fmt == "NCHW":
            tokens = tokens.transpose(2, 3).unflatten(3, self.network.grid)
        intermediates = [each.contiguous() for each in tokens]
        return intermediates if intermediates_only else (output, intermediates)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the tokens of some blocks do not need.

        Args:
            indices: Blocks, as in ``forward_intermediates``.
            prune_norm: Drop the encoder's last norm.
            prune_head: Unused: there is none.

        Returns:
            The blocks, counted from 0.

        Raises:
            ValueError: If a block does not exist.
        """
        del prune_head
        taken = self._blocks(indices)
        encoder: Any = self.network.encoder
        encoder.blocks = encoder.blocks[: max(taken) + 1]
        if prune_norm:
            encoder.norm = nn.Identity()
        return taken

    def _checked(self, images: Tensor) -> Tensor:
        """The images, if they are as the encoder was trained on; an exported graph does not look at values."""
        low, high = (0.0, 1.0) if torch.compiler.is_compiling() else (float(end) for end in images.aminmax())
        size = self.network.image_size
        if tuple(images.shape[-2:]) == size and low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
            return images
        msg = (
            f"{NAME} takes pixels in [0, 1] of images of {size[0]} x {size[1]}, and got {low:.2f} to {high:.2f} of "
            f"{images.shape[-2]} x {images.shape[-1]}. Give the detector this pre_processor, which does not "
            f"standardise: {self.pre_processor}"
        )
        raise ValueError(msg)

    def _blocks(self, indices: int | Sequence[int] | None) -> list[int]:
        """Blocks, counted from 0, of timm's way to name some."""
        depth = len(self.network.encoder.blocks)
        if indices is None or isinstance(indices, int):
            indices = range(-(depth if indices is None else indices), 0)
        if not indices or any(not -depth <= index < depth for index in indices):
            msg = f"The layers of {NAME} are blocks.0 to blocks.{depth - 1}: name at least one, and none beyond."
            raise ValueError(msg)
        return [range(depth)[index] for index in indices]


@register_model
def memmc_mae(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The encoder as timm builds it: by ``timm.create_model``, and by every detector that takes a name of timm.

    Args:
        pretrained: Load weights; they are in a folder of ``save_backbone``, named ``local-dir:FOLDER``.
        **kwargs: Arguments of ``MemMCBackbone`` and of timm.

    Returns:
        The backbone, or with ``features_only=True`` a module that returns the maps of some blocks.

    Raises:
        ValueError: If weights are asked for by the bare name, or an argument is out of its range.
    """
    if pretrained and not (kwargs.get("pretrained_cfg") or kwargs.get("pretrained_cfg_overlay")):
        msg = (
            f"{NAME} alone has no weights. Make a folder of your checkpoint, `anomalib-memmc backbone CHECKPOINT "
            "FOLDER`, and name it: backbone: local-dir:FOLDER"
        )
        raise ValueError(msg)
    return build_model_with_cfg(
        MemMCBackbone,
        NAME,
        pretrained,
        feature_cfg={"out_indices": 1, "feature_cls": "getter"},
        kwargs_filter=_OF_OTHER_MODELS,
        **kwargs,
    )
