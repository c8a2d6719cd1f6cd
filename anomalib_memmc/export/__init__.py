"""Exports of a model: what they do with images they cannot score, and the papers that travel with them."""

from anomalib_memmc.export.module import Exportable

__all__ = ["Exportable"]
