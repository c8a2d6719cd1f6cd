"""MemMC-MAE as a plain torch module: loss in training, scores and maps in evaluation."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional

from anomalib_memmc.model.decoder import Decoder, take_tokens
from anomalib_memmc.model.encoder import Encoder
from anomalib_memmc.model.layers.attention import Gate
from anomalib_memmc.model.layers.positions import sincos_positions
from anomalib_memmc.model.masking import MaskSampler, mask_bank, num_visible, random_indices, visible_indices
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.mahalanobis import NormalErrors
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map, num_scales, structure_map

ErrorMap = Literal["ms_ssim", "structure", "mse"]
ScoreReduction = Literal["mean", "max", "top_k", "mahalanobis"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_UNDECAYED = ("memory_key", "memory_value", "cls_token", "mask_token", "gate_bias")  # besides biases, norms and skips
_VIEWS_PER_PASS = 80  # on a CPU more do not help
_CPU_BUDGET = 2**30  # bytes a pass of scoring may take on a CPU; on a GPU a quarter of what is free


class Reconstruction(NamedTuple):
    """What the model made of masked images.

    Attributes:
        pixels: Reconstructions (B, M, C, H, W), every patch as predicted, nothing pasted; about [0, 1].
        masks: Masks (B, M, N), True = hidden; patches run row by row.
        masked_inputs: Inputs (B, M, C, H, W) with hidden patches in mid-grey.
    """

    pixels: Tensor
    masks: Tensor
    masked_inputs: Tensor


class Scores(NamedTuple):
    """Anomaly scores of a batch.

    Attributes:
        pred_score: Score of each image (B,).
        anomaly_map: Error of each pixel (B, 1, H, W).
        score_std: Standard deviation, over the masks, of the mean error of the hidden pixels (B,).
    """

    pred_score: Tensor
    anomaly_map: Tensor
    score_std: Tensor


class MemMCMAEModel(nn.Module):
    """Masked autoencoder with memory in the encoder and multi-level cross-attention in the decoder.

    With ``memory_slots=0, multi_level=False, long_skips=False`` it is a plain MAE.

    Args:
        image_size: Height and width in pixels (one number for a square).
        patch_size: Side of a square patch in pixels; must divide both sides of the image.
        in_channels: Channels of the images; 1 takes colour input too and averages it.
        encoder_dim: Width of the encoder.
        encoder_depth: Blocks of the encoder.
        encoder_heads: Heads of the encoder.
        decoder_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_heads: Heads of the decoder.
        memory_slots: Memory keys and values of each encoder block (eq. 1; 40 is M2's), 0 = off.
        multi_level: True attends to all encoder levels (eq. 2), False to none, a list to these levels, counted as in
            the paper: 1 is the output of the first block, ``encoder_depth`` of the last.
        gate: Granularity of the gates of eq. 3: ``"channel"``, ``"token"`` or ``"scalar"``.
        cross_residual: Add the decoder tokens to the gated sum of eq. 2 (ours; the paper's equation has no such term).
        long_skips: Long residual connections in encoder and decoder.
        mask_ratio: Fraction of patches hidden.
        num_masks: Masks per image in evaluation.
        mask_sampler: ``"random"`` (paper) or ``"complementary"`` (ours).
        mask_seed: Seed of the evaluation masks.
        normalize: ``"none"`` trains on pixels in [0, 1]; ``"imagenet"`` standardises inside the model, for weights
            that were trained so. Reconstructions are in [0, 1] either way.
        error_map: ``"ms_ssim"`` (paper), ``"structure"``, its contrast-structure term at one scale alone (ours), or
            ``"mse"``.
        structure_scale: Scale of ``"structure"``: 1 is the finest, each further one has half the pixels a side.
        score_reduction: Image score from the map: ``"mean"`` (paper), ``"max"``, ``"top_k"``, the mean of the highest
            tenth of the pixels, or ``"mahalanobis"``, the map's distance from those of normal images (all ours).
        cell_size: Side in pixels of the cells that ``"mahalanobis"`` pools the map to; must divide both sides of the
            image. None takes half a patch: finer than the masks, coarse enough to estimate their covariance.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map, after the image score was taken from
            it (ours, as PaDiM and PatchCore do); 0 = off.
        mask_chunk_size: Masked views scored at once, which bounds the memory of scoring, whatever the batch and the
            number of masks; None takes what fits in 1 GiB, or in a quarter of a GPU's free memory. Exported models
            score all masks of a batch at once.
        checkpoint_decoder: Keep only the inputs of the decoder blocks in training and compute the rest again in the
            backward pass: less memory for more time, the same gradients.
        compile: Run the blocks of encoder and decoder through ``torch.compile`` (the first batch takes minutes, and on
            a CPU a C++ compiler).

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
        mask_ratio: float = 0.75,
        num_masks: int = 10,
        mask_sampler: MaskSampler = "random",
        mask_seed: int = 0,
        normalize: Literal["none", "imagenet"] = "none",
        error_map: ErrorMap = "ms_ssim",
        structure_scale: int = 1,
        score_reduction: ScoreReduction = "mean",
        cell_size: int | None = None,
        blur_sigma: float = 0.0,
        mask_chunk_size: int | None = None,
        checkpoint_decoder: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size_pair(image_size)
        self.patch_size = patch_size
        self.grid = _grid(self.image_size, patch_size)
        self.in_channels = in_channels
        self.mask_ratio = mask_ratio
        self.levels = _levels(multi_level, encoder_depth)
        self.error_map = _one_of("error_map", error_map, get_args(ErrorMap))
        self.structure_scale = _structure_scale(structure_scale, error_map, self.image_size)
        self.score_reduction = _one_of("score_reduction", score_reduction, get_args(ScoreReduction))

        if mask_chunk_size is not None and mask_chunk_size < 1:
            msg = f"mask_chunk_size must be at least 1, or None to fit the memory, got {mask_chunk_size}."
            raise ValueError(msg)
        self.mask_chunk_size = mask_chunk_size

        num_patches = self.grid[0] * self.grid[1]
        num_visible(num_patches, mask_ratio)
        self.patch_embed = nn.Conv2d(in_channels, encoder_dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, encoder_dim) * 0.02)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sincos_positions(encoder_dim, self.grid))
        self.encoder = Encoder(encoder_dim, encoder_depth, encoder_heads, memory_slots, long_skips)
        self.decoder = Decoder(
            decoder_dim,
            decoder_depth,
            decoder_heads,
            encoder_dim,
            self.grid,
            patch_size**2 * in_channels,
            len(self.levels),
            gate,
            cross_residual,
            long_skips,
            checkpoint_decoder,
        )
        self.bank: Tensor
        self.bank_visible: Tensor
        bank = mask_bank(num_masks, num_patches, mask_ratio, mask_sampler, mask_seed)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("bank_visible", visible_indices(bank), persistent=False)
        self.bank_hidden: Tensor
        self.register_buffer("bank_hidden", visible_indices(~bank), persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        mean, std = _pixel_statistics(_one_of("normalize", normalize, ("none", "imagenet")), in_channels)
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)
        cell_size = _cell_size(cell_size, patch_size, self.image_size)
        self.normal_errors = NormalErrors(self.image_size, cell_size) if score_reduction == "mahalanobis" else None
        self.blur = MapBlur(blur_sigma, self.image_size)
        self._init_weights()
        if compile:  # block by block: all blocks share the code of the first, and the chunks of score stay free
            for block in (*self.encoder.blocks, *self.decoder.blocks):
                block.compile(fullgraph=True)

    def forward(self, images: Tensor) -> Tensor | InferenceBatch:
        """Loss in training, scores and maps in evaluation.

        Args:
            images: Images (B, C, H, W), values in [0, 1].

        Returns:
            In training the scalar loss: mean squared error over the pixels of freshly drawn hidden patches. In
            evaluation an ``InferenceBatch`` with ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            ValueError: If the images do not have the size or channels the model was built for.
        """
        if self.training:
            visible, hidden = random_indices(len(images), self.bank.shape[1], self.mask_ratio)
            return self._loss(images, visible, hidden)
        scores = self.score(images)
        return InferenceBatch(pred_score=scores.pred_score, anomaly_map=scores.anomaly_map)

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Mean squared error over the pixels of the hidden patches.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            masks: One mask per image (B, N), True = hidden.

        Returns:
            Scalar, float32.
        """
        return self._loss(images, visible_indices(masks), visible_indices(~masks))

    def _loss(self, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Loss from the indices of the visible (B, V) and of the hidden patches (B, K)."""
        pixels = self._standardise(self._check(images))
        visible, hidden = (index.to(images.device, non_blocking=True) for index in (visible, hidden))
        predicted = self._predict(pixels, visible[:, None], hidden[:, None])
        target = take_tokens(self._patchify(pixels), hidden)
        return functional.mse_loss(predicted.float(), target.float())

    def reconstruct(self, images: Tensor, masks: Tensor | None = None) -> Reconstruction:
        """Reconstruct images from their visible patches.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            masks: Boolean masks (M, N) for all images or (B, M, N), True = hidden; None takes the model's bank.

        Returns:
            The reconstructions, the masks and the masked inputs.

        Raises:
            ValueError: If images or masks do not fit the model, or masks hide different numbers of patches.
        """
        images = self._check(images)
        masks = self._check_masks(self.bank if masks is None else masks, len(images)).to(images.device)
        visible = visible_indices(masks)
        predicted = self._predict(self._standardise(images), visible)
        pixels = self._pixels(predicted, visible.shape[:2])
        return Reconstruction(pixels, masks, torch.where(self._mask_pixels(masks), 0.5, images[:, None]))

    def score(self, images: Tensor) -> Scores:
        """Score images with the fixed mask bank.

        Each view is compared with the image after its visible patches were pasted back. The map of an image averages,
        patch by patch, over the views in which the patch was hidden; a patch that no view hides gets the mean of the
        others. An image's numbers do not depend on the rest of the batch.

        Args:
            images: Images (B, C, H, W), values in [0, 1].

        Returns:
            Scores, maps and the spread of the scores over the masks.
        """
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return self._score(images, len(self.bank))
        chunk = self._chunk_size()
        parts = [self._score(part, chunk) for part in images.split(max(1, chunk // len(self.bank)))]
        return Scores(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def error_cells(self, images: Tensor) -> Tensor:
        """What ``score_reduction="mahalanobis"`` judges images by: the root of the error of each cell of the map.

        Args:
            images: Images (B, C, H, W), values in [0, 1].

        Returns:
            Root errors (B, cells), float32.

        Raises:
            ValueError: If the model has another score reduction.
        """
        if self.normal_errors is None:
            msg = f"Only score_reduction='mahalanobis' has cells, not {self.score_reduction!r}."
            raise ValueError(msg)
        chunk = self._chunk_size()
        parts = images.split(max(1, chunk // len(self.bank)))
        return torch.cat([self.normal_errors.cells(self._map(part, chunk)[0]) for part in parts])

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters to keep out of weight decay: memory, tokens, skips, biases and norms."""
        return {name for name, value in self.named_parameters() if value.ndim < 2 or name.endswith(_UNDECAYED)}

    def _chunk_size(self) -> int:
        """Masked views to score at once."""
        if self.mask_chunk_size is not None:
            return self.mask_chunk_size
        pixels = self.in_channels * self.image_size[0] * self.image_size[1]
        tokens = (len(self.bank[0]) + 1) * self.decoder.embed.out_features
        bytes_of_view = 4 * (12 * pixels + 6 * tokens * max(2, len(self.levels)))  # the live tensors, counted by hand
        device = self.bank.device
        if device.type == "cuda":
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return max(1, (torch.cuda.mem_get_info(device)[0] + cached) // 4 // bytes_of_view)
        return min(_VIEWS_PER_PASS, max(1, _CPU_BUDGET // bytes_of_view))

    def _score(self, images: Tensor, chunk: int) -> Scores:
        anomaly_map, score_std = self._map(images, chunk)
        return Scores(self._reduce(anomaly_map), self.blur(anomaly_map), score_std)

    def _map(self, images: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Error of each pixel (B, 1, H, W), and the spread of its mean over the masks (B,); ``chunk`` masks at once."""
        images = self._check(images)
        target = images.float()[:, None]
        total, of_view = torch.zeros_like(target[:, 0, :1]), []
        for bank, visible, hidden in zip(
            self.bank.split(chunk), self.bank_visible.split(chunk), self.bank_hidden.split(chunk), strict=True
        ):
            masks = self._mask_pixels(bank[None]).float()  # (1, M, 1, H, W), the same for every image
            pasted = torch.where(masks > 0, self._fill(images, visible, hidden), target)
            errors = self._errors(pasted, target) * masks  # (B, M, 1, H, W)
            total = total + errors.sum(dim=1)
            of_view.append(errors.sum(dim=(2, 3, 4)) / masks.sum(dim=(2, 3, 4)))
        counts = self._mask_pixels(self.bank[None]).float().sum(dim=1)
        seen = (counts > 0).float()
        anomaly_map = total / counts.clamp(min=1)
        mean = anomaly_map.sum(dim=(1, 2, 3), keepdim=True) / seen.sum(dim=(1, 2, 3), keepdim=True)
        return torch.where(counts > 0, anomaly_map, mean), torch.cat(of_view, dim=1).std(dim=1, correction=0)

    def _errors(self, x: Tensor, y: Tensor) -> Tensor:
        """Error of each pixel, (B, M, C, H, W) and (B, 1, C, H, W) -> (B, M, 1, H, W), float32, >= 0."""
        if self.error_map == "ms_ssim":
            return ms_ssim_map(x, y)
        if self.error_map == "structure":
            return structure_map(x, y, self.structure_scale)
        return (x.float().clamp(0, 1) - y.float().clamp(0, 1)).square().mean(dim=2, keepdim=True)

    def _reduce(self, anomaly_map: Tensor) -> Tensor:
        """Image score from the map, (B, 1, H, W) -> (B,)."""
        if self.normal_errors is not None:
            return self.normal_errors(anomaly_map)
        pixels = anomaly_map.flatten(1)
        if self.score_reduction == "mean":
            return pixels.mean(dim=1)
        if self.score_reduction == "max":
            return pixels.amax(dim=1)
        return pixels.topk(max(1, pixels.shape[1] // 10), dim=1).values.mean(dim=1)

    def _fill(self, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Predict the hidden patches (M, K) of images (B, C, H, W): (B, M, C, H, W), undefined where visible."""
        batch = images.shape[0]  # len() would fix it in an exported graph
        visible, hidden = (index.expand(batch, -1, -1) for index in (visible, hidden))
        predicted = self._predict(self._standardise(images), visible, hidden)
        patches = predicted.new_zeros(predicted.shape[0], self.bank.shape[1], predicted.shape[2])
        index = hidden.flatten(0, 1)[..., None].expand(-1, -1, predicted.shape[2])
        return self._pixels(patches.scatter(1, index, predicted), visible.shape[:2])

    def _pixels(self, patches: Tensor, views: torch.Size) -> Tensor:
        """Standardised patch values (B * M, N, P) -> pixels (B, M, C, H, W) in about [0, 1], float32."""
        return self._unpatchify(patches.float()).unflatten(0, views) * self.pixel_std + self.pixel_mean

    def _predict(self, pixels: Tensor, visible: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Predict patches.

        Args:
            pixels: Standardised pixels (B, C, H, W).
            visible: Indices of the visible patches (B, M, V).
            wanted: Indices of the patches to predict (B, M, K); None for all.

        Returns:
            Standardised patch values (B * M, N, P), or (B * M, K, P).
        """
        pixels = pixels.to(self.patch_embed.weight.dtype)
        tokens = self.patch_embed(pixels).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        index = visible.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])
        tokens = tokens.gather(1, index).unflatten(1, visible.shape[1:]).flatten(0, 1)
        visible = visible.flatten(0, 1)
        cls_token = (self.cls_token + self.pos_embed[:, :1]).to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        encoded, levels = self.encoder(torch.cat([cls_token, tokens], dim=1), self.levels)
        return self.decoder(encoded, levels, visible, None if wanted is None else wanted.flatten(0, 1))

    def _patchify(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, P); a patch runs row, column, channel, as in MAE."""
        rows, columns = self.grid
        patches = pixels.unflatten(3, (columns, self.patch_size)).unflatten(2, (rows, self.patch_size))
        return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def _unpatchify(self, patches: Tensor) -> Tensor:
        """(B, N, P) -> (B, C, H, W)."""
        rows, columns = self.grid
        patches = patches.unflatten(2, (self.patch_size, self.patch_size, self.in_channels))
        patches = patches.unflatten(1, (rows, columns)).permute(0, 5, 1, 3, 2, 4)
        return patches.flatten(4).flatten(2, 3)

    def _mask_pixels(self, masks: Tensor) -> Tensor:
        """Patch masks (B, M, N) -> pixel masks (B, M, 1, H, W)."""
        pixels = masks.unflatten(2, self.grid).repeat_interleave(self.patch_size, dim=3)
        return pixels.repeat_interleave(self.patch_size, dim=2)[:, :, None]

    def _standardise(self, images: Tensor) -> Tensor:
        return (images - self.pixel_mean) / self.pixel_std

    def _grey(self, images: Tensor) -> Tensor:
        """Average colour images for a one-channel model."""
        if self.in_channels == 1 and images.ndim == 4 and images.shape[1] == 3:
            return images.mean(dim=1, keepdim=True)
        return images

    def _check(self, images: Tensor) -> Tensor:
        images = self._grey(images)
        expected = (self.in_channels, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            msg = (
                f"The model was built for images of shape (batch, {', '.join(map(str, expected))}), got "
                f"{tuple(images.shape)}. Resize the images, or build the model with another image_size or in_channels."
            )
            raise ValueError(msg)
        return images

    def _check_masks(self, masks: Tensor, batch: int) -> Tensor:
        if masks.ndim == 2:
            masks = masks.expand(batch, -1, -1)
        num_patches = self.bank.shape[1]
        if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape[0] != batch or masks.shape[2] != num_patches:
            msg = (
                f"masks must be boolean of shape (M, {num_patches}) or ({batch}, M, {num_patches}), "
                f"got {masks.dtype} of shape {tuple(masks.shape)}."
            )
            raise ValueError(msg)
        return masks

    def _init_weights(self) -> None:
        """Xavier for linear layers, as in MAE. Memory and gates keep the values their modules gave them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.weight.view(self.patch_embed.weight.shape[0], -1))


def image_size_pair(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from one number or two.

    Raises:
        ValueError: If it is neither a positive number nor two of them.
    """
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or any(not isinstance(side, int) or side < 1 for side in pair):
        msg = f"image_size must be a positive number of pixels or two of them (height, width), got {image_size!r}."
        raise ValueError(msg)
    return pair


def _grid(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    if patch_size < 1 or any(side % patch_size for side in image_size):
        msg = (
            f"image_size {image_size[0]} x {image_size[1]} is not a multiple of patch_size {patch_size}; "
            "choose sides that the patch divides."
        )
        raise ValueError(msg)
    return image_size[0] // patch_size, image_size[1] // patch_size


def _cell_size(cell_size: int | None, patch_size: int, image_size: tuple[int, int]) -> int:
    if cell_size is None:
        return patch_size // 2 if patch_size % 2 == 0 else patch_size
    if cell_size < 1 or any(side % cell_size for side in image_size):
        msg = f"cell_size must be a number of pixels that divides both sides of the image, got {cell_size}."
        raise ValueError(msg)
    return cell_size


def _structure_scale(scale: int, error_map: str, image_size: tuple[int, int]) -> int:
    if scale == 1:
        return scale
    if error_map != "structure":
        msg = f"structure_scale={scale} needs error_map='structure', got {error_map!r}: set it to 1."
        raise ValueError(msg)
    largest = num_scales(*image_size)
    if not 1 <= scale <= largest:
        msg = f"structure_scale must be between 1 and {largest} for images of {image_size} pixels, got {scale}."
        raise ValueError(msg)
    return scale


def _levels(multi_level: bool | list[int], depth: int) -> tuple[int, ...]:
    if isinstance(multi_level, bool):
        return tuple(range(1, depth + 1)) if multi_level else ()
    levels = tuple(multi_level)
    if not levels or len(set(levels)) < len(levels) or any(not 1 <= level <= depth for level in levels):
        msg = (
            f"multi_level must be true, false or a list of different levels from 1 to encoder_depth={depth}, "
            f"got {multi_level!r}."
        )
        raise ValueError(msg)
    return levels


def _pixel_statistics(normalize: str, channels: int) -> tuple[Tensor, Tensor]:
    if normalize == "none":
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    if channels != 3:
        msg = f"normalize='imagenet' needs in_channels=3, got {channels}."
        raise ValueError(msg)
    return torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), torch.tensor(_IMAGENET_STD).view(3, 1, 1)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        msg = f"{name} must be one of {', '.join(allowed)}, got {value!r}."
        raise ValueError(msg)
    return value
