"""MemMC-MAE as an anomalib model: training, components and checkpoints."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast, get_args

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from anomalib_memmc.arguments import require_choice, require_count, require_number
from anomalib_memmc.callbacks import KeepCheckpoints
from anomalib_memmc.callbacks.around import callbacks_around
from anomalib_memmc.configurable import build, plain
from anomalib_memmc.export import Exportable
from anomalib_memmc.memory.advice import SCORING, TRAINING, advice
from anomalib_memmc.metrics.evaluator import default_evaluator
from anomalib_memmc.model.accumulation import ImageMean
from anomalib_memmc.model.averaging import refuse_averaging
from anomalib_memmc.model.checkpoint import (
    ARGUMENTS,
    require_finite_checkpoint,
    require_same_network,
    require_same_scorer,
    saved_scorer,
)
from anomalib_memmc.model.finite import require_finite_loss, require_finite_weights, weights_of
from anomalib_memmc.model.optimizer import OptimizerName, count_steps, linear_lr, make_optimizer, warmup_cosine
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.model.pre_processor import ResizePreProcessor, refuse_normalize
from anomalib_memmc.model.pretrained import WeightReport, load_mae_weights
from anomalib_memmc.model.thresholds import thresholds_of
from anomalib_memmc.model.torch_model import MemMCMAEModel
from anomalib_memmc.reporting.case_visualizer import CaseVisualizer
from anomalib_memmc.resuming.thresholds_file import THRESHOLDS
from anomalib_memmc.scoring.base import Scorer

logger = logging.getLogger(__name__)

_LARGEST_SEED = 2**31 - 1  # what is added for process and epoch keeps it below NumPy's limit of 2**32


class MemMCMAE(Exportable, AnomalibModule):  # type: ignore[misc]  # Lightning and anomalib differ in to_onnx
    """Memory-augmented multi-level cross-attentional masked autoencoder (Tian et al., arXiv 2203.11725).

    Images are taken in [0, 1], without ImageNet normalisation unless ``normalize="imagenet"``. The defaults are the
    paper's; where it is silent the source is named.

    Args:
        scorer: How images are scored, or its configuration (``class_path`` and ``init_args``); None takes the paper's,
            the mean MS-SSIM error over ten random masks, or the scorer of the checkpoint that is loaded.
        pretrained: Path of an MAE checkpoint to start from; see ``load_mae_weights``.
        max_epochs: Epochs to train; None leaves it to the trainer, -1 leaves the end to its ``max_steps``.
        lr: Learning rate at the end of warm-up.
        lr_scaling: ``"absolute"`` takes ``lr`` as it is (paper), ``"linear"`` multiplies it by batch size / 256 (MAE).
        optimizer: ``"adamw"`` (MAE) or ``"adam"``, whose decay is coupled (the paper's word).
        weight_decay: Weight decay of matrices; memory, tokens, biases and norms have none.
        warmup_epochs: Epochs of linear warm-up, per step; cosine decay to 0 follows.
        seed: Seed of the initial weights and, from the start of training, of batches and masks. None leaves the random
            state alone.
        picture_every: Save pictures of reconstructions every so many epochs of training, and in a test; 0 = off.
        log_metrics: Write losses and metrics to ``logs`` in the run's folder where the trainer has no logger; see
            ``ExperimentLog``.
        report: Write ``report.html`` after a test; see ``RunReport``.
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
        log_metrics: bool = True,
        report: bool = True,
        checkpoint_minutes: float = 10,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
        **network: Any,
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay, "warmup_epochs": warmup_epochs}.items():
            require_number(name, value)
        require_choice("lr_scaling", lr_scaling, ("absolute", "linear"))
        require_choice("optimizer", optimizer, get_args(OptimizerName))
        require_count("picture_every", picture_every, least=0)
        if max_epochs is not None:
            require_count("max_epochs", max_epochs, least=-1)
        if seed is not None:
            require_count("seed", seed, least=0, most=_LARGEST_SEED)
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
        refuse_normalize(self.pre_processor)
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
        self.log_metrics = log_metrics
        self.report = report
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
        refuse_averaging(cast(Any, self.trainer).callbacks)

    def on_train_start(self) -> None:
        """Begin a step without batches; random numbers are the matter of ``ExactResume``."""
        self._image_mean.restart()

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
        require_finite_loss(loss, self.global_step, self.current_epoch, self.lr)
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
            The batch with ``pred_score`` and ``anomaly_map``, and ``scores``, as they were before post-processing.

        Raises:
            RuntimeError: If the memory does not suffice.
        """
        del args, kwargs
        with advice(SCORING):
            scores = self.model.score(cast(Tensor, batch.image))
        cast(Any, batch).scores = scores
        return batch.update(pred_score=scores.pred_score, anomaly_map=scores.anomaly_map)

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or Adam (betas 0.9, 0.95) with linear warm-up and cosine decay, both counted in steps.

        Returns:
            Optimizer and scheduler for Lightning.

        Raises:
            ValueError: If the number of steps is unknown because training has no end.
        """
        total, warmup = count_steps(self.trainer, self.warmup_epochs)
        peak = self.lr if self.lr_scaling == "absolute" else linear_lr(self.lr, self.trainer)
        undecayed, precision = self.model.no_weight_decay(), str(self.trainer.precision)
        optimizer = make_optimizer(self.model, undecayed, self.optimizer, peak, self.weight_decay, precision)
        schedule = warmup_cosine(optimizer, warmup, total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> Sequence[Callback]:
        """What runs around the model: the components that are callbacks, and those of ``anomalib_memmc.callbacks``."""
        return callbacks_around(
            cast(Sequence[Callback], super().configure_callbacks()),
            self._keep_checkpoints,
            seed=self.seed,
            picture_every=self.picture_every,
            log_metrics=self.log_metrics,
            report=self.report,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save plain arguments, the present scorer's among them, and thresholds for the file beside the checkpoint.

        The starting weights are in, so their path is not.

        Raises:
            NotFiniteError: If a weight is not finite; then nothing is written.
        """
        require_finite_weights(weights_of(self.model), "The model")
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] |= {"pretrained": None, "scorer": self.model.scorer.config()}
        checkpoint[ARGUMENTS] = plain(checkpoint["hyper_parameters"])
        checkpoint[THRESHOLDS] = thresholds_of(self.post_processor)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the components and, unless one was asked for, the scorer.

        Raises:
            ValueError: If the weights do not fit, or what the scorer has learnt, naming the arguments that differ.
            RuntimeError: If a weight is not finite.
        """
        require_same_network(checkpoint, self.model, dict(self.hparams))
        require_finite_checkpoint(checkpoint)
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
        """Image AUROC and F1; with masks also pixel AUROC, AUPRO, F1 and IoU of the paper. No map is kept."""
        return default_evaluator()

    @classmethod
    def configure_visualizer(cls) -> Visualizer:  # type: ignore[override]
        """The case picture: image, what is marked on it, reconstruction and map, with score and verdict in words."""
        return CaseVisualizer()
