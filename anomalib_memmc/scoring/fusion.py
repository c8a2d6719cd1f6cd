"""Several scores as one (not in the paper)."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from anomalib_memmc.arguments import require_number
from anomalib_memmc.gathering import gather
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores

_LEAST_SPREAD = 1e-6


class FusedScorer(Scorer):
    """Weighted mean of several scores, each standardised by what it gives normal images.

    Scores that learn would be too small on the images that they have learnt from. So each is fitted to one half of the
    normal images and standardised by the other, and fitted to all of them afterwards. Maps are standardised pixel by
    pixel of all places alike, and fused in the same way. Before :meth:`fit` the plain weighted mean is given.

    Args:
        scorers: The scorers, at least one.
        weights: Weight of each; None weighs all alike.
        map_weights: Weight of each one's map; None takes ``weights``. So one scorer may judge the image and another
            show where.

    Raises:
        ValueError: If there is no scorer, or the weights do not fit.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"weights", "map_weights"})
    centre: Tensor
    spread: Tensor
    map_centre: Tensor
    map_spread: Tensor

    def __init__(
        self, scorers: list[Scorer], weights: list[float] | None = None, map_weights: list[float] | None = None
    ) -> None:
        super().__init__()
        if not scorers:
            msg = "FusedScorer needs at least one scorer."
            raise ValueError(msg)
        self.scorers = nn.ModuleList(scorers)
        self.weights = _shares("weights", [1.0] * len(scorers) if weights is None else weights, len(scorers))
        self.map_weights = self.weights if map_weights is None else _shares("map_weights", map_weights, len(scorers))
        for name, start in (("centre", 0.0), ("spread", 1.0), ("map_centre", 0.0), ("map_spread", 1.0)):
            self.register_buffer(name, torch.full((len(scorers),), start))

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Set up every scorer."""
        for scorer in self._each():
            scorer.setup(network, mask_ratio)

    def prepare(self) -> None:
        """Get what every scorer needs."""
        for scorer in self._each():
            scorer.prepare()

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Weighted mean of the standardised scores and maps; the spread over the masks is not fused."""
        score, anomaly_map = images.new_zeros(()), images.new_zeros(())
        for index, scorer in enumerate(self._each()):
            one = scorer.score(network, images)
            score = score + self.weights[index] * (one.pred_score - self.centre[index]) / self.spread[index]
            standard = (one.anomaly_map - self.map_centre[index]) / self.map_spread[index]
            anomaly_map = anomaly_map + self.map_weights[index] * standard
        return Scores(score, anomaly_map)

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Standardise on the half that was not learnt from, then learn from all.

        Raises:
            ValueError: If there are fewer than two images, or a scorer needs more.
        """
        for index, scorer in enumerate(self._each()):
            rows = []
            for parity in (0, 1):
                scorer.fit(network, _Half(batches, parity))
                rows += [_moments(scorer.score(network, images)) for images in _Half(batches, 1 - parity)]
            scores, means, squares = gather(torch.cat(rows)).unbind(dim=1)
            self.centre[index], self.spread[index] = scores.mean(), scores.std().clamp(min=_LEAST_SPREAD)
            self.map_centre[index] = means.mean()
            variance = squares.mean() - means.mean().square()
            self.map_spread[index] = variance.clamp(min=_LEAST_SPREAD**2).sqrt()
            scorer.fit(network, batches)
            scorer.is_fitted.fill_(True)
        self.is_fitted.fill_(True)

    def _each(self) -> list[Scorer]:
        return [scorer for scorer in self.scorers if isinstance(scorer, Scorer)]


def _shares(name: str, weights: list[float], count: int) -> list[float]:
    """Weights that sum to 1.

    Raises:
        ValueError: If they are not one for each scorer, one is negative, infinite or NaN, or all are 0.
    """
    for weight in weights:
        require_number(f"Each of {name}", weight)
    if len(weights) != count or sum(weights) == 0:
        msg = f"{name} must be one number for each of {count} scorers and not all 0, got {weights}."
        raise ValueError(msg)
    return [weight / sum(weights) for weight in weights]


class _Half:
    """Every other image of a stream of batches, which may be gone through several times."""

    def __init__(self, batches: Iterable[Tensor], parity: int) -> None:
        self.batches, self.parity = batches, parity

    def __iter__(self) -> Iterator[Tensor]:
        before = 0
        for images in self.batches:
            start = (before + self.parity) % 2
            before += len(images)
            if len(images) > start:
                yield images[start::2]


def _moments(scores: Scores) -> Tensor:
    """Score, mean of the map and mean of its square, of each image: (B, 3)."""
    pixels = scores.anomaly_map.flatten(1)
    return torch.stack([scores.pred_score, pixels.mean(dim=1), pixels.square().mean(dim=1)], dim=1)
