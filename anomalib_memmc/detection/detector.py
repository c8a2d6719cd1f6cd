"""A checkpoint that judges image files: model, scorer, post-processor and normal scores come from it alone."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from anomalib.data import ImageBatch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_memmc.accelerators import require_device
from anomalib_memmc.data.io import ImageReadError
from anomalib_memmc.detection.images import ImageReader, Read, read_batches
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.detection.result import Result, Verdicts
from anomalib_memmc.memory.advice import SCORING, advice
from anomalib_memmc.model import MemMCMAE, NormalQuantilePostProcessor
from anomalib_memmc.model.checkpoint_file import require_checkpoint
from anomalib_memmc.model.finite import NotFiniteError
from anomalib_memmc.reporting.pictures import reconstruction_of
from anomalib_memmc.scoring import Scores


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
        ValueError: If it is no checkpoint of MemMCMAE, or there is no such device.

    Examples:
        >>> from anomalib_memmc import Detector
        >>> from anomalib_memmc.reporting import case_figure
        >>> result = Detector("model.ckpt").judge("image.png")  # doctest: +SKIP
        >>> print(result.verdict)  # doctest: +SKIP
        anomalous: score 3.1, threshold 1.2, more unusual than 99.4 % of normal images; spread 0.2
        >>> case_figure("image.png", result).savefig("case.png")  # doctest: +SKIP
    """

    def __init__(self, checkpoint: str | Path | IO[bytes], device: str | None = None) -> None:
        if device is not None:
            require_device(device)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        source = Path(checkpoint) if isinstance(checkpoint, str) else checkpoint
        self.model = load_model(source).to(self.device).eval()
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

    def judge(self, image: str | Path) -> Result:
        """Judge one image file.

        Args:
            image: The file: PNG, JPEG, TIFF, DICOM and so on, of 8 to 16 bits and any size.

        Returns:
            Score, verdict, map and reconstruction.

        Raises:
            ImageReadError: If it cannot be read.
            ValueError: If its score is not finite, or the checkpoint knows no normal images.
        """
        ((result,),) = self.results(Paths([str(image)]), maps=True, reconstructions=True)
        if result.error is not None:
            raise ImageReadError(result.error)
        return result

    def results(
        self,
        paths: Paths,
        batch_size: int = 32,
        workers: int = 0,
        maps: bool = False,
        reconstructions: bool = False,
    ) -> Iterator[list[Result]]:
        """Judge files in order, batch by batch. What cannot be read is a result with an error.

        Args:
            paths: The files.
            batch_size: Images scored at once.
            workers: Processes that read beside the scoring; with 0 nothing is read beside it.
            maps: Also give the post-processed maps.
            reconstructions: Also give the reconstructions, image by image, since they take memory for every mask.
        """
        for batch in read_batches(self.reader, paths, batch_size, workers):
            yield self._judged(batch, maps, reconstructions)

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

    @torch.no_grad()
    def reconstruction(self, image: Tensor) -> Tensor:
        """What the model makes of an image: each pixel as predicted, on average over the masks that hide it.

        Args:
            image: Pre-processed image (C, H, W) in [0, 1].

        Returns:
            (C, H, W), about [0, 1].
        """
        with advice(SCORING):
            return reconstruction_of(self.model.model, image.to(self.device))

    def require_map_scale(self) -> None:
        """Refuse a checkpoint that does not know what is usual in a map.

        Raises:
            ValueError: If so.
        """
        if bool(self.post_processor.pixel_min.isnan()):
            msg = "The checkpoint has no scale for maps, since it was never validated: calibrate it first."
            raise ValueError(msg)

    def _judged(self, batch: list[Read], maps: bool, reconstructions: bool) -> list[Result]:
        """Results of a batch of files, in their order."""
        start = time.perf_counter()
        readable = [read for read in batch if read.image is not None]
        results = {read.path: Result(read.path, seconds=read.seconds, error=read.error) for read in batch}
        if readable:
            images = torch.stack([cast(Tensor, read.image) for read in readable])
            scores = self.score(images)
            heat = self.maps(images, scores).cpu() if maps else None
            rebuilt = [self.reconstruction(image).cpu() for image in images] if reconstructions else None
            share = (time.perf_counter() - start) / len(readable)
            verdicts = Verdicts(self.model.post_processor)
            for index, read in enumerate(readable):
                results[read.path] = replace(
                    _result(read.path, scores, index, verdicts),
                    seconds=read.seconds + share,
                    anomaly_map=None if heat is None else heat[index],
                    reconstruction=None if rebuilt is None else rebuilt[index],
                )
        return [results[read.path] for read in batch]


def _result(path: str, scores: Scores, index: int, verdicts: Verdicts) -> Result:
    """Score and verdict of one image; a score that is no number is an error."""
    score = float(scores.pred_score[index])
    if not math.isfinite(score):
        return Result(path, error=f"The score of {path} is {score}.")
    spread = None if scores.score_std is None else float(scores.score_std[index])
    return Result(path, score, spread=spread, **verdicts.of(score))


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
        require_checkpoint(checkpoint, MemMCMAE)  # its checksums too
    try:
        model = MemMCMAE.load_from_checkpoint(cast(Any, checkpoint), map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zip files raise many kinds, with advice that is of no use here
        reason = (
            error if isinstance(error, ValueError | NotFiniteError) else "it is damaged, or of another model or version"
        )
        name = checkpoint if isinstance(checkpoint, Path) else "the file"
        msg = f"Cannot take {name} as a checkpoint of MemMCMAE: {str(reason).rstrip('.')}."
        raise ValueError(msg) from error
    return cast(MemMCMAE, model)
