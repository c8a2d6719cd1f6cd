"""Phantoms: generated images that need no download."""

from anomalib_memmc.data.phantom.datamodule import Phantom

__all__ = ["Phantom"]
