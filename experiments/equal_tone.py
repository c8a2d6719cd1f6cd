"""Transforms for the study that make noise and tone of images equal: by chance in training, or before the model."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import GaussianBlur, Transform
from torchvision.transforms.v2 import functional as v2

NOISE = 0.05
GAMMA = 1.5
CONTRAST = 1.3


class RandomTone(Transform):
    """Another noise, gamma and contrast for every image (..., H, W) in [0, 1], as another device would give it.

    Noise is Gaussian, the same in all channels, its standard deviation uniform up to 0.05. Gamma and contrast are
    log-uniform, up to 1.5 and 1.3 times as high or as low.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw what happens to the images of one call."""
        del flat_inputs
        noise, gamma, contrast = torch.rand(3).tolist()
        return {"noise": NOISE * noise, "gamma": GAMMA ** (2 * gamma - 1), "contrast": CONTRAST ** (2 * contrast - 1)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image; what is none stays as it is."""
        if not _is_image(inpt):
            return inpt
        toned = v2.adjust_contrast(v2.adjust_gamma(inpt, params["gamma"]), params["contrast"])
        return (toned + params["noise"] * torch.randn(toned.shape[-2:])).clamp(0, 1)


class LocalContrast(Transform):
    """Local contrast normalisation: each pixel relative to mean and spread of its surroundings (Jarrett et al. 2009).

    An image (..., H, W) in [0, 1] becomes 0.5 at the local mean and 0 or 1 at two local standard deviations from it.

    Args:
        sigma: Standard deviation of the Gaussian window in pixels.
        floor: Least local standard deviation, so that what is flat stays flat.
    """

    def __init__(self, sigma: float = 8.0, floor: float = 0.02) -> None:
        super().__init__()
        self.mean = GaussianBlur(2 * round(2 * sigma) + 1, [sigma, sigma])
        self.floor = floor

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image; what is none stays as it is."""
        del params
        if not _is_image(inpt):
            return inpt
        centred = inpt - self.mean(inpt)
        spread = self.mean(centred.square()).sqrt().clamp(min=self.floor)
        return (0.5 + centred / spread / 4).clamp(0, 1)


def _is_image(inpt: Any) -> bool:
    """Whether an input is an image of floating-point numbers, and not a mask."""
    return isinstance(inpt, Tensor) and inpt.is_floating_point()
