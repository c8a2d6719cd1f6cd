"""anomalib's picture of each image, of the part that the data module uses."""

from pathlib import Path
from typing import Any, cast

from anomalib.data import ImageBatch
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from lightning import LightningModule, Trainer
from PIL.Image import Image


class RegionVisualizer(ImageVisualizer):
    """anomalib's visualizer, drawing images as this package's data modules read them.

    anomalib draws map and mask over the whole file, as it opens it. Where a data module crops, as ``HyperKvasir`` does,
    they do not fit; and a 16-bit file is drawn almost white, a DICOM file not at all. Here the file is read and cut as
    for the model. Images of other data sets are drawn as anomalib does. The arguments are those of ``ImageVisualizer``.
    """

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ImageBatch,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw and save the images of a batch."""
        del pl_module, outputs, batch_idx
        if self.output_dir is None:
            self.output_dir = Path(trainer.default_root_dir) / "images"
        read = getattr(dataset_of(trainer, dataloader_idx), "read", None)
        datamodule = getattr(trainer, "datamodule", None)
        for item in batch:
            path = item.image_path
            if read is not None and path:
                item.image, item.image_path = read(path), None
            picture = cast("Image | None", self.visualize(item))
            if picture is not None:
                name, category = (getattr(datamodule, key, None) for key in ("name", "category"))
                file = generate_output_filename(path or "", self.output_dir, dataset_name=name, category=category)
                picture.save(file)


def dataset_of(trainer: Any, index: int) -> Any:
    """The data set that a batch of a test or of a prediction is from; ``None`` if it cannot be told.

    Args:
        trainer: The trainer of the test or the prediction.
        index: Number of the loader.
    """
    loaders = trainer.predict_dataloaders if trainer.predicting else trainer.test_dataloaders
    loader = loaders[index] if isinstance(loaders, list | tuple) else loaders
    return getattr(loader, "dataset", None)
