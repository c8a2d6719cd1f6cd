"""Summaries and pictures of results."""

from anomalib_memmc.reporting.case import case_figure

__all__ = ["case_figure"]
