"""Learning what is normal where a checkpoint is used: thresholds, percentiles, and on request the scorer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from anomalib.utils.serialization import anomalib_safe_globals
from numpy.typing import NDArray
from torch import Tensor

from anomalib_memmc.archive.drift import Comparison, compare
from anomalib_memmc.data.io import DatasetError
from anomalib_memmc.detection.detector import Detector, as_batch
from anomalib_memmc.detection.images import read_batches
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.metrics.conformal import fewest_normals
from anomalib_memmc.model.thresholds import thresholds_of
from anomalib_memmc.resuming.thresholds_file import THRESHOLDS, write_thresholds
from anomalib_memmc.resuming.whole_file import replaced

HELD_OUT = 0.2
"""Share of the normal images that a refitted scorer does not learn from, at least."""
SEED = 0


class Calibration(NamedTuple):
    """What a calibration found.

    Attributes:
        read: Normal images that were read.
        errors: What was wrong with the others.
        comparison: The scores beside those of the training's normal images, by the scorer of the checkpoint; None
            where the checkpoint knew none.
        alarms: How many of the images the old threshold calls anomalous; None where there was none.
        fitted: Images that the scorer learnt from again; 0 where it did not.
        promise: False-alarm rate that the new threshold promises, the ends of its 95 % interval, and the number of
            normal images behind it (4,).
    """

    read: int
    errors: list[str]
    comparison: Comparison | None
    alarms: int | None
    fitted: int
    promise: tuple[float, ...]


class NormalFiles:
    """Normal images of files as batches (B, C, H, W), which may be gone through several times.

    Args:
        detector: Its reader reads them.
        paths: The files.
        batch_size: Images a batch.
        workers: Processes that read.
        errors: Path -> what was wrong with it, filled while it is gone through.
    """

    def __init__(self, detector: Detector, paths: Paths, batch_size: int, workers: int, errors: dict[str, str]) -> None:
        self.detector, self.paths, self.batch_size, self.workers = detector, paths, batch_size, workers
        self.errors = errors

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the images that can be read."""
        for batch in read_batches(self.detector.reader, self.paths, self.batch_size, self.workers):
            self.errors.update((read.path, read.error) for read in batch if read.error is not None)
            images = [read.image for read in batch if read.image is not None]
            if images:
                yield self.detector.model.model.network.check(torch.stack(images).to(self.detector.device))

    def some(self, paths: Paths) -> "NormalFiles":
        """The same of other files."""
        return NormalFiles(self.detector, paths, self.batch_size, self.workers, self.errors)


def calibrate(detector: Detector, files: NormalFiles, refit: bool) -> Calibration:
    """Learn thresholds and normal scores from normal images, and put them where a validation puts them.

    Args:
        detector: The checkpoint; its model is changed.
        files: The normal images.
        refit: Also fit the scorer, to most of them; the threshold is then learnt from the rest.

    Returns:
        What was found.

    Raises:
        ValueError: If no image can be read, or fewer than four for a refit, or the scorer learns nothing.
    """
    scorer = detector.model.model.scorer
    if refit and not scorer.learns:
        msg = f"{type(scorer).__name__} learns nothing from normal images: leave out --refit."
        raise ValueError(msg)
    before, threshold = detector.normals, detector.post_processor.image_threshold.item()
    scores = _scores(detector, files) if refit else _validate(detector, files)
    if not len(scores):
        msg = f"None of the {len(files.paths)} normal images can be read: {next(iter(files.errors.values()))}"
        raise DatasetError(msg)
    comparison = compare(scores, before) if len(before) else None
    alarms = None if np.isnan(threshold) else int((scores > threshold).sum())
    fitted = _refit(detector, files) if refit else 0
    promise = tuple(detector.post_processor.promise.tolist())
    return Calibration(len(scores), list(files.errors.values()), comparison, alarms, fitted, promise)


def save_calibrated(detector: Detector, checkpoint: Path, output: Path) -> None:
    """Write a checkpoint with the detector's weights and thresholds, all else as it was, and its thresholds beside it.

    Lightning keeps the post-processor twice, as a part of the model and as a callback, and a test takes the latter.

    Args:
        detector: The calibrated detector.
        checkpoint: The checkpoint that it came from.
        output: The file to write, whole or not at all.
    """
    with anomalib_safe_globals():
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["state_dict"] = _on_cpu(detector.model.state_dict())
    callback = detector.post_processor.state_key
    if callback in content.get("callbacks", {}):
        content["callbacks"][callback] = _on_cpu(detector.post_processor.state_dict())
    content[THRESHOLDS] = thresholds_of(detector.post_processor)
    with replaced(output) as part:
        torch.save(content, part)
    write_thresholds(output, content)


def held_out(count: int, rate: float) -> int:
    """How many of some normal images a refit holds out: a fifth, or what the false-alarm rate needs, at most half.

    Args:
        count: The normal images.
        rate: False-alarm rate to promise, in (0, 1).
    """
    return min(max(round(HELD_OUT * count), fewest_normals(rate)), count // 2)


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in state.items()}


def _refit(detector: Detector, files: NormalFiles) -> int:
    """Fit the scorer to most of the images that can be read, calibrate on the rest; how many it was fitted to."""
    readable = [path for path in files.paths if path not in files.errors]
    if len(readable) < 4:
        msg = f"A refit takes at least 4 normal images, and {len(readable)} can be read."
        raise DatasetError(msg)
    order = np.random.default_rng(SEED).permutation(len(readable))
    held = held_out(len(readable), detector.post_processor.false_alarm_rate)
    parts = [Paths(readable[index] for index in sorted(part)) for part in (order[held:], order[:held])]
    scorer = detector.model.model.scorer
    with torch.no_grad():
        scorer.fit(detector.model.model.network, files.some(parts[0]))
        scorer.is_fitted.fill_(True)
    _validate(detector, files.some(parts[1]))
    return len(parts[0])


def _scores(detector: Detector, files: NormalFiles) -> NDArray[np.float64]:
    """Finite scores of images."""
    found = [detector.score(images).pred_score.double().cpu().numpy() for images in files]
    return _finite(found)


def _validate(detector: Detector, files: NormalFiles) -> NDArray[np.float64]:
    """Let the post-processor learn from images as in a validation without a trainer; their finite scores."""
    post_processor, nobody = detector.post_processor, cast(Any, None)
    post_processor.on_validation_epoch_start(nobody, detector.model)
    found = []
    for images in files:
        scores = detector.score(images)
        found.append(scores.pred_score.double().cpu().numpy())
        post_processor.on_validation_batch_end(nobody, detector.model, as_batch(images, scores))
    if found:
        post_processor.on_validation_epoch_end(nobody, detector.model)
    return _finite(found)


def _finite(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The finite ones of some scores, in one piece (N,)."""
    scores = np.concatenate([np.empty(0), *parts])
    return scores[np.isfinite(scores)]
