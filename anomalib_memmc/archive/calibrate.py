"""The ``calibrate`` command: a checkpoint for the place where it is used."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from anomalib_memmc.archive.calibration import Calibration, NormalFiles, calibrate, save_calibrated
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.detection.inputs import find_images
from anomalib_memmc.detection.options import add_checkpoint, add_effort

_ERRORS_SHOWN = 3


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc calibrate``.

    Args:
        argv: The arguments after ``calibrate``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If the checkpoint or the images do not exist.
        FileExistsError: If the output exists.
        ValueError: If the checkpoint is none of MemMCMAE, no normal image can be read, or there is nothing to refit.
        RuntimeError: If the memory does not suffice.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc calibrate",
        description="Learn threshold and percentiles of a checkpoint from normal images of the place where it is used.",
        allow_abbrev=False,
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--normals", required=True, nargs="+", metavar="INPUT", help="normal images, as score takes its INPUT"
    )
    parser.add_argument("--output", required=True, type=Path, help="file of the new checkpoint")
    parser.add_argument("--refit", action="store_true", help="also fit the scorer, to most of the images")
    add_effort(parser)
    options = parser.parse_args(argv)
    if options.output.exists():
        msg = f"{options.output} exists: choose another name for the calibrated checkpoint."
        raise FileExistsError(msg)
    found = find_images(options.normals)
    print(found)
    detector = Detector(options.checkpoint, options.device)
    files = NormalFiles(detector, found.paths, options.batch_size, options.workers, {})
    calibration = calibrate(detector, files, options.refit)
    save_calibrated(detector, options.checkpoint, options.output)
    print(as_text(calibration, detector.post_processor.image_threshold.item()), options.output, sep="\n")
    return 0


def as_text(calibration: Calibration, threshold: float) -> str:
    """What a calibration found, a line a finding.

    Args:
        calibration: The findings.
        threshold: The new threshold.
    """
    lines = [f"{calibration.read:,} normal images read, {len(calibration.errors):,} not."]
    lines += [f"  {error}" for error in calibration.errors[:_ERRORS_SHOWN]]
    if calibration.comparison is None:
        lines.append("The checkpoint knew no normal images to compare these with.")
    else:
        verdict = "differ from" if calibration.comparison.differs else "cannot be told from"
        lines.append(f"They {verdict} the training's normal images ({calibration.comparison}).")
    if calibration.alarms is not None:
        share = calibration.alarms / calibration.read
        lines.append(f"The old threshold calls {calibration.alarms:,} of them anomalous ({share:.1%}).")
    rate, low, high, count = calibration.promise
    if calibration.fitted:
        lines.append(
            f"The scorer was fitted to {calibration.fitted:,} of them, and the threshold learnt from the other "
            f"{round(count):,}."
        )
    if math.isnan(rate):
        return "\n".join([*lines, "No threshold was learnt: the checkpoint has enable_thresholding off."])
    lines.append(
        f"New threshold {threshold:.5g}: it promises {rate:.1%} false alarms (95 % interval {low:.1%} to {high:.1%})."
    )
    return "\n".join(lines)
