"""MemMC-MAE as an anomalib model: training, defaults and checkpoints."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.metrics import AUPRO, AUROC, Evaluator, F1Score
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import ImageVisualizer, Visualizer
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Normalize

from anomalib_memmc.callbacks import PredictionTable, ReconstructionPictures
from anomalib_memmc.metrics import IoU, OracleIoU
from anomalib_memmc.model.layers.attention import Gate
from anomalib_memmc.model.masking import MaskSampler
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.model.pre_processor import ResizePreProcessor
from anomalib_memmc.model.pretrained import WeightReport, load_mae_weights
from anomalib_memmc.model.torch_model import ErrorMap, MemMCMAEModel, ScoreReduction, image_size_pair
from anomalib_memmc.scoring.mahalanobis import MeasureNormalErrors

logger = logging.getLogger(__name__)

_BATCH_OF_LINEAR_LR = 256
_COMPUTATION = ("cross_residual", "decoder_heads", "encoder_heads", "multi_level", "normalize")  # no shape shows these
_SCORING = (
    "blur_sigma",
    "cell_size",
    "error_map",
    "mask_ratio",
    "mask_sampler",
    "mask_seed",
    "num_masks",
    "score_reduction",
    "structure_scale",
)


class MemMCMAE(AnomalibModule):
    """Memory-augmented multi-level cross-attentional masked autoencoder (Tian et al., arXiv 2203.11725).

    Images are taken in [0, 1], without ImageNet normalisation unless ``normalize="imagenet"``. The defaults are the
    paper's; where it is silent the source is named.

    Args:
        image_size: Height and width in pixels, one number for a square.
        patch_size: Side of a square patch in pixels; must divide both sides of the image.
        in_channels: 3, or 1 for a grey model (colour input is averaged).
        encoder_dim: Width of the encoder.
        encoder_depth: Blocks of the encoder.
        encoder_heads: Heads of the encoder.
        decoder_dim: Width of the decoder (MAE).
        decoder_depth: Blocks of the decoder (MAE).
        decoder_heads: Heads of the decoder (MAE).
        memory_slots: Memory keys and values of each encoder block (M2: 40), 0 = off.
        multi_level: True attends to all encoder levels, False to none (plain MAE decoder), a list to these, 1 being
            the output of the first block.
        gate: Granularity of the gates of eq. 3: ``"channel"`` (M2), ``"token"`` or ``"scalar"``.
        cross_residual: Add the decoder tokens to the gated sum of eq. 2 (ours; the equation has no such term).
        long_skips: Long residual connections in encoder and decoder, scale learnt from 0 (pairing ours).
        mask_ratio: Fraction of patches hidden.
        num_masks: Masks per image in evaluation.
        mask_sampler: ``"random"`` (paper) or ``"complementary"`` (ours).
        mask_seed: Seed of the evaluation masks.
        normalize: ``"none"`` or ``"imagenet"``, for pretrained weights that expect standardised pixels.
        error_map: ``"ms_ssim"`` (paper), ``"structure"``, its contrast-structure term at one scale alone (ours), or
            ``"mse"``.
        structure_scale: Scale of ``"structure"``: 1 is the finest, each further one has half the pixels a side (ours).
        score_reduction: ``"mean"`` of the map (paper), ``"max"``, ``"top_k"`` (mean of the highest tenth), or
            ``"mahalanobis"``: distance from the maps of the normal training images, measured before each validation.
        cell_size: Side in pixels of the cells of ``"mahalanobis"``; None takes half a patch (ours).
        blur_sigma: Gaussian blur of the map in pixels, as PaDiM and PatchCore do (ours); 0 = off (paper).
        mask_chunk_size: Masked views scored at once, which bounds the memory; None takes what fits.
        checkpoint_decoder: Keep only the inputs of the decoder blocks in training and compute the rest again in the
            backward pass: less memory for more time, the same gradients.
        compile: Run the blocks of encoder and decoder through ``torch.compile``.
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
        pre_processor: Pre-processor or True for resizing to ``image_size``.
        post_processor: Post-processor or True for thresholds from normal images (``NormalQuantilePostProcessor``).
        evaluator: Evaluator or True for the metrics of ``configure_evaluator``.
        visualizer: Visualizer or True for ``configure_visualizer``.

    Raises:
        ValueError: If an argument is out of its range, with the reason.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        encoder_dim: int = 768,
        encoder_depth: int = 12,
        encoder_heads: int = 12,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        memory_slots: int = 40,
        multi_level: bool | list[int] = True,
        gate: Gate = "channel",
        cross_residual: bool = False,
        long_skips: bool = True,
        mask_ratio: float = 0.75,
        num_masks: int = 10,
        mask_sampler: MaskSampler = "random",
        mask_seed: int = 0,
        normalize: Literal["none", "imagenet"] = "none",
        error_map: ErrorMap = "ms_ssim",
        structure_scale: int = 1,
        score_reduction: ScoreReduction = "mean",
        cell_size: int | None = None,
        blur_sigma: float = 0.0,
        mask_chunk_size: int | None = None,
        checkpoint_decoder: bool = False,
        compile: bool = False,
        pretrained: str | Path | None = None,
        max_epochs: int | None = None,
        lr: float = 1.5e-3,
        lr_scaling: Literal["absolute", "linear"] = "absolute",
        optimizer: Literal["adamw", "adam"] = "adamw",
        weight_decay: float = 0.05,
        warmup_epochs: float = 5,
        seed: int | None = None,
        picture_every: int = 0,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        size = image_size_pair(image_size)
        super().__init__(
            pre_processor=self.configure_pre_processor(size) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        _reject_normalize(self.pre_processor)
        self.model: MemMCMAEModel
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_scaling = lr_scaling
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self.picture_every = picture_every
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.model = MemMCMAEModel(
                image_size=size,
                patch_size=patch_size,
                in_channels=in_channels,
                encoder_dim=encoder_dim,
                encoder_depth=encoder_depth,
                encoder_heads=encoder_heads,
                decoder_dim=decoder_dim,
                decoder_depth=decoder_depth,
                decoder_heads=decoder_heads,
                memory_slots=memory_slots,
                multi_level=multi_level,
                gate=gate,
                cross_residual=cross_residual,
                long_skips=long_skips,
                mask_ratio=mask_ratio,
                num_masks=num_masks,
                mask_sampler=mask_sampler,
                mask_seed=mask_seed,
                normalize=normalize,
                error_map=error_map,
                structure_scale=structure_scale,
                score_reduction=score_reduction,
                cell_size=cell_size,
                blur_sigma=blur_sigma,
                mask_chunk_size=mask_chunk_size,
                checkpoint_decoder=checkpoint_decoder,
                compile=compile,
            )
        if pretrained is not None:
            self.load_mae_weights(pretrained)

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
        """Refuse what would spoil the scores without a word.

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
        """Seed batches, augmentations and masks, where a seed was given: anew for each process and resumed epoch."""
        if self.seed is not None:
            seed_everything(self.seed + self.global_rank + 10_007 * self.current_epoch, workers=True)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One step on a batch of normal images.

        Args:
            batch: Batch with ``image`` (B, C, H, W) in [0, 1].
            *args: Unused.
            **kwargs: Unused.

        Returns:
            The loss.

        Raises:
            RuntimeError: If the loss is not finite.
        """
        del args, kwargs
        images = cast(Tensor, batch.image)
        loss = self.model(images)
        self._require_finite(loss)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        self.log("lr", rate, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Score a batch.

        Args:
            batch: Batch with ``image`` (B, C, H, W) in [0, 1].
            *args: Unused.
            **kwargs: Unused.

        Returns:
            The batch with ``pred_score`` and ``anomaly_map``.
        """
        del args, kwargs
        return batch.update(**self.model(batch.image)._asdict())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or Adam (betas 0.9, 0.95) with linear warm-up and cosine decay, both counted in steps.

        Returns:
            Optimizer and scheduler for Lightning.

        Raises:
            ValueError: If the number of steps is unknown because training has no end.
        """
        excluded = self.model.no_weight_decay()
        named = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if name not in excluded], "weight_decay": self.weight_decay},
            {"params": [p for name, p in named if name in excluded], "weight_decay": 0.0},
        ]
        optimizer_class = {"adamw": optim.AdamW, "adam": optim.Adam}[self.optimizer]
        total, warmup = self._steps()
        optimizer = optimizer_class(groups, lr=self._peak_lr(), betas=(0.9, 0.95))
        schedule = _warmup_cosine(optimizer, warmup, total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> Sequence[Callback]:
        """The components that are callbacks, the table of predictions, pictures, and what the score must measure."""
        callbacks = [
            PredictionTable(),
            *cast(Sequence[Callback], super().configure_callbacks()),
        ]  # the table first: it notes raw scores
        if self.model.normal_errors is not None:
            callbacks.append(MeasureNormalErrors())
        if self.picture_every:
            callbacks.append(ReconstructionPictures(every_n_epochs=self.picture_every))
        return callbacks

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save plain hyper-parameters; the starting weights are in the checkpoint, so their path is not."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"]["pretrained"] = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the components, after checking that the checkpoint belongs to a model of this shape.

        Raises:
            ValueError: If the weights do not fit, naming the arguments that differ.
        """
        self._require_same_model(checkpoint)
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
        """Input, ground truth, and the map and the predicted mask over the input."""
        return ImageVisualizer()

    def _require_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            msg = (
                f"The training loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}). "
                f"Lower lr (now {self.lr}), train with --trainer.precision bf16-mixed or 32-true instead of fp16, "
                "set --trainer.gradient_clip_val 1.0, or look for images with NaN pixels."
            )
            raise RuntimeError(msg)

    def _require_same_model(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model, naming the arguments; warn where only the scoring differs."""
        theirs, ours = (_plain(arguments) for arguments in (checkpoint.get("hyper_parameters", {}), dict(self.hparams)))
        if theirs:  # earlier checkpoints knew the finest scale only
            theirs = {"structure_scale": 1, **theirs}
        differing = [name for name in sorted(set(theirs) & set(ours)) if theirs[name] != ours[name]]
        described = "; ".join(f"{name}={theirs[name]!r} (here {ours[name]!r})" for name in differing)
        saved, expected = (_shapes(state) for state in (checkpoint.get("state_dict", {}), self.state_dict()))
        if saved != expected or set(differing) & set(_COMPUTATION):
            reason = f"trained with {described}" if differing else "not a MemMC-MAE checkpoint of this version"
            msg = (
                f"The checkpoint does not fit this model: it was {reason}. "
                "Pass the same --config, or the same model arguments, as for training."
            )
            raise ValueError(msg)
        if set(differing) & set(_SCORING) - {"blur_sigma"} and self.model.normal_errors is not None:
            msg = (
                f"The errors of normal images in the checkpoint were measured with other scoring: {described}. "
                "With score_reduction='mahalanobis', pass the same scoring arguments as for training."
            )
            raise ValueError(msg)
        if set(differing) & set(_SCORING):
            logger.warning(
                "The thresholds in the checkpoint were learnt with other scoring (%s): labels, masks, F1 and IoU do "
                "not fit these scores until you validate again.",
                described,
            )

    def _peak_lr(self) -> float:
        if self.lr_scaling == "absolute":
            return self.lr
        loader = cast(DataLoader, self.trainer.train_dataloader)
        batch_size = loader.batch_size or 1
        return (
            self.lr * batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size / _BATCH_OF_LINEAR_LR
        )

    def _steps(self) -> tuple[int, int]:
        """Optimizer steps of the whole training and of its warm-up."""
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            msg = "The cosine schedule needs an end: set max_epochs of the model, or trainer.max_epochs or max_steps."
            raise ValueError(msg)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        return int(total), min(round(self.warmup_epochs * steps_per_epoch), int(total) // 2)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with tuples as lists, so that a configuration and a call compare alike."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes of the torch model's tensors, without those of metrics and thresholds."""
    return {name: value.shape for name, value in state.items() if name.startswith("model.")}


def _warmup_cosine(optimizer: optim.Optimizer, warmup: int, total: int) -> optim.lr_scheduler.LRScheduler:
    """Linear increase over ``warmup`` steps, then half a cosine to 0 at step ``total``."""
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, total - warmup))
    if not warmup:
        return cosine
    linear = optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], milestones=[warmup])


def _reject_normalize(pre_processor: nn.Module | None) -> None:
    """Refuse a pre-processor that standardises pixels: scores would be wrong without a word."""
    transform = getattr(pre_processor, "transform", None)
    if extract_transforms_by_type(transform, Normalize):
        msg = (
            "MemMCMAE takes pixels in [0, 1]: remove Normalize from the pre-processor, and pass "
            "normalize='imagenet' if the weights expect standardised pixels."
        )
        raise ValueError(msg)
