"""MemMC-MAE as an anomalib model: training, components and checkpoints."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import torch
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.metrics import AUPRO, AUROC, Evaluator, F1Score
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import ImageVisualizer, Visualizer
from lightning.pytorch import Callback
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Normalize

from anomalib_memmc.callbacks import (
    ExactResume,
    FinalValidation,
    FitFeatureTarget,
    FitScorer,
    KeepCheckpoints,
    PredictionTable,
    ReconstructionPictures,
    SameSchedule,
)
from anomalib_memmc.configurable import build, plain
from anomalib_memmc.memory.advice import SCORING, TRAINING, advice
from anomalib_memmc.metrics import IoU, OracleIoU
from anomalib_memmc.model.accumulation import ImageMean
from anomalib_memmc.model.checkpoint import ARGUMENTS, require_same_network, require_same_scorer, saved_scorer
from anomalib_memmc.model.optimizer import OptimizerName, count_steps, make_optimizer, warmup_cosine
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.model.pre_processor import ResizePreProcessor
from anomalib_memmc.model.pretrained import WeightReport, load_mae_weights
from anomalib_memmc.model.tissue import post_process
from anomalib_memmc.model.torch_model import MemMCMAEModel
from anomalib_memmc.reporting.visualizer import RegionVisualizer
from anomalib_memmc.scoring.base import Scorer

logger = logging.getLogger(__name__)

_BATCH_OF_LINEAR_LR = 256


class MemMCMAE(AnomalibModule):
    """Memory-augmented multi-level cross-attentional masked autoencoder (Tian et al., arXiv 2203.11725).

    Images are taken in [0, 1], without ImageNet normalisation unless ``normalize="imagenet"``. The defaults are the
    paper's; where it is silent the source is named.

    Args:
        scorer: How images are scored, or its configuration (``class_path`` and ``init_args``); None takes the paper's,
            the mean MS-SSIM error over ten random masks, or the scorer of the checkpoint that is loaded.
        pretrained: Path of an MAE checkpoint to start from; see ``load_mae_weights``.
        max_epochs: Epochs to train; None leaves it to the trainer.
        lr: Learning rate at the end of warm-up.
        lr_scaling: ``"absolute"`` takes ``lr`` as it is (paper), ``"linear"`` multiplies it by batch size / 256 (MAE).
        optimizer: ``"adamw"`` (MAE) or ``"adam"``, whose decay is coupled (the paper's word).
        weight_decay: Weight decay of matrices; memory, tokens, biases and norms have none.
        warmup_epochs: Epochs of linear warm-up, per step; cosine decay to 0 follows.
        seed: Seed of the initial weights and, from the start of training, of batches and masks. None leaves the random
            state alone.
        picture_every: Save pictures of reconstructions every so many epochs of training, and in a test; 0 = off.
        checkpoint_minutes: Minutes between two checkpoints to resume from, ``last.ckpt``; see ``KeepCheckpoints``.
        pre_processor: Pre-processor or True for resizing to ``image_size``.
        post_processor: Post-processor or True for thresholds from normal images (``NormalQuantilePostProcessor``).
        evaluator: Evaluator or True for the metrics of ``configure_evaluator``.
        visualizer: Visualizer or True for ``configure_visualizer``.
        **network: Sizes and operators of the network, and ``mask_ratio``: arguments of ``MemMCMAEModel`` and of
            ``MaskedAutoencoder``.

    Raises:
        ValueError: If an argument is out of its range, with the reason.
    """

    def __init__(
        self,
        *,
        scorer: Scorer | None = None,
        pretrained: str | Path | None = None,
        max_epochs: int | None = None,
        lr: float = 1.5e-3,
        lr_scaling: Literal["absolute", "linear"] = "absolute",
        optimizer: OptimizerName = "adamw",
        weight_decay: float = 0.05,
        warmup_epochs: float = 5,
        seed: int | None = None,
        picture_every: int = 0,
        checkpoint_minutes: float = 10,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
        **network: Any,
    ) -> None:
        given: Scorer | None = build(scorer, Scorer) if isinstance(scorer, Mapping) else scorer  # as in a checkpoint
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            model = MemMCMAEModel(scorer=given, **network)
        if pre_processor is True:
            pre_processor = self.configure_pre_processor(model.network.image_size)
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        _reject_normalize(self.pre_processor)
        self.model: MemMCMAEModel = model
        self.has_default_scorer = given is None
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_scaling = lr_scaling
        self.optimizer: OptimizerName = optimizer
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self.picture_every = picture_every
        self._keep_checkpoints = KeepCheckpoints(checkpoint_minutes)
        self._image_mean = ImageMean()
        self._save_arguments()
        if pretrained is not None:
            self.load_mae_weights(pretrained)

    def save_hyperparameters(
        self, *args: Any, ignore: Sequence[str] | str | None = None, frame: FrameType | None = None, **kwargs: Any
    ) -> None:
        """As Lightning's, but scorer and feature target are left out; their configurations take their place."""
        caller = inspect.currentframe()
        frame = frame or (caller.f_back if caller else None)
        ignored = [ignore] if isinstance(ignore, str) else list(ignore or ())
        super().save_hyperparameters(*args, ignore=[*ignored, "scorer", "feature_target"], frame=frame, **kwargs)

    def _save_arguments(self) -> None:
        """Note the arguments of the network with their defaults, and the scorer's configuration."""
        arguments = {**self.model.network.init_args, "mask_ratio": self.model.mask_ratio}
        super().save_hyperparameters({**plain(arguments), "scorer": self.model.scorer.config()})

    def load_mae_weights(self, path: str | Path) -> WeightReport:
        """Load MAE weights into the model; see ``anomalib_memmc.load_mae_weights``.

        Args:
            path: A .pth, .pt, .bin or .safetensors file.

        Returns:
            The keys used, missed and ignored; also logged.

        Raises:
            ValueError: If the checkpoint fits nowhere or cannot be read.
        """
        report = load_mae_weights(self.model, path)
        logger.info(report.summary())
        return report

    def on_fit_start(self) -> None:
        """Refuse what would spoil the scores silently.

        Raises:
            ValueError: If the trainer has one of Lightning's callbacks that average weights.
        """
        averaging = (
            lightning_callbacks.StochasticWeightAveraging,
            getattr(lightning_callbacks, "WeightAveraging", ()),  # from Lightning 2.6 on
        )
        for callback in cast(Any, self.trainer).callbacks:
            if isinstance(callback, averaging):
                msg = (
                    f"{type(callback).__name__} exchanges the weights without the thresholds and the errors of normal "
                    "images that MemMCMAE measures in each validation, so its scores would be wrong: remove it from "
                    "trainer.callbacks."
                )
                raise ValueError(msg)

    def on_train_start(self) -> None:
        """Begin a step without batches; random numbers are the matter of ``ExactResume``."""
        self._image_mean.restart()

    def forward(self, batch: Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """What an exported model does; unlike anomalib's, the post-processor may look at the images.

        Args:
            batch: Images (B, C, H, W) in [0, 1], of any size.
            *args: Unused.
            **kwargs: Unused.

        Returns:
            Scores and maps, post-processed.
        """
        del args, kwargs
        images = self.pre_processor(batch) if self.pre_processor else batch
        return post_process(self.post_processor, self.model(images), images)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One step on a batch of normal images.

        Args:
            batch: Batch with ``image`` (B, C, H, W) in [0, 1].
            *args: Unused.
            **kwargs: Unused.

        Returns:
            The loss, weighted where several batches of different sizes make up a step.

        Raises:
            RuntimeError: If the loss is not finite, or the memory does not suffice.
        """
        del args, kwargs
        images = cast(Tensor, batch.image)
        with advice(TRAINING):
            loss = self.model(images)
        self._require_finite(loss)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        self.log("lr", rate, prog_bar=True, batch_size=len(images))
        return loss * self._image_mean.weight(len(images))

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, with advice where the memory does not suffice."""
        with advice(TRAINING):
            super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the gradients of the accumulated batches the mean over all their images."""
        del optimizer
        self._image_mean.finish(self.parameters(), self.trainer.accumulate_grad_batches)

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Score a batch.

        Args:
            batch: Batch with ``image`` (B, C, H, W) in [0, 1].
            *args: Unused.
            **kwargs: Unused.

        Returns:
            The batch with ``pred_score`` and ``anomaly_map``.

        Raises:
            RuntimeError: If the memory does not suffice.
        """
        del args, kwargs
        with advice(SCORING):
            return batch.update(**self.model(batch.image)._asdict())

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or Adam (betas 0.9, 0.95) with linear warm-up and cosine decay, both counted in steps.

        Returns:
            Optimizer and scheduler for Lightning.

        Raises:
            ValueError: If the number of steps is unknown because training has no end.
        """
        total, warmup = count_steps(self.trainer, self.warmup_epochs)
        optimizer = make_optimizer(
            self.model, self.model.no_weight_decay(), self.optimizer, self._peak_lr(), self.weight_decay
        )
        schedule = warmup_cosine(optimizer, warmup, total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> Sequence[Callback]:
        """Table of predictions, components that are callbacks, what fits, pictures, and what a run survives by."""
        callbacks = [  # the table first: it notes raw scores
            PredictionTable(),
            *cast(Sequence[Callback], super().configure_callbacks()),
            FitFeatureTarget(),
            FitScorer(),
        ]
        if self.picture_every:
            callbacks.append(ReconstructionPictures(every_n_epochs=self.picture_every))
        return [  # random states and saving last: they see what the others did
            *callbacks,
            SameSchedule(),
            FinalValidation(),
            ExactResume(self.seed),
            self._keep_checkpoints,
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save plain arguments, the present scorer's among them; the starting weights are in, so their path is not."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] |= {"pretrained": None, "scorer": self.model.scorer.config()}
        checkpoint[ARGUMENTS] = plain(checkpoint["hyper_parameters"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the components and, unless one was asked for, the scorer.

        Raises:
            ValueError: If the weights do not fit, or what the scorer has learnt, naming the arguments that differ.
        """
        require_same_network(checkpoint, self.model, dict(self.hparams))
        scorer = saved_scorer(checkpoint) if self.has_default_scorer else None
        if scorer is None:
            require_same_scorer(checkpoint, self.model, self.model.mask_ratio)
        else:
            self.model.set_scorer(scorer)
            self._save_arguments()
        super().on_load_checkpoint(checkpoint)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Only what was asked of the model itself: ``max_epochs``. All else is the user's."""
        return {} if self.max_epochs is None else {"max_epochs": self.max_epochs}

    @property
    def learning_type(self) -> LearningType:
        """One class: training sees normal images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Resize to ``image_size`` (224 x 224 by default); pixels stay in [0, 1]."""
        return ResizePreProcessor(image_size or (224, 224))

    def configure_post_processor(self) -> PostProcessor:
        """Thresholds from normal validation images where there are no others."""
        return NormalQuantilePostProcessor()

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """Image AUROC and F1; where there are masks also pixel AUROC, AUPRO, F1 and IoU by the paper's protocol."""
        maps, masks = ["anomaly_map", "gt_mask"], ["pred_mask", "gt_mask"]
        return Evaluator(
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
                AUROC(fields=maps, prefix="pixel_", strict=False),
                AUPRO(fields=maps, prefix="pixel_", strict=False),
                F1Score(fields=masks, prefix="pixel_", strict=False),
                IoU(fields=masks, prefix="pixel_", strict=False),
                OracleIoU(fields=maps, prefix="pixel_", strict=False),
            ]
        )

    @classmethod
    def configure_visualizer(cls) -> ImageVisualizer:
        """Input, ground truth, and the map and the predicted mask over the input, as the data module cuts it."""
        return RegionVisualizer()

    def _require_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            msg = (
                f"The training loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}). "
                f"Lower lr (now {self.lr}), train with --trainer.precision bf16-mixed or 32-true instead of fp16, "
                "set --trainer.gradient_clip_val 1.0, or look for images with NaN pixels."
            )
            raise RuntimeError(msg)

    def _peak_lr(self) -> float:
        if self.lr_scaling == "absolute":
            return self.lr
        loader = cast(DataLoader, self.trainer.train_dataloader)
        batch_size = loader.batch_size or 1
        return (
            self.lr * batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size / _BATCH_OF_LINEAR_LR
        )


def _reject_normalize(pre_processor: nn.Module | None) -> None:
    """Refuse a pre-processor that standardises pixels: scores would be wrong, and nothing would say so."""
    transform = getattr(pre_processor, "transform", None)
    if extract_transforms_by_type(transform, Normalize):
        msg = (
            "MemMCMAE takes pixels in [0, 1]: remove Normalize from the pre-processor, and pass "
            "normalize='imagenet' if the weights expect standardised pixels."
        )
        raise ValueError(msg)
