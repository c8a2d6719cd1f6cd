"""Features as a second target of the reconstruction, beside the pixels (not in the paper)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from anomalib_memmc.arguments import require_count, require_number
from anomalib_memmc.configurable import Configurable
from anomalib_memmc.model.features import FrozenFeatures

_LEAST_SPREAD = 1e-3


class FeatureTarget(Configurable, nn.Module):
    """Features of a frozen pretrained network, which the decoder predicts beside the pixels of a hidden patch.

    A patch has ``cells`` x ``cells`` places. Their features are standardised: by the mean of normal images at that
    place, and by each feature's spread around it, over all places. Both are learnt by :meth:`fit`, before the first
    step.

    Args:
        backbone: A model of timm.
        layers: Its layers, as anomalib's PaDiM names them; None takes those of the benchmarks' PaDiM.
        cells: Places along a side of a patch.
        weight: Weight of the features' mean squared error in the loss; that of the pixels has weight 1.
        pre_trained: Take timm's pretrained weights (ImageNet), loaded by the first :meth:`fit`; False leaves random
            ones.
        scale: How many times larger the frozen network is given the images, above 0.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the image's size, in ``setup``.
    """

    mean: Tensor
    spread: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        layers: list[str] | None = None,
        cells: int = 2,
        weight: float = 0.05,
        pre_trained: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_count("cells", cells)
        require_number("weight", weight)
        if weight == 0:
            msg = f"weight must be greater than 0, got {weight}; without features leave feature_target out."
            raise ValueError(msg)
        self.backbone = backbone
        self.layers = self.init_args["layers"] = ["blocks.1", "blocks.2", "blocks.4"] if layers is None else layers
        self.cells = cells
        self.weight = weight
        self.pre_trained = pre_trained
        self.scale = scale

    def setup(self, image_size: tuple[int, int], patches: tuple[int, int], in_channels: int) -> None:
        """Build the frozen network, without weights.

        Args:
            image_size: Height and width in pixels.
            patches: Rows and columns of the patches.
            in_channels: Channels of the images.

        Raises:
            ValueError: If the frozen network takes no such images.
        """
        grid = (patches[0] * self.cells, patches[1] * self.cells)
        self.features = FrozenFeatures(
            self.backbone, self.layers, image_size, grid, self.pre_trained, in_channels, self.scale
        )
        self.register_buffer("mean", torch.zeros(1, self.features.width, *grid))
        self.register_buffer("spread", torch.ones(1, self.features.width, 1, 1))
        self.register_buffer("is_fitted", torch.tensor(False))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the places."""
        return self.features.grid

    @property
    def values(self) -> int:
        """Values of a patch, F: its places' features."""
        return self.cells**2 * self.features.width

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Load the weights and learn means and spreads from normal images.

        Args:
            batches: Images (B, 1 or 3, H, W) in [0, 1]; gone through once, and in several processes each gives all.

        Raises:
            ValueError: If there are no images.
            RuntimeError: If the weights cannot be had.
        """
        self.features.load_weights()
        zeros = torch.zeros_like(self.mean[0], device="cpu").double()
        count, total, squares = 0, zeros, zeros
        for images in batches:
            found = self.features(images).cpu().double()  # not every GPU has float64
            count, total, squares = count + len(found), total + found.sum(dim=0), squares + found.square().sum(dim=0)
        if count == 0:
            msg = "The features of normal images cannot be learnt: there are no normal training images."
            raise ValueError(msg)
        mean = total / count
        self.mean.copy_(mean)
        variance = (squares / count - mean.square()).mean(dim=(1, 2), keepdim=True)
        self.spread.copy_(variance.clamp(min=_LEAST_SPREAD**2).sqrt())
        self.is_fitted.fill_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Standardised features of every patch: images (B, 1 or 3, H, W) in [0, 1] -> (B, N, F), float32."""
        standard = (self.features(images) - self.mean) / self.spread
        side = self.cells
        return functional.pixel_unshuffle(standard, side).flatten(2).transpose(1, 2)

    def places(self, patches: Tensor) -> Tensor:
        """Values of patches (B, N, F) as features of places (B, rows * columns, D), places row by row."""
        rows, columns = self.grid[0] // self.cells, self.grid[1] // self.cells
        maps = patches.transpose(1, 2).unflatten(2, (rows, columns))
        return functional.pixel_shuffle(maps, self.cells).flatten(2).transpose(1, 2)
