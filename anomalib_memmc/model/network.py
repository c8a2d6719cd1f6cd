"""The masked autoencoder: an encoder with memory, and a decoder that attends to every encoder level."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from anomalib_memmc.arguments import require_choice, require_count
from anomalib_memmc.configurable import Configurable, build
from anomalib_memmc.model.decoder import Decoder
from anomalib_memmc.model.encoder import Encoder
from anomalib_memmc.model.feature_target import FeatureTarget
from anomalib_memmc.model.layers.attention import Gate, Recompute
from anomalib_memmc.model.layers.positions import sincos_positions

Normalize = Literal["none", "imagenet"]

_UNDECAYED = ("memory_key", "memory_value", "cls_token", "mask_token", "gate_bias")  # besides biases, norms and skips


class MaskedAutoencoder(Configurable, nn.Module):
    """Masked autoencoder with memory in the encoder and multi-level cross-attention in the decoder.

    With ``memory_slots=0, multi_level=False, long_skips=False`` it is a plain MAE. It draws no masks: which patches are
    visible is an argument. Patches are numbered row by row.

    Args:
        image_size: Height and width in pixels, one number for a square.
        patch_size: Side of a square patch in pixels; must divide both sides of the image.
        in_channels: Channels of the images; 1 takes colour images too and averages them.
        encoder_dim: Width of the encoder (paper: ViT-B's).
        encoder_depth: Blocks of the encoder (paper: ViT-B's).
        encoder_heads: Heads of the encoder (paper: ViT-B's).
        decoder_dim: Width of the decoder (MAE's; the paper gives no size).
        decoder_depth: Blocks of the decoder (MAE's).
        decoder_heads: Heads of the decoder (MAE's).
        memory_slots: Memory keys and values of each encoder block (eq. 1; 40 is the Meshed-Memory Transformer's), 0 for
            none.
        multi_level: True attends to all encoder levels (eq. 2), False to none, as a plain MAE, a list to these levels,
            counted as in the paper: 1 is the output of the first block, ``encoder_depth`` of the last.
        gate: Granularity of the gates of eq. 3: ``"channel"`` (Meshed-Memory Transformer), ``"token"`` or ``"scalar"``.
        cross_residual: Add the decoder tokens to the gated sum of eq. 2 (not in the paper).
        long_skips: Long residual connections in encoder and decoder, with a scale that is learnt from 0 (which blocks
            they join is not in the paper).
        normalize: ``"none"`` trains on pixels in [0, 1]; ``"imagenet"`` standardises them inside the model, for weights
            that were trained so. Reconstructions are in [0, 1] either way.
        feature_target: Features that the decoder predicts beside the pixels, or their configuration (not in the paper);
            None for pixels alone.
        recompute: What training computes again in the backward pass instead of keeping it, with the same gradients:
            ``"nothing"`` is fastest, where the memory suffices; ``"attention"`` to the levels costs little; ``"gates"``
            of the levels as well take less memory and more time; ``"decoder"``, all but the inputs of the decoder's
            blocks, least and most.
        compile: Run the blocks of encoder and decoder through ``torch.compile``; the first batch takes minutes, and on
            a CPU it needs a C++ compiler.

    Raises:
        ValueError: If an argument is out of its range, with the reason.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        encoder_dim: int = 768,
        encoder_depth: int = 12,
        encoder_heads: int = 12,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        memory_slots: int = 40,
        multi_level: bool | list[int] = True,
        gate: Gate = "channel",
        cross_residual: bool = False,
        long_skips: bool = True,
        normalize: Normalize = "none",
        feature_target: FeatureTarget | None = None,
        recompute: Recompute = "attention",
        compile: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"patch_size": patch_size, "in_channels": in_channels}
        sizes |= {"encoder_dim": encoder_dim, "encoder_depth": encoder_depth, "encoder_heads": encoder_heads}
        sizes |= {"decoder_dim": decoder_dim, "decoder_depth": decoder_depth, "decoder_heads": decoder_heads}
        for name, size in sizes.items():
            require_count(name, size)
        require_count("memory_slots", memory_slots, least=0)
        _require_width("encoder", encoder_dim, encoder_heads)
        _require_width("decoder", decoder_dim, decoder_heads)
        switches = {"cross_residual": cross_residual, "long_skips": long_skips, "compile": compile}
        for name, switch in switches.items():
            require_choice(name, switch, (True, False))
        self.image_size = _pair(image_size)
        self.patch_size = patch_size
        self.grid = _grid(self.image_size, patch_size)
        self.in_channels = in_channels
        self.levels = _levels(multi_level, encoder_depth)
        self.pixel_values = patch_size**2 * in_channels
        target = build(feature_target, FeatureTarget) if isinstance(feature_target, Mapping) else feature_target
        if target is not None:
            target.setup(self.image_size, self.grid, in_channels)

        self.patch_embed = nn.Conv2d(in_channels, encoder_dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, encoder_dim) * 0.02)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sincos_positions(encoder_dim, self.grid))
        self.encoder = Encoder(encoder_dim, encoder_depth, encoder_heads, memory_slots, long_skips)
        self.decoder = Decoder(
            decoder_dim,
            decoder_depth,
            decoder_heads,
            encoder_dim=encoder_dim,
            grid=self.grid,
            patch_values=self.pixel_values + (0 if target is None else target.values),
            num_levels=len(self.levels),
            gate=gate,
            cross_residual=cross_residual,
            long_skips=long_skips,
            recompute=recompute,
        )
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        mean, std = _pixel_statistics(normalize, in_channels)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)
        self._init_weights()
        self.feature_target: FeatureTarget | None = target  # after the weights were drawn: its own are not
        if compile:  # block by block: all blocks share the code of the first, and the chunks of scoring stay free
            for block in (*self.encoder.blocks, *self.decoder.blocks):
                block.compile(fullgraph=True)

    @property
    def num_patches(self) -> int:
        """Patches of an image, N."""
        return self.grid[0] * self.grid[1]

    @property
    def bytes_per_view(self) -> int:
        """Memory that scoring one masked view takes in passing: the live tensors, counted by hand, float32."""
        pixels = self.in_channels * self.image_size[0] * self.image_size[1]
        tokens = (self.num_patches + 1) * self.decoder.embed.out_features
        return 4 * (12 * pixels + 6 * tokens * max(2, len(self.levels)))

    def predict(self, images: Tensor, visible: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Predict patches from the visible ones.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            visible: Indices of the visible patches of each of M views, int64, (B, M, V) or (M, V) for all images alike.
            hidden: Indices of the patches to predict (B, M, K) or (M, K); None for all. It spares the last block and
                the head the other patches.

        Returns:
            Standardised patch values (B, M, N, P + F), or (B, M, K, P + F). The P of pixels run row, column, channel;
            the F of features are there only with a ``feature_target``, see :meth:`feature_values`.

        Raises:
            ValueError: If the images do not have the size or channels the model was built for.
        """
        visible = _of_each_image(visible, images)
        hidden = None if hidden is None else _of_each_image(hidden, images)
        encoded, levels = self.encode(images, visible)
        predicted = self.decoder(
            encoded, levels, visible.flatten(0, 1), None if hidden is None else hidden.flatten(0, 1)
        )
        return predicted.unflatten(0, visible.shape[:2])

    def encode(
        self, images: Tensor, visible: Tensor, levels: tuple[int, ...] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode the visible patches.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            visible: Indices of the visible patches of each of M views, int64, (B, M, V) or (M, V) for all images alike.
            levels: Levels to return, counted from 1; None takes those that the decoder attends to.

        Returns:
            The encoder's normalised output: class token and visible patches (B * M, 1 + V, E); and the patch tokens of
            the levels (L, B * M, V, E), None where there are none.
        """
        visible = _of_each_image(visible, images)
        pixels = self.standardise(self.check(images)).to(self.patch_embed.weight.dtype)
        tokens = self.patch_embed(pixels).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        index = visible.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])
        tokens = tokens.gather(1, index).unflatten(1, visible.shape[1:]).flatten(0, 1)
        cls_token = (self.cls_token + self.pos_embed[:, :1]).to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return self.encoder(torch.cat([cls_token, tokens], dim=1), self.levels if levels is None else levels)

    def fill(self, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Reconstruct the hidden patches of images, all images under the same masks.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            visible: Indices of the visible patches of each mask (M, V), int64.
            hidden: Indices of the hidden patches of each mask (M, K), int64.

        Returns:
            Pixels (B, M, C, H, W) in about [0, 1], float32; undefined where visible.
        """
        hidden = _of_each_image(hidden, images)
        return self.pixels(self.put_back(self.pixel_part(self.predict(images, visible, hidden)), hidden))

    def put_back(self, values: Tensor, hidden: Tensor) -> Tensor:
        """Put values of hidden patches in their places.

        Args:
            values: Values of the hidden patches (B, M, K, F).
            hidden: Indices of the hidden patches (B, M, K), int64.

        Returns:
            Values of all patches (B, M, N, F), 0 where visible.
        """
        patches = values.new_zeros(*values.shape[:2], self.num_patches, values.shape[-1])
        return patches.scatter(2, hidden[..., None].expand(-1, -1, -1, values.shape[-1]), values)

    def pixels(self, patches: Tensor) -> Tensor:
        """Predicted values of all patches (B, M, N, P + F) -> pixels (B, M, C, H, W) in about [0, 1], float32."""
        return self.unpatchify(self.pixel_part(patches).float()) * self.pixel_std + self.pixel_mean

    def pixel_part(self, patches: Tensor) -> Tensor:
        """Predicted values (..., P + F) -> the standardised pixels (..., P)."""
        return patches[..., : self.pixel_values]

    def feature_values(self, patches: Tensor) -> Tensor:
        """Predicted values (..., P + F) -> the standardised features (..., F)."""
        return patches[..., self.pixel_values :]

    def standardise(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] -> pixels as the network is trained on, of the same shape; see ``normalize``."""
        return (images - self.pixel_mean) / self.pixel_std

    def patchify(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, P); a patch runs row, column, channel, as in MAE."""
        rows, columns = self.grid
        patches = images.unflatten(3, (columns, self.patch_size)).unflatten(2, (rows, self.patch_size))
        return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(..., N, P) -> (..., C, H, W), the inverse of :meth:`patchify`."""
        rows, columns = self.grid
        images = patches.flatten(0, -3).unflatten(2, (self.patch_size, self.patch_size, self.in_channels))
        images = images.unflatten(1, (rows, columns)).permute(0, 5, 1, 3, 2, 4)
        return images.flatten(4).flatten(2, 3).unflatten(0, patches.shape[:-2])

    def mask_pixels(self, masks: Tensor) -> Tensor:
        """Patch masks (B, M, N) -> pixel masks (B, M, 1, H, W)."""
        pixels = masks.unflatten(2, self.grid).repeat_interleave(self.patch_size, dim=3)
        return pixels.repeat_interleave(self.patch_size, dim=2)[:, :, None]

    def check(self, images: Tensor) -> Tensor:
        """Images as the network takes them: colour is averaged where it takes one channel.

        Raises:
            ValueError: If the images do not have the size or channels the model was built for.
        """
        if self.in_channels == 1 and images.ndim == 4 and images.shape[1] == 3:
            images = images.mean(dim=1, keepdim=True)
        expected = (self.in_channels, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            msg = (
                f"The model was built for images of shape (batch, {', '.join(map(str, expected))}), got "
                f"{tuple(images.shape)}. Resize the images, or build the model with another image_size or in_channels."
            )
            raise ValueError(msg)
        return images

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters to keep out of weight decay: memory, tokens, skips, biases and norms."""
        return {name for name, value in self.named_parameters() if value.ndim < 2 or name.endswith(_UNDECAYED)}

    def _init_weights(self) -> None:
        """Xavier for linear layers, as in MAE. Memory and gates keep the values their modules gave them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.weight.view(self.patch_embed.weight.shape[0], -1))


def _of_each_image(index: Tensor, images: Tensor) -> Tensor:
    """Indices (M, V) for all of B images as (B, M, V); those of each image as they are."""
    if index.ndim not in (2, 3):
        msg = f"Indices of patches must have shape (M, V) or (B, M, V), got {tuple(index.shape)}."
        raise ValueError(msg)
    return index.expand(images.shape[0], -1, -1) if index.ndim == 2 else index  # len() would fix an exported batch


def _pair(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from one number or two."""
    pair = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(pair, Sequence) or len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair):
        msg = f"image_size must be a positive number of pixels or two of them (height, width), got {image_size!r}."
        raise ValueError(msg)
    return pair[0], pair[1]


def _require_width(part: str, dim: int, heads: int) -> None:
    """Refuse a width that cannot be split into heads, or that has no sine-cosine positions."""
    if dim % 4 or dim % heads:
        msg = f"{part}_dim={dim} must be a multiple of 4 and of {part}_heads={heads}."
        raise ValueError(msg)


def _grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Patches (rows, columns) of an image."""
    if patch_size < 1 or any(side % patch_size for side in image_size):
        msg = (
            f"image_size {image_size[0]} x {image_size[1]} is not a multiple of patch_size {patch_size}; "
            "choose sides that the patch divides."
        )
        raise ValueError(msg)
    return image_size[0] // patch_size, image_size[1] // patch_size


def _levels(multi_level: bool | list[int], depth: int) -> tuple[int, ...]:
    """Levels to attend to, from 1."""
    if isinstance(multi_level, bool):
        return tuple(range(1, depth + 1)) if multi_level else ()
    levels = tuple(multi_level) if isinstance(multi_level, Sequence) else ()
    known = range(1, depth + 1)
    if (
        not levels
        or len(set(levels)) < len(levels)
        or any(type(level) is not int or level not in known for level in levels)
    ):
        msg = (
            f"multi_level must be true, false or a list of different levels from 1 to encoder_depth={depth}, "
            f"got {multi_level!r}."
        )
        raise ValueError(msg)
    return levels


def _pixel_statistics(normalize: str, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that pixels are standardised by, each (C or 1, 1, 1)."""
    if normalize == "none":
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    if normalize != "imagenet":
        msg = f"normalize must be one of none, imagenet, got {normalize!r}."
        raise ValueError(msg)
    if channels != 3:
        msg = f"normalize='imagenet' needs in_channels=3, got {channels}."
        raise ValueError(msg)
    return torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1)
