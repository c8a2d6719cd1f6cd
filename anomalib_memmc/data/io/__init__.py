"""Reading images and masks, and what can be wrong with them."""

from anomalib_memmc.data.io.errors import DatasetError, DatasetNotFoundError, ImageReadError
from anomalib_memmc.data.io.reader import read_image, read_mask

__all__ = ["DatasetError", "DatasetNotFoundError", "ImageReadError", "read_image", "read_mask"]
