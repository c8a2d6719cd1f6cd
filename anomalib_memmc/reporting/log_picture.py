"""Pictures for experiment loggers, each of which takes them in its own way."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray


def log_picture(loggers: Iterable[Logger], figure: Figure, name: str, step: int) -> None:
    """Hand a figure to the loggers that take images: TensorBoard, MLflow, Weights & Biases; others are left out.

    Args:
        loggers: The trainer's loggers.
        figure: The figure.
        name: What it is called there, such as ``reconstructions/test``.
        step: Steps of the optimizer so far.
    """
    takers = [logger for logger in loggers if _takes_images(logger)]
    if not takers:
        return
    image = pixels(figure)
    for logger in cast(list[Any], takers):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, image, f"{name}.png")
        else:
            logger.log_image(key=name, images=[image], step=step)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure's pixels (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _takes_images(logger: Logger) -> bool:
    return isinstance(logger, TensorBoardLogger | MLFlowLogger) or callable(getattr(logger, "log_image", None))
