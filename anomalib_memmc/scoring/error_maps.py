"""How a reconstruction differs from its image, pixel by pixel."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from anomalib_memmc.configurable import Configurable
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map, num_scales, structure_map


class ErrorMap(Configurable, nn.Module, ABC):
    """Base class of the error maps; a new one is a subclass with a ``forward``."""

    def check(self, image_size: tuple[int, int]) -> None:
        """Refuse images that the map cannot be computed of.

        Args:
            image_size: Height and width in pixels.

        Raises:
            ValueError: If they do not suit, with the reason.
        """

    @abstractmethod
    def forward(self, reconstructions: Tensor, images: Tensor) -> Tensor:
        """Compare reconstructions with their images.

        Args:
            reconstructions: (B, M, C, H, W), about [0, 1].
            images: (B, 1, C, H, W) in [0, 1].

        Returns:
            Errors (B, M, 1, H, W), float32, >= 0, and 0 where the two are equal.
        """


class MSSSIMMap(ErrorMap):
    """One minus multi-scale structural similarity (paper); see :func:`~anomalib_memmc.scoring.ms_ssim.ms_ssim_map`."""

    def check(self, image_size: tuple[int, int]) -> None:
        """Images need sides of at least 11 pixels."""
        num_scales(*image_size)

    def forward(self, reconstructions: Tensor, images: Tensor) -> Tensor:
        """Errors (B, M, 1, H, W) in [0, 1]."""
        return ms_ssim_map(reconstructions, images)


class StructureMap(ErrorMap):
    """The contrast-structure term of one scale of MS-SSIM alone (not in the paper).

    See :func:`~anomalib_memmc.scoring.ms_ssim.structure_map`.

    Args:
        scale: 1 is the finest, each further one has half the pixels a side.
    """

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        self.scale = scale

    def check(self, image_size: tuple[int, int]) -> None:
        """The scale must be one that the images have."""
        largest = num_scales(*image_size)
        if type(self.scale) is not int or not 1 <= self.scale <= largest:
            msg = (
                f"scale of StructureMap must be between 1 and {largest} for images of {image_size} pixels, "
                f"got {self.scale}."
            )
            raise ValueError(msg)

    def forward(self, reconstructions: Tensor, images: Tensor) -> Tensor:
        """Errors (B, M, 1, H, W) in [0, 2]."""
        return structure_map(reconstructions, images, self.scale)


class SquaredErrorMap(ErrorMap):
    """Squared difference of the pixels, clamped to [0, 1], the mean over the channels (not in the paper)."""

    def forward(self, reconstructions: Tensor, images: Tensor) -> Tensor:
        """Errors (B, M, 1, H, W) in [0, 1]."""
        difference = reconstructions.float().clamp(0, 1) - images.float().clamp(0, 1)
        return difference.square().mean(dim=2, keepdim=True)
