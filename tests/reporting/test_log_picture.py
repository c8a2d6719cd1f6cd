"""Loggers that take images are given the picture, each in its own way."""

from types import SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from matplotlib.figure import Figure

from anomalib_memmc.reporting.log_picture import log_picture, pixels


@pytest.fixture
def figure():
    made = Figure(figsize=(0.4, 0.2), dpi=100, facecolor=(1, 0, 0))
    made.add_axes((0, 0, 0.5, 1)).imshow(np.zeros((2, 2)), cmap="gray", aspect="auto")
    return made


def fake(kind, calls, **members):
    """A logger of a kind whose experiment notes its calls."""
    note = lambda name: lambda *args, **kwargs: calls.append((name, args, kwargs))  # noqa: E731
    experiment = SimpleNamespace(add_image=note("add_image"), log_image=note("log_image"))
    made = type("Fake", (kind,), {"__init__": lambda self: None, "experiment": experiment, **members})
    return made()


def test_pixels_are_those_of_the_figure(figure):
    image = pixels(figure)
    assert (image.shape, image.dtype) == ((20, 40, 3), np.uint8)
    assert image[10, 35].tolist() == [255, 0, 0]


def test_tensorboard_and_mlflow(figure):
    calls = []
    loggers = [fake(TensorBoardLogger, calls), fake(MLFlowLogger, calls, run_id="r")]
    log_picture(loggers, figure, "reconstructions/test", 7)
    (board, flow), image = calls, pixels(figure)
    assert (board[0], board[1][0], board[1][2], board[2]) == (
        "add_image",
        "reconstructions/test",
        7,
        {"dataformats": "HWC"},
    )
    assert np.array_equal(board[1][1], image)
    assert (flow[0], flow[1][0], flow[1][2]) == ("log_image", "r", "reconstructions/test.png")
    assert np.array_equal(flow[1][1], image)


def test_weights_and_biases_and_others_that_log_images(figure, tmp_path):
    calls = []
    wandb = SimpleNamespace(log_image=lambda **kwargs: calls.append(kwargs))
    log_picture([CSVLogger(tmp_path), wandb], figure, "reconstructions/test", 3)
    (call,) = calls
    assert (call["key"], call["step"]) == ("reconstructions/test", 3)
    assert np.array_equal(call["images"][0], pixels(figure))
