# SPDX-License-Identifier: Apache-2.0
"""Thresholds, metrics, tables and pictures for judging a model."""

from .iou import IoU, OracleIoU
from .post_processor import NormalQuantilePostProcessor

__all__ = ["IoU", "NormalQuantilePostProcessor", "OracleIoU"]
