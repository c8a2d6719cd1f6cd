"""What a scorer is: it judges images by the network, and may learn from normal images first."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from anomalib_memmc.configurable import Configurable

if TYPE_CHECKING:
    from anomalib_memmc.model.network import MaskedAutoencoder


class Scores(NamedTuple):
    """Anomaly scores of a batch.

    Attributes:
        pred_score: Score of each image (B,), higher = more anomalous.
        anomaly_map: Score of each pixel (B, 1, H, W).
        score_std: How much the score of each image varies over the masks (B,); None where a scorer has no masks.
    """

    pred_score: Tensor
    anomaly_map: Tensor
    score_std: Tensor | None = None


class Scorer(Configurable, nn.Module, ABC):
    """Base class of all scorers; a new score is a subclass with a :meth:`score`.

    A scorer does not hold the network: it is given it. What depends on the network's sizes is made in :meth:`setup`. A
    scorer that overrides :meth:`fit` learns from the normal training images, before each validation and after the last
    step; what it learns belongs into buffers, so that it is in the checkpoint and in an exported model. Its arguments
    must be plain values (or error maps), since the checkpoint holds them too.

    Attributes:
        is_fitted: Scalar, bool: whether :meth:`fit` has been called; always True where there is nothing to learn.
        unlearnt: Arguments that change the scores, but nothing that :meth:`fit` learns.
        costless: Arguments that change no score, only time and memory.
    """

    is_fitted: Tensor
    unlearnt: ClassVar[frozenset[str]] = frozenset()
    costless: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("is_fitted", torch.tensor(not self.learns), persistent=self.learns)

    @property
    def learns(self) -> bool:
        """Whether the scorer learns from normal images."""
        return type(self).fit is not Scorer.fit

    def setup(self, network: "MaskedAutoencoder", mask_ratio: float) -> None:
        """Make what depends on the network's sizes; called once, before weights are loaded.

        Args:
            network: The network, with its initial weights.
            mask_ratio: Fraction of patches that the network is trained to reconstruct.

        Raises:
            ValueError: If the scorer does not fit the network.
        """

    def prepare(self) -> None:
        """Get what must be at hand, such as pretrained weights; called before the first step of a training.

        Raises:
            RuntimeError: If it cannot be had.
        """

    @abstractmethod
    def score(self, network: "MaskedAutoencoder", images: Tensor) -> Scores:
        """Score images.

        Args:
            network: The network, in evaluation mode.
            images: Images (B, C, H, W) in [0, 1], of the network's size and channels.

        Returns:
            Scores and maps; an image's must not depend on the rest of the batch.
        """

    def fit(self, network: "MaskedAutoencoder", batches: Iterable[Tensor]) -> None:
        """Learn from normal images, in evaluation mode and without gradients.

        Where several processes train, each is given its share: put what was measured together with :func:`gather`.

        Args:
            network: The network with its present weights.
            batches: Normal images (B, C, H, W) in [0, 1], without training augmentations; they may be gone through
                several times.
        """
