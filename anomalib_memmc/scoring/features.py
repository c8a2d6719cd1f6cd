"""Distance of an image's features, in a frozen pretrained network, from those of normal images (not in the paper)."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from anomalib_memmc.model.features import FrozenFeatures
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.places import PlaceScorer


class FeatureScorer(PlaceScorer):
    """Distance of a frozen network's features from normal ones, place by place, as PaDiM or PatchCore has it.

    It does not look at reconstructions: it is a second opinion, to be fused with one that does. Unlike PaDiM it keeps
    all features, shrinks their correlations, and by default takes the mean of the map as the image score. Pretrained
    weights are loaded before the first training, and are in the checkpoint from then on.

    Args:
        backbone: A model of timm.
        layers: Its layers, as anomalib's PaDiM names them; coarser ones are enlarged to the grid of the finest.
        pre_trained: Load timm's pretrained weights (ImageNet); False leaves random ones.
        scale: How many times larger the frozen network is given the images, above 0: more than 1 makes the places of
            deep layers finer.
        **places: How places are compared, top and blur: arguments of
            :class:`~anomalib_memmc.scoring.places.PlaceScorer`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        layers: list[str] | None = None,
        pre_trained: bool = True,
        scale: float = 1.0,
        **places: Any,
    ) -> None:
        super().__init__(**places)
        self.backbone = backbone
        self.layers = self.init_args["layers"] = ["blocks.6"] if layers is None else list(layers)
        self.pre_trained = pre_trained
        self.scale = scale

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Build the frozen network, without weights, and make room for what is learnt of every place."""
        del mask_ratio
        self.frozen = FrozenFeatures(
            self.backbone,
            self.layers,
            network.image_size,
            pre_trained=self.pre_trained,
            in_channels=network.in_channels,
            scale=self.scale,
        )
        self.make_room(network, self.frozen.grid, self.frozen.width)

    def prepare(self) -> None:
        """Load the pretrained weights, the first time.

        Raises:
            RuntimeError: If they cannot be had.
        """
        self.frozen.load_weights()

    def features(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Features of every place, layers joined: (B, 1 or 3, H, W) in [0, 1] -> (B, N, D), float32."""
        del network
        return self.frozen(images).flatten(2).transpose(1, 2)

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn the features of normal places, with the pretrained weights.

        Raises:
            ValueError: If there are fewer images than they need.
            RuntimeError: If the weights cannot be had.
        """
        self.prepare()
        super().fit(network, batches)
