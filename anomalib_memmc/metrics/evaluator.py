"""The metrics of a test."""

from anomalib.metrics import Evaluator

from anomalib_memmc.metrics.defined import AUROC, F1Score
from anomalib_memmc.metrics.iou import IoU, OracleIoU
from anomalib_memmc.metrics.pixel_curves import PixelAUPRO, PixelAUROC


def default_evaluator() -> Evaluator:
    """Image AUROC and F1; with masks also pixel AUROC, AUPRO, F1 and IoU of the paper. No map is kept."""
    maps, masks = ["anomaly_map", "gt_mask"], ["pred_mask", "gt_mask"]
    return Evaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
            PixelAUROC(fields=maps, prefix="pixel_", strict=False),
            PixelAUPRO(fields=maps, prefix="pixel_", strict=False),
            F1Score(fields=masks, prefix="pixel_", strict=False),
            IoU(fields=masks, prefix="pixel_", strict=False),
            OracleIoU(fields=maps, prefix="pixel_", strict=False),
        ],
        compute_on_cpu=False,  # what they keep is small, and NCCL gathers from GPUs only
    )
