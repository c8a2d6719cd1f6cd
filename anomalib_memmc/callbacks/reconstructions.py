"""When to draw reconstructions, and of which images."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_memmc.gathering import gather_objects
from anomalib_memmc.model.tissue import post_process
from anomalib_memmc.reporting.log_picture import log_picture
from anomalib_memmc.reporting.pictures import ReconstructionRow, draw_reconstructions, paste_hidden

logger = logging.getLogger(__name__)

FOLDER = "reconstructions"


class ReconstructionPictures(Callback):
    """Save pictures of what a masked autoencoder makes of an image.

    For models whose ``model.reconstruct(images, masks=None)`` returns an object with ``pixels`` (B, M, C, H, W), every
    patch as predicted; ``masks`` (B, M, N), bool, ``True`` where a patch is hidden; and ``masked_inputs``
    (B, M, C, H, W). The first of the M masks is drawn; map and score come from all of them. Other models: one warning
    and no picture.

    - ``<default_root_dir>/reconstructions/epoch_XXX.png`` while training, after every ``every_n_epochs`` epochs and
      after the last one; XXX counts finished epochs. The images are the same every time: the first validation images,
      half normal and half anomalous where there are both, else the first training images.
    - ``<default_root_dir>/reconstructions/test.png`` after a test, the first test images of both kinds.

    Loggers that take images are given each picture as well, as ``reconstructions/epoch_XXX`` and
    ``reconstructions/test``.

    Drawing leaves random state, gradients and the mode of every module as they were. Only rank zero draws. A picture
    that fails is logged and never ends the run.

    Args:
        every_n_epochs: Epochs between two pictures, >= 1; 0 draws none while training.
        num_images: Images in a picture, >= 1.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from anomalib.engine import Engine
        >>> engine = Engine(callbacks=[ReconstructionPictures(every_n_epochs=10)])
    """

    def __init__(self, every_n_epochs: int = 10, num_images: int = 4) -> None:
        super().__init__()
        if every_n_epochs < 0:
            msg = f"every_n_epochs must not be negative, got {every_n_epochs}."
            raise ValueError(msg)
        if num_images < 1:
            msg = f"num_images must be at least 1, got {num_images}."
            raise ValueError(msg)
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images
        self._training = _Selection(num_images)
        self._validation = _Selection(num_images)
        self._test = _Selection(num_images)
        self._warned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of an earlier fit."""
        del trainer, pl_module
        self._training, self._validation = _Selection(self.num_images), _Selection(self.num_images)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the first training images."""
        del trainer, pl_module, outputs, batch_idx
        if self.every_n_epochs:
            self._training.offer(batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first validation images, in the first full validation of a fit."""
        del pl_module, outputs, batch_idx, dataloader_idx
        if self.every_n_epochs and _is_fitting(trainer):
            self._validation.offer(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settle on the validation images."""
        del pl_module
        if self.every_n_epochs and _is_fitting(trainer):
            self._validation.close()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw if it is time."""
        if self.every_n_epochs:
            self._training.close()
        finished = trainer.current_epoch + 1
        due = self.every_n_epochs and (finished % self.every_n_epochs == 0 or finished == trainer.max_epochs)
        if due:
            selection = self._validation if self._validation.images else self._training
            self._draw(trainer, pl_module, selection, f"epoch_{finished:03d}.png", f"after epoch {finished}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of an earlier test."""
        del trainer, pl_module
        self._test = _Selection(self.num_images)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first test images of both kinds."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self._test.offer(batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test images."""
        self._test.close()
        self._draw(trainer, pl_module, self._test, "test.png", "test images")
        self._test = _Selection(self.num_images)

    def _draw(
        self, trainer: Trainer, pl_module: LightningModule, selection: "_Selection", filename: str, title: str
    ) -> None:
        """Reconstruct, draw and save, on rank zero."""
        items = selection.chosen()
        if not trainer.is_global_zero or not items:
            return
        if not callable(getattr(getattr(pl_module, "model", None), "reconstruct", None)):
            if not self._warned:
                logger.warning("%s has no model.reconstruct(): no pictures.", type(pl_module).__name__)
            self._warned = True
            return
        try:
            with _undisturbed(pl_module), trainer.precision_plugin.forward_context():
                rows = reconstruction_rows(pl_module, items)
            figure = draw_reconstructions(rows, title=title, threshold=_threshold(pl_module))
            path = Path(trainer.default_root_dir) / FOLDER / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
            log_picture(trainer.loggers, figure, f"{FOLDER}/{path.stem}", trainer.global_step)
        except Exception:  # a picture must not cost the run its results
            logger.exception("The picture %s could not be drawn.", filename)


class _Selection:
    """The first images of a loader in the data set's order, kept by kind until both kinds can be chosen from."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: dict[bool | None, list[dict[str, Any]]] = {}
        self.closed = False
        self._offered = 0

    def offer(self, batch: Any) -> None:
        """Take from a batch what is still missing."""
        image = getattr(batch, "image", None)
        if self.closed or not isinstance(image, torch.Tensor) or image.ndim != 4:
            return
        labels, masks = getattr(batch, "gt_label", None), getattr(batch, "gt_mask", None)
        for index in range(len(image)):
            label = None if labels is None else bool(labels.flatten()[index])
            kept = self.images.setdefault(label, [])
            if len(kept) < self.size:
                mask = None if masks is None else masks[index].detach().as_subclass(torch.Tensor).squeeze().bool()
                kept.append(
                    {
                        "image": image[index].detach().as_subclass(torch.Tensor).cpu().clone(),
                        "anomalous": label,
                        "mask": None if mask is None else mask.cpu().clone(),
                        "turn": self._offered + index,
                    }
                )
        self._offered += len(image)

    def close(self) -> None:
        """Take no more, and put together what several processes took; distributed samplers deal images out in turn."""
        if self.closed:
            return
        parts = gather_objects(self.images)
        for label in {label: None for part in parts for label in part}:
            kept = [(item["turn"], rank, item) for rank, part in enumerate(parts) for item in part.get(label, [])]
            self.images[label] = [item for *_, item in sorted(kept, key=itemgetter(0, 1))[: self.size]]
        self.closed = bool(self.images)

    def chosen(self) -> list[dict[str, Any]]:
        """At most ``size`` images, normal ones first, half of each kind as far as there are enough."""
        normal = self.images.get(False, []) + self.images.get(None, [])
        anomalous = self.images.get(True, [])
        num_normal = min(len(normal), max(self.size // 2, self.size - len(anomalous)))
        return normal[:num_normal] + anomalous[: self.size - num_normal]


def _is_fitting(trainer: Trainer) -> bool:
    """Whether a validation belongs to a fit, and not to its sanity check."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


@contextmanager
def _undisturbed(pl_module: LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; random state and modes come back as they were."""
    modes = {module: module.training for module in pl_module.modules()}
    devices = [pl_module.device] if pl_module.device.type == "cuda" else []
    pl_module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def reconstruction_rows(pl_module: Any, items: list[dict[str, Any]]) -> list[ReconstructionRow]:
    """Run a masked autoencoder on chosen images.

    Args:
        pl_module: The anomalib model, in evaluation mode.
        items: Mappings with ``image`` (C, H, W), ``anomalous`` (a label or ``None``) and ``mask`` (bool (H, W) or
            ``None``).

    Returns:
        One row an image, with the first of the model's masks.
    """
    images = torch.stack([item["image"] for item in items]).to(pl_module.device)
    result = pl_module.model.reconstruct(images)
    predictions = post_process(getattr(pl_module, "post_processor", None), pl_module.model(images), images)
    pasted = paste_hidden(images, result.pixels[:, 0], result.masks[:, 0])
    maps, scores = predictions.anomaly_map, predictions.pred_score
    return [
        ReconstructionRow(
            image=images[index].float().cpu(),
            masked_input=result.masked_inputs[index, 0].float().cpu(),
            reconstruction=pasted[index].float().cpu(),
            anomaly_map=None if maps is None else maps[index].float().squeeze().cpu(),
            mask=item["mask"],
            anomalous=item["anomalous"],
            score=None if scores is None else float(scores.flatten()[index]),
        )
        for index, item in enumerate(items)
    ]


def _threshold(pl_module: Any) -> float | None:
    """Threshold of the maps as drawn, or ``None`` where none was learnt."""
    post_processor = getattr(pl_module, "post_processor", None)
    learnt = getattr(post_processor, "pixel_threshold", None)
    if post_processor is None or learnt is None or bool(torch.isnan(learnt)):
        return None
    return float(post_processor.normalized_pixel_threshold)
