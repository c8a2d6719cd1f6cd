"""A checkpoint that judges image files: model, scorer, post-processor and normal scores come from it alone."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from anomalib.data import ImageBatch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_memmc.archive.images import ImageReader, Read, read_batches
from anomalib_memmc.archive.paths import Paths
from anomalib_memmc.memory.advice import SCORING, advice
from anomalib_memmc.model import MemMCMAE, NormalQuantilePostProcessor
from anomalib_memmc.model.torch_file import require_file
from anomalib_memmc.scoring import Scores


class Result(NamedTuple):
    """What a detector says of one image file.

    Attributes:
        path: The file.
        score: Score before post-processing, as ``score`` of ``predictions.csv``; None where there was an error.
        spread: Standard deviation over the scorer's masks of the mean error of the hidden pixels, in the unit of the
            error map; None where the scorer has no masks.
        seconds: What reading and scoring took; scoring is shared evenly by the images of a batch.
        error: What was wrong with the file; None where nothing was.
        anomaly_map: Post-processed map (H, W) of the model's size, in (0, 1) with 0.5 at the pixel threshold; None
            where it was not asked for.
    """

    path: str
    score: float | None
    spread: float | None
    seconds: float
    error: str | None
    anomaly_map: Tensor | None = None


class Detector:
    """Scores image files by a checkpoint of MemMCMAE.

    Args:
        checkpoint: The file, its path or open.
        device: Where to score, such as ``"cuda"``; None takes a GPU where there is one.

    Attributes:
        model: The model, in evaluation mode.
        reader: Reads files as its tests do.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of MemMCMAE.

    Example:
        >>> from anomalib_memmc.archive.detector import Detector
        >>> from anomalib_memmc.archive.paths import Paths
        >>> for batch in Detector(Path("model.ckpt")).results(Paths(["a.png", "b.dcm"])):  # doctest: +SKIP
        ...     print([result.score for result in batch])
    """

    def __init__(self, checkpoint: Path | IO[bytes], device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(checkpoint).to(self.device).eval()
        self.reader = ImageReader(self.model)

    @property
    def post_processor(self) -> NormalQuantilePostProcessor:
        """The checkpoint's post-processor.

        Raises:
            ValueError: If it has none that learns from normal images.
        """
        found = self.model.post_processor
        if not isinstance(found, NormalQuantilePostProcessor):
            msg = (
                f"The checkpoint's post-processor is {type(found).__name__}, which keeps no scores of normal images: "
                "train with the default one, NormalQuantilePostProcessor."
            )
            raise ValueError(msg)
        return found

    @property
    def normals(self) -> NDArray[np.float64]:
        """Raw scores of the held-out normal images, sorted (N,); empty before the first validation."""
        return self.post_processor.normal_scores.double().cpu().numpy()

    def results(
        self, paths: Paths, batch_size: int = 32, workers: int = 0, maps: bool = False
    ) -> Iterator[list[Result]]:
        """Judge files in order, batch by batch.

        Args:
            paths: The files.
            batch_size: Images scored at once.
            workers: Processes that read beside the scoring; with 0 nothing is read beside it.
            maps: Also give the post-processed maps.
        """
        for batch in read_batches(self.reader, paths, batch_size, workers):
            yield self._judged(batch, maps)

    @torch.no_grad()
    def score(self, images: Tensor) -> Scores:
        """Score images as a test does, before post-processing.

        Args:
            images: Pre-processed images (B, C, H, W) in [0, 1].

        Returns:
            Their scores, maps and spreads.
        """
        with advice(SCORING):
            return self.model.model.score(images.to(self.device))

    def maps(self, images: Tensor, scores: Scores) -> Tensor:
        """Post-processed maps (B, H, W) of the model's size, in (0, 1) with 0.5 at the pixel threshold.

        Args:
            images: Pre-processed images (B, C, H, W) in [0, 1].
            scores: What :meth:`score` gave for them.

        Raises:
            ValueError: If the checkpoint has no scale for maps.
        """
        self.require_map_scale()
        self.post_processor.enable_normalization = True  # maps have one scale, whatever was set for tests
        batch = as_batch(images.to(self.device), scores)
        self.post_processor.post_process_batch(batch)
        return cast(Tensor, batch.anomaly_map)

    def require_map_scale(self) -> None:
        """Refuse a checkpoint that does not know what is usual in a map.

        Raises:
            ValueError: If so.
        """
        if bool(self.post_processor.pixel_min.isnan()):
            msg = "The checkpoint has no scale for maps, since it was never validated: calibrate it first."
            raise ValueError(msg)

    def _judged(self, batch: list[Read], maps: bool) -> list[Result]:
        """Results of a batch of files, in their order."""
        start = time.perf_counter()
        readable = [read for read in batch if read.image is not None]
        found: dict[str, Result] = {}
        if readable:
            images = torch.stack([cast(Tensor, read.image) for read in readable])
            scores = self.score(images)
            pictures = self.maps(images, scores).cpu() if maps else [None] * len(readable)
            values = scores.pred_score.float().tolist()
            spreads = [None] * len(readable) if scores.score_std is None else scores.score_std.float().tolist()
            share = (time.perf_counter() - start) / len(readable)
            rows = zip(readable, values, spreads, pictures, strict=True)
            found = {read.path: _result(read, share, *row) for read, *row in rows}
        return [found.get(read.path) or Result(read.path, None, None, read.seconds, read.error) for read in batch]


def as_batch(images: Tensor, scores: Scores) -> ImageBatch:
    """Images and their scores as a batch of normal images, as a validation hands it to a post-processor.

    Args:
        images: Pre-processed images (B, C, H, W).
        scores: Their scores.
    """
    normal = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    return ImageBatch(
        image=cast(Any, images), gt_label=normal, pred_score=scores.pred_score, anomaly_map=scores.anomaly_map[:, 0]
    )


def load_model(checkpoint: Path | IO[bytes]) -> MemMCMAE:
    """Build the model of a checkpoint, on the CPU.

    Args:
        checkpoint: The file, its path or open.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of MemMCMAE, or damaged.
    """
    if isinstance(checkpoint, Path):
        require_file(checkpoint)
    try:
        model = MemMCMAE.load_from_checkpoint(cast(Any, checkpoint), map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zip files raise many kinds, with advice that is of no use here
        reason = error if isinstance(error, ValueError) else "it is damaged, or of another model or version"
        name = checkpoint if isinstance(checkpoint, Path) else "the file"
        msg = f"Cannot take {name} as a checkpoint of MemMCMAE: {reason}."
        raise ValueError(msg) from error
    return cast(MemMCMAE, model)


def _result(read: Read, share: float, score: float, spread: float | None, anomaly_map: Tensor | None) -> Result:
    """The result of an image that was read; a score that is no number is an error."""
    seconds = read.seconds + share
    if not math.isfinite(score):
        return Result(read.path, None, None, seconds, f"The score of {read.path} is {score}.")
    return Result(read.path, score, spread, seconds, None, anomaly_map)
