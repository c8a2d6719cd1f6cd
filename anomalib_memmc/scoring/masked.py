"""Error maps through fixed masks: what every score of reconstructions rests on."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from anomalib_memmc.arguments import require_count
from anomalib_memmc.model.masking import MaskSampler, seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.error_maps import ErrorMap, MSSSIMMap

_VIEWS_PER_PASS = 80  # on a CPU more do not help
_CPU_BUDGET = 2**30  # bytes a pass of scoring may take on a CPU; on a GPU a quarter of what is free


class MaskedScorer(Scorer):
    """Base class of the scores that are taken from an error map; a subclass says how, in :meth:`reduce`.

    Each image is reconstructed under the same fixed masks, so that its score depends on the image alone. Each view is
    compared with the image after its visible patches were pasted back. The map averages, patch by patch, over the views
    in which the patch was hidden; a patch that no view hides gets the mean of the others.

    Args:
        error_map: How a reconstruction differs from its image; None takes the paper's, ``MSSSIMMap()``.
        num_masks: Masks an image is seen through (paper: 10).
        mask_sampler: ``"random"`` (paper) or ``"complementary"`` (not in the paper): disjoint visible sets in turn, so
            that at ratio 0.75 four masks hide every patch three times.
        mask_seed: Seed of the masks.
        mask_ratio: Fraction of patches hidden; None takes that of the training.
        chunk_size: Masked views scored at once, which bounds the memory of scoring, whatever the batch and the number
            of masks; None takes what fits in 1 GiB, or in a quarter of a GPU's free memory. Exported models score all
            masks of a batch at once.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map, after the image score was taken from
            it, as PaDiM and PatchCore do (not in the paper); 0 for none.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the image's size, in ``setup``.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma"})
    costless: ClassVar[frozenset[str]] = frozenset({"chunk_size"})
    masks: Tensor
    visible: Tensor
    hidden: Tensor

    def __init__(
        self,
        error_map: ErrorMap | None = None,
        num_masks: int = 10,
        mask_sampler: MaskSampler = "random",
        mask_seed: int = 0,
        mask_ratio: float | None = None,
        chunk_size: int | None = None,
        blur_sigma: float = 0.0,
    ) -> None:
        super().__init__()
        if chunk_size is not None:
            require_count("chunk_size", chunk_size)
        if error_map is not None and not isinstance(error_map, ErrorMap):
            msg = f"error_map must be an ErrorMap of anomalib_memmc.scoring, such as MSSSIMMap(), got {error_map!r}."
            raise TypeError(msg)
        self.error_map = self.init_args["error_map"] = MSSSIMMap() if error_map is None else error_map
        self.num_masks = num_masks
        self.mask_sampler: MaskSampler = mask_sampler
        self.mask_seed = mask_seed
        self.mask_ratio = mask_ratio
        self.chunk_size = chunk_size
        self.blur_sigma = blur_sigma

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Draw the masks: ``masks`` (M, N), True = hidden, and the indices ``visible`` (M, V), ``hidden`` (M, K)."""
        self.error_map.check(network.image_size)
        self.blur = MapBlur(self.blur_sigma, network.image_size)
        ratio = mask_ratio if self.mask_ratio is None else self.mask_ratio
        masks = seeded_masks(self.num_masks, network.num_patches, ratio, self.mask_sampler, self.mask_seed)
        self.register_buffer("masks", masks, persistent=False)
        self.register_buffer("visible", visible_indices(masks), persistent=False)
        self.register_buffer("hidden", visible_indices(~masks), persistent=False)

    @abstractmethod
    def reduce(self, anomaly_map: Tensor) -> Tensor:
        """Image score from the map.

        Args:
            anomaly_map: Errors (B, 1, H, W), float32, >= 0.

        Returns:
            Scores (B,), higher = more anomalous.
        """

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Score images by their error maps; the spread is that of the mean error of the hidden pixels."""
        parts = [Scores(self.reduce(m), self.blur(m), spread) for m, spread in self._parts(network, images)]
        return parts[0] if len(parts) == 1 else Scores(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def maps(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Error maps, before any blur.

        Args:
            network: The network, in evaluation mode.
            images: Images (B, C, H, W) in [0, 1].

        Returns:
            Errors (B, 1, H, W), float32, >= 0.
        """
        return torch.cat([anomaly_map for anomaly_map, _ in self._parts(network, images)])

    def _parts(self, network: MaskedAutoencoder, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Map and spread, of as many images at once as the memory allows."""
        if torch.compiler.is_compiling():  # exporting is, too
            yield self._map(network, images, self.num_masks)
            return
        chunk = self.views_at_once(network)
        for part in images.split(max(1, chunk // self.num_masks)):
            yield self._map(network, part, chunk)

    def _map(self, network: MaskedAutoencoder, images: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Error of each pixel (B, 1, H, W), and the spread of its mean over the masks (B,); ``chunk`` masks at once."""
        target = images.float()[:, None]
        total, of_view = torch.zeros_like(target[:, 0, :1]), []
        for masks, visible, hidden in zip(
            self.masks.split(chunk), self.visible.split(chunk), self.hidden.split(chunk), strict=True
        ):
            pixels = network.mask_pixels(masks[None]).float()  # (1, M, 1, H, W), the same for every image
            pasted = torch.where(pixels > 0, network.fill(images, visible, hidden), target)
            errors = self.error_map(pasted, target) * pixels  # (B, M, 1, H, W)
            total = total + errors.sum(dim=1)
            of_view.append(errors.sum(dim=(2, 3, 4)) / pixels.sum(dim=(2, 3, 4)))
        counts = network.mask_pixels(self.masks[None]).float().sum(dim=1)
        seen = (counts > 0).float()
        anomaly_map = total / counts.clamp(min=1)
        mean = anomaly_map.sum(dim=(1, 2, 3), keepdim=True) / seen.sum(dim=(1, 2, 3), keepdim=True)
        return torch.where(counts > 0, anomaly_map, mean), torch.cat(of_view, dim=1).std(dim=1, correction=0)

    def views_at_once(self, network: MaskedAutoencoder) -> int:
        """Masked views to score at once: ``chunk_size``, or what the memory allows.

        Args:
            network: The network that will score.

        Returns:
            At least 1.
        """
        if self.chunk_size is not None:
            return self.chunk_size
        device = self.masks.device
        if device.type == "cuda":
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return max(1, (torch.cuda.mem_get_info(device)[0] + cached) // 4 // network.bytes_per_view)
        return min(_VIEWS_PER_PASS, max(1, _CPU_BUDGET // network.bytes_per_view))
