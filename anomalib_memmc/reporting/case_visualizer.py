"""The case picture of each image of a test or a prediction."""

import logging
from pathlib import Path
from typing import Any, cast

import torch
from anomalib.data import ImageBatch
from anomalib.data.utils import read_image
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import Visualizer
from lightning import LightningModule, Trainer
from torch import Tensor

from anomalib_memmc.detection.result import Result, Verdicts
from anomalib_memmc.reporting.case import case_figure
from anomalib_memmc.reporting.pictures import reconstruction_of
from anomalib_memmc.reporting.visualizer import dataset_of

logger = logging.getLogger(__name__)


class CaseVisualizer(Visualizer):
    """Draw each image of a test or a prediction as :func:`~anomalib_memmc.reporting.case_figure` does.

    For MemMCMAE, whose batches tell the scores before post-processing. The image is read, and cut, as for the model.
    Files are PNG, named as by anomalib's visualizer; one that is drawn of ``a.jpg`` is ``a.jpg.png``, since there may
    be an ``a.png`` beside it. A picture that fails is logged and never ends the run.

    Args:
        output_dir: Folder of the pictures; None takes ``images`` in the run's folder.
    """

    def __init__(self, output_dir: str | Path | None = None) -> None:
        super().__init__()
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._verdicts = Verdicts(None)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the thresholds."""
        del trainer
        self._verdicts = Verdicts(pl_module.post_processor)

    on_predict_start = on_test_start

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
        del batch, batch_idx
        folder = self.output_dir or Path(trainer.default_root_dir) / "images"
        read = getattr(dataset_of(trainer, dataloader_idx), "read", None) or _read_as_anomalib
        for index in range(len(outputs)):
            path = (outputs.image_path or [""] * len(outputs))[index]
            try:
                with torch.no_grad(), trainer.precision_plugin.forward_context():
                    result = self._result(pl_module, outputs, index)
                figure = case_figure(read(path) if path else cast(Tensor, outputs.image)[index], result)
                figure.savefig(_file(trainer, folder, path))
            except Exception:  # a picture must not cost the run its results
                logger.exception("The picture of %s could not be drawn.", path or "an image")

    on_predict_batch_end = on_test_batch_end  # type: ignore[assignment]

    def _result(self, pl_module: Any, outputs: Any, index: int) -> Result:
        """What the model says of one image of a post-processed batch."""
        scores, labels, masks = outputs.scores, outputs.gt_label, outputs.gt_mask
        score = scores.pred_score[index].item()
        return Result(
            str((outputs.image_path or [""] * len(outputs))[index]),
            score,
            spread=None if scores.score_std is None else scores.score_std[index].item(),
            anomaly_map=outputs.anomaly_map[index],
            reconstruction=reconstruction_of(pl_module.model, outputs.image[index].as_subclass(Tensor)),
            gt_label=None if labels is None else int(labels[index]),
            gt_mask=None if masks is None else masks[index],
            **self._verdicts.of(score),
        )


def _read_as_anomalib(path: str) -> Tensor:
    """An image as anomalib's own data sets read it."""
    return cast(Tensor, read_image(path, as_tensor=True))


def _file(trainer: Any, folder: Path, path: str) -> Path:
    """The picture's file, named as anomalib names it."""
    datamodule = getattr(trainer, "datamodule", None)
    name, category = (getattr(datamodule, key, None) for key in ("name", "category"))
    file = generate_output_filename(path or "image.png", folder, dataset_name=name, category=category)
    return file if file.suffix.lower() == ".png" else file.with_name(f"{file.name}.png")
