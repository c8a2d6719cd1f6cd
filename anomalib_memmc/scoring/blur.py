"""Gaussian blur of an anomaly map, as PaDiM and PatchCore do."""

import torch
from anomalib.models.components.filters.blur import GaussianBlur2d, compute_kernel_size
from torch import Tensor, nn

from anomalib_memmc.arguments import require_number


class MapBlur(nn.Module):
    """anomalib's Gaussian blur, always in float32, with kernels that no checkpoint holds.

    It blurs along one side and then along the other, which is the same and takes a fraction of the time.

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
        length = compute_kernel_size(sigma)
        shapes = ((length, 1), (1, length)) if sigma else ()
        blurs = [GaussianBlur2d(sigma=float(sigma), kernel_size=shape) for shape in shapes]
        for blur in blurs:
            blur.register_buffer("kernel", blur.kernel, persistent=False)
        self.along = nn.ModuleList(blurs)

    def forward(self, maps: Tensor) -> Tensor:
        """Blur maps (B, 1, H, W), float32, to maps of the same shape."""
        with torch.autocast(device_type=maps.device.type, enabled=False):
            for blur in self.along:
                blur.kernel = blur.kernel.float()  # a model in half precision has cast it
                maps = blur(maps.float())
        return maps
