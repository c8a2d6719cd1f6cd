"""Where an image shows tissue, and where it shows the device: black borders, boxes, collimation, text on black."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from anomalib_memmc.configurable import Configurable

IN_RANGE = (-0.1, 1.1)  # interpolation may overshoot a little; standardised pixels lie far outside


class FieldOfView(Configurable, nn.Module):
    """Finds the tissue of each image by thresholding and morphology (not in the paper).

    Outside is what is dark and *connected to the image's edge*: a black border, a collimated margin, a black box that
    touches either. A dark lumen in the middle is tissue. Bright structures on black that are narrow, such as burnt-in
    text, are outside; narrow dark ones are tissue, and connect nothing. Not seen are borders that are not dark, and
    text on tissue. A lumen as black as the border is taken for it where the two touch. Has no weights, and can be
    exported.

    Args:
        darkness: Level in [0, 1] below which a pixel is dark; in colour, its brightest channel. 15 of 255 is above the
            noise of a JPEG's black and below most shadows.
        radius: Half the width of what is narrow, as a fraction of the image's shorter side; at least a pixel.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> import torch
        >>> image = torch.full((1, 3, 64, 64), 0.5)
        >>> image[..., :16] = 0  # a black border at the left
        >>> FieldOfView()(image).float().mean()
        tensor(0.7500)
    """

    def __init__(self, darkness: float = 0.06, radius: float = 0.02) -> None:
        super().__init__()
        if not 0 < darkness < 1:
            msg = f"darkness must lie in (0, 1), got {darkness}."
            raise ValueError(msg)
        if not 0 < radius < 0.5:
            msg = f"radius must lie in (0, 0.5), a fraction of the image's shorter side, got {radius}."
            raise ValueError(msg)
        self.darkness = darkness
        self.radius = radius

    def forward(self, images: Tensor) -> Tensor:
        """Find the tissue.

        Args:
            images: (B, C, H, W), in [0, 1].

        Returns:
            (B, 1, H, W), bool, ``True`` for tissue. An image without any is all tissue.

        Raises:
            ValueError: If the pixels are not in [0, 1], as after ImageNet's standardisation.
        """
        _require_unit_range(images)
        height, width = images.shape[-2:]
        radius = max(1, round(self.radius * min(height, width)))
        margin = 2 * radius + 1  # the edge's surroundings are black, and not narrow
        right, lower = (margin + -(side + 2 * margin) % radius for side in (width, height))  # to whole blocks
        level = functional.pad(images.detach().float().amax(dim=1, keepdim=True), (margin, right, margin, lower))
        level = _erode(_dilate(_dilate(_erode(level, radius), radius), radius), radius)  # opened, then closed
        outside = _connected_to_edge((level < self.darkness).float(), radius)
        tissue = ~outside[..., margin : margin + height, margin : margin + width].bool()
        return tissue | ~tissue.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)


def level_outside(maps: Tensor, tissue: Tensor) -> Tensor:
    """Give each map outside its tissue the smallest value that it has inside.

    Args:
        maps: Anomaly maps (B, H, W) or (B, 1, H, W).
        tissue: Bool of the same shape, in each map somewhere ``True``.

    Returns:
        The maps, of the same shape; inside the tissue as they were.
    """
    lowest = torch.where(tissue, maps, torch.inf).amin(dim=(-2, -1), keepdim=True)
    return torch.where(tissue, maps, lowest)


def _connected_to_edge(dark: Tensor, radius: int) -> Tensor:
    """Which dark pixels are connected to the outermost ones.

    Dark areas, once closed, are unions of squares of 2 * radius + 1 pixels, and such a square holds a whole block of
    radius x radius. So the edge is spread over blocks that are wholly dark, step by step, which is quick, and then to
    the dark squares that it has reached.

    Args:
        dark: 1 where dark and 0 elsewhere (B, 1, H, W), dark along the edge, H and W multiples of radius.
        radius: In pixels, >= 1.

    Returns:
        1 where dark and connected, 0 elsewhere, of the same shape.
    """
    blocks = -functional.max_pool2d(-dark, radius)
    reached = functional.pad(torch.zeros_like(blocks[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0)
    for _ in range(max(blocks.shape[-2:])):
        further = functional.max_pool2d(reached, 3, stride=1, padding=1) * blocks
        if not torch.compiler.is_compiling() and torch.equal(further, reached):
            break
        reached = further
    pixels = reached.repeat_interleave(radius, dim=-2).repeat_interleave(radius, dim=-1)
    return _dilate(_erode(dark, radius) * _dilate(pixels, radius), radius)  # squares by their centres


def _dilate(level: Tensor, radius: int) -> Tensor:
    """Largest level within a square of 2 * radius + 1 pixels, by rows and columns."""
    side = 2 * radius + 1
    rows = functional.max_pool2d(level, (1, side), stride=1, padding=(0, radius))
    return functional.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))


def _erode(level: Tensor, radius: int) -> Tensor:
    """Smallest level within a square of 2 * radius + 1 pixels."""
    return -_dilate(-level, radius)


def _require_unit_range(images: Tensor) -> None:
    if torch.compiler.is_compiling() or images.numel() == 0:
        return
    low, high = images.min().item(), images.max().item()
    if low < IN_RANGE[0] or high > IN_RANGE[1]:
        msg = (
            f"FieldOfView takes pixels in [0, 1] and found {low:.2f} to {high:.2f}: give it the images as they are "
            "before any Normalize."
        )
        raise ValueError(msg)
