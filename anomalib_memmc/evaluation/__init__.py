"""Thresholds, metrics, tables and pictures for judging a model."""

from .iou import IoU, OracleIoU
from .post_processor import NormalQuantilePostProcessor
from .predictions import PredictionTable
from .reconstructions import ReconstructionPictures

__all__ = ["IoU", "NormalQuantilePostProcessor", "OracleIoU", "PredictionTable", "ReconstructionPictures"]
