"""Gaussian blur of an anomaly map, as PaDiM and PatchCore do."""

import torch
from anomalib.models.components import GaussianBlur2d
from torch import Tensor, nn

from anomalib_memmc.arguments import require_number


class MapBlur(nn.Module):
    """anomalib's Gaussian blur, always in float32, with a kernel that no checkpoint holds.

    Args:
        sigma: Standard deviation in pixels; 0 leaves maps as they are.
        image_size: Height and width of the maps in pixels.

    Raises:
        ValueError: If ``sigma`` is negative, or not below a quarter of the shorter side.
    """

    def __init__(self, sigma: float, image_size: tuple[int, int]) -> None:
        super().__init__()
        require_number("blur_sigma", sigma)
        limit = min(image_size) / 4
        if sigma >= limit:
            msg = f"blur_sigma must be at least 0 and below a quarter of the shorter side ({limit:g}), got {sigma}."
            raise ValueError(msg)
        self.blur = GaussianBlur2d(sigma=sigma) if sigma else None
        if self.blur is not None:
            self.blur.register_buffer("kernel", self.blur.kernel, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Blur maps (B, 1, H, W), float32, to maps of the same shape."""
        if self.blur is None:
            return maps
        self.blur.kernel = self.blur.kernel.float()  # a model in half precision has cast it
        with torch.autocast(device_type=maps.device.type, enabled=False):
            return self.blur(maps.float())
