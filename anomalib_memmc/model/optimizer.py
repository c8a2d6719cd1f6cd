"""Optimizer and schedule, both torch's; only which parameters decay, and how the two phases join, is said here."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

from lightning.pytorch import Trainer
from torch import nn, optim
from torch.utils.data import DataLoader

OptimizerName = Literal["adamw", "adam"]
_CLASSES = {"adamw": optim.AdamW, "adam": optim.Adam}
_BATCH_OF_LINEAR_LR = 256


def make_optimizer(
    model: nn.Module, undecayed: set[str], name: OptimizerName, lr: float, weight_decay: float, precision: str
) -> optim.Optimizer:
    """AdamW or Adam with betas 0.9 and 0.95 (MAE), in torch's fused form.

    Args:
        model: The model; parameters without gradient are left out.
        undecayed: Names of the parameters without weight decay.
        name: ``"adamw"``, or ``"adam"``, whose weight decay is coupled to the gradient.
        lr: Learning rate.
        weight_decay: Weight decay of the other parameters.
        precision: Lightning's name of the precision. In float16 with scaled gradients the optimizer is not fused:
            it would take the scale out of the gradients itself, and Lightning could not clip them.

    Returns:
        The optimizer, with one group that decays and one that does not.
    """
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for key, parameter in named if key not in undecayed], "weight_decay": weight_decay},
        {"params": [parameter for key, parameter in named if key in undecayed], "weight_decay": 0.0},
    ]
    return _CLASSES[name](groups, lr=lr, betas=(0.9, 0.95), fused=precision != "16-mixed")


def warmup_cosine(optimizer: optim.Optimizer, warmup: int, total: int) -> optim.lr_scheduler.LRScheduler:
    """Linear increase over ``warmup`` steps, then half a cosine to 0 at step ``total``."""
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, total - warmup))
    if not warmup:
        return cosine
    linear = optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], milestones=[warmup])


def linear_lr(lr: float, trainer: Trainer) -> float:
    """Learning rate in proportion to the batch, those of all processes and accumulated ones together (MAE).

    Args:
        lr: Learning rate of a batch of 256.
        trainer: The trainer, with its data.

    Returns:
        Learning rate of a step.
    """
    batch_size = cast(DataLoader, trainer.train_dataloader).batch_size or 1
    return lr * batch_size * trainer.accumulate_grad_batches * trainer.world_size / _BATCH_OF_LINEAR_LR


class Schedule(NamedTuple):
    """What fixes the learning rates of ``warmup_cosine``."""

    total: int
    """Steps of the whole training."""
    warmup: int
    """Steps of its warm-up."""
    peak: float
    """Learning rate at the end of warm-up."""

    def __str__(self) -> str:
        return f"{self.total} steps (warm-up of {self.warmup}, lr {self.peak:g})"


def schedule_of(state: Mapping[str, Any]) -> Schedule | None:
    """Read a schedule from the state of ``warmup_cosine``.

    Args:
        state: What the scheduler's ``state_dict`` gives, or a checkpoint holds.

    Returns:
        The schedule; None for the state of another scheduler.
    """
    warmup = (state.get("_milestones") or [0])[0]
    cosine = state["_schedulers"][-1] if "_schedulers" in state else state
    if "T_max" not in cosine:
        return None
    return Schedule(int(warmup + cosine["T_max"]), int(warmup), float(cosine["base_lrs"][0]))


def count_steps(trainer: Trainer, warmup_epochs: float) -> tuple[int, int]:
    """Steps of the optimizer: several batches that are accumulated are one step, as are those left over in an epoch.

    Args:
        trainer: The trainer, with its data.
        warmup_epochs: Epochs of warm-up.

    Returns:
        Steps of the whole training, and of its warm-up, at most half of them.

    Raises:
        ValueError: If training has no end, or epochs have none.
    """
    total = trainer.estimated_stepping_batches
    if not math.isfinite(total):
        msg = "The cosine schedule needs an end: set max_epochs of the model, or trainer.max_epochs or max_steps."
        raise ValueError(msg)
    if trainer.train_dataloader is None:  # where max_steps alone ends the training, Lightning has not looked at it yet
        trainer.fit_loop.setup_data()
    if not math.isfinite(trainer.num_training_batches):
        msg = "Warm-up is counted in epochs, and the training data has no length: set trainer.limit_train_batches."
        raise ValueError(msg)
    steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return int(total), min(round(warmup_epochs * steps_per_epoch), int(total) // 2)
