"""Distance of an image's features, in a frozen pretrained network, from those of normal images (not in the paper)."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from anomalib.models.components.feature_extractors import TimmFeatureExtractor
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores, gather
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.gaussian import PlaceGaussians, places_to_map, places_to_scores, require_share

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class FeatureScorer(Scorer):
    """Mahalanobis distance of a frozen network's features, place by place, as PaDiM has it.

    It does not look at reconstructions: it is a second opinion, to be fused with one that does. Unlike PaDiM it keeps
    all features, shrinks their correlations, and by default takes the mean of the map as the image score. Pretrained
    weights are loaded when the scorer is first fitted, and are in the checkpoint from then on.

    Args:
        backbone: A model of timm.
        layers: Its layers, as anomalib's PaDiM names them; coarser ones are enlarged to the grid of the finest.
        shrinkage: How far correlations between features are shrunk, in (0, 1].
        top: Share of the places with the largest distances whose mean is the image score, in (0, 1]; 1 takes all.
        pre_trained: Load timm's pretrained weights (ImageNet); False leaves random ones.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map; 0 for none.

    Raises:
        ValueError: If an argument is out of its range.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma", "top"})
    has_weights: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        layers: list[str] | None = None,
        shrinkage: float = 0.1,
        top: float = 1.0,
        pre_trained: bool = True,
        blur_sigma: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = self.init_args["layers"] = ["blocks.6"] if layers is None else list(layers)
        self.shrinkage = shrinkage
        self.top = require_share(top)
        self.pre_trained = pre_trained
        self.blur_sigma = blur_sigma
        self.register_buffer("has_weights", torch.tensor(not pre_trained))
        self.register_buffer("pixel_mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Build the frozen network, without weights, and make room for what is learnt of every place."""
        del mask_ratio
        self.blur = MapBlur(self.blur_sigma, network.image_size)
        with torch.random.fork_rng(devices=[]):  # the initial weights of the masked autoencoder must not change
            self.extractor = TimmFeatureExtractor(self.backbone, self.layers, pre_trained=False).requires_grad_(False)
        with torch.no_grad():
            features = self.extractor.eval()(torch.zeros(1, 3, *network.image_size))
        shapes = [features[layer].shape for layer in self.layers]
        self.grid = (max(shape[2] for shape in shapes), max(shape[3] for shape in shapes))
        width = sum(shape[1] for shape in shapes)
        self.gaussians = PlaceGaussians(self.grid[0] * self.grid[1], width, self.shrinkage)

    def train(self, mode: bool = True) -> "FeatureScorer":
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        if hasattr(self, "extractor"):
            self.extractor.eval()
        return self

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Distances of the places as a map, and the mean of the largest as the image score."""
        distances = self.gaussians(self.features(images))
        anomaly_map = places_to_map(distances, self.grid, network.image_size)
        return Scores(places_to_scores(distances, self.top), self.blur(anomaly_map))

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Load the pretrained weights, the first time, and learn mean and covariance of the features of every place.

        Raises:
            ValueError: If there are fewer than two images.
            RuntimeError: If the weights cannot be had.
        """
        del network
        self._load_weights()
        self.gaussians.fit(gather(torch.cat([self.features(images) for images in batches])))
        self.is_fitted.fill_(True)

    def features(self, images: Tensor) -> Tensor:
        """Features of every place, layers joined: (B, 1 or 3, H, W) in [0, 1] -> (B, N, D), float32."""
        colour = (images.expand(-1, 3, -1, -1) - self.pixel_mean) / self.pixel_std
        found = self.extractor(colour.to(next(self.extractor.parameters()).dtype))
        layers = [
            functional.interpolate(found[layer].float(), list(self.grid), mode="bilinear", align_corners=False)
            for layer in self.layers
        ]
        return torch.cat(layers, dim=1).flatten(2).transpose(1, 2)

    def _load_weights(self) -> None:
        if self.has_weights:
            return
        try:
            pretrained = TimmFeatureExtractor(self.backbone, self.layers, pre_trained=True)
        except Exception as error:  # offline, huggingface_hub and timm raise many kinds
            msg = (
                f"The pretrained weights of {self.backbone} cannot be had: {error}. Connect to the network once, or "
                "put them into the Hugging Face cache."
            )
            raise RuntimeError(msg) from error
        self.extractor.load_state_dict(pretrained.state_dict())
        self.has_weights.fill_(True)
