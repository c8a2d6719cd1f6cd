"""Places of normal images, and the distance to the nearest of them (as in PatchCore)."""

import torch
from torch import Tensor, nn

from anomalib_memmc.arguments import require_count

_PLACES_AT_ONCE = 2048  # compared with the whole bank: 80 MB with 10,000 of them


class NearestPlaces(nn.Module):
    """A bank of features of normal places, wherever they are in an image, and the distance to the nearest.

    PatchCore (Roth et al. 2022) compares so; it chooses its bank by a coreset, here it is drawn at random. Before
    :meth:`fit` the distance is the root mean square of the features.

    Args:
        bank: Number of places kept K; of fewer, some are there more than once, which changes no distance.
        width: Number of features D.

    Raises:
        ValueError: If an argument is out of its range.
    """

    bank: Tensor

    def __init__(self, bank: int, width: int) -> None:
        super().__init__()
        require_count("bank", bank)
        self.register_buffer("bank", torch.zeros(bank, width))

    def fit(self, features: Tensor) -> None:
        """Draw places of normal images (images, N, D); the same features give the same bank.

        Raises:
            ValueError: If there are no images.
        """
        places = features.flatten(0, 1)
        if len(places) == 0:
            msg = "At least 1 normal training image is needed, got 0."
            raise ValueError(msg)
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))
        drawn = order.repeat(-(-len(self.bank) // len(order)))[: len(self.bank)]
        self.bank.copy_(places[drawn.to(places.device)])

    def forward(self, features: Tensor) -> Tensor:
        """Root mean square of the differences from the nearest: (B, N, D) -> (B, N), float32."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            places, bank = features.float().flatten(0, 1), self.bank.float()
            as_one = torch.compiler.is_compiling()  # exporting is, too
            of_bank = bank.square().sum(dim=1)
            nearest = torch.cat(
                [
                    torch.addmm(of_bank, part, bank.mT, alpha=-2).amin(dim=1)
                    for part in ([places] if as_one else places.split(_PLACES_AT_ONCE))
                ]
            )
            squares = (nearest + places.square().sum(dim=1)).clamp(min=0) / bank.shape[1]
            return squares.sqrt().unflatten(0, (-1, features.shape[1]))
