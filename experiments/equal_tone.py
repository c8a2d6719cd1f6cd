"""A transform for the study: a training that sees every image with another noise and tone."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import Transform
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
        if not isinstance(inpt, Tensor) or not inpt.is_floating_point():
            return inpt
        toned = v2.adjust_contrast(v2.adjust_gamma(inpt, params["gamma"]), params["contrast"])
        return (toned + params["noise"] * torch.randn(toned.shape[-2:])).clamp(0, 1)
