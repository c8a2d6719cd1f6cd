"""A model that scores an image by its brightness, and a folder of images for it."""

from types import SimpleNamespace

import pandas as pd
import torch
from anomalib import LearningType
from anomalib.data import AnomalibDataModule, AnomalibDataset, InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Resize

from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor

SIZE = 32


class BrightnessNet(nn.Module):
    """The map is the grey image, the score its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> InferenceBatch:
        maps = images.mean(dim=1, keepdim=True) * self.weight
        return InferenceBatch(pred_score=maps.mean(dim=(1, 2, 3)), anomaly_map=maps)

    def reconstruct(self, images: Tensor, masks: Tensor | None = None) -> SimpleNamespace:
        """Blank patches where hidden; two masks on a grid of 8 px patches."""
        batch, _, height, width = images.shape
        if masks is None:
            one = torch.zeros(height // 8, width // 8, dtype=torch.bool)
            one[::2] = True
            masks = torch.stack([one.flatten(), ~one.flatten()]).expand(batch, -1, -1)
        hidden = masks.view(batch, -1, 1, height // 8, width // 8)
        hidden = hidden.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2).to(images.device)
        pixels = (images * 0.5).unsqueeze(1).expand(-1, masks.shape[1], -1, -1, -1)
        masked_inputs = torch.where(hidden, torch.full_like(pixels, 0.5), images.unsqueeze(1))
        return SimpleNamespace(pixels=pixels, masks=masks, masked_inputs=masked_inputs)


class Brightness(AnomalibModule):
    def __init__(self, post_processor: NormalQuantilePostProcessor | bool = True, reconstructs: bool = True) -> None:
        super().__init__(
            pre_processor=PreProcessor(Resize((SIZE, SIZE))), post_processor=post_processor, visualizer=False
        )
        self.model = BrightnessNet()
        if not reconstructs:
            self.model.reconstruct = None

    def training_step(self, batch, batch_idx):
        return self.model(batch.image).pred_score.mean()

    def validation_step(self, batch, batch_idx):
        return batch.update(**self.model(batch.image)._asdict())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def configure_post_processor(self):
        return NormalQuantilePostProcessor()

    @property
    def trainer_arguments(self):
        return {}

    @property
    def learning_type(self):
        return LearningType.ONE_CLASS


class Pictures(AnomalibDataset):
    def __init__(self, samples: pd.DataFrame) -> None:
        super().__init__(augmentations=None)
        samples.attrs["task"] = "segmentation"
        self.samples = samples


class PictureData(AnomalibDataModule):
    """Train and validation parts of normals, a test part of both kinds."""

    def __init__(self, parts: dict[str, pd.DataFrame]) -> None:
        super().__init__(
            train_batch_size=4, eval_batch_size=4, num_workers=0, val_split_mode="from_dir", test_split_mode="from_dir"
        )
        self.parts = parts

    def _setup(self, _stage=None) -> None:
        self.train_data = Pictures(self.parts["train"])
        self.val_data = Pictures(self.parts["val"])
        self.test_data = Pictures(self.parts["test"])

    def setup(self, stage=None) -> None:
        self._setup(stage)

    @property
    def name(self) -> str:
        return "pictures"
