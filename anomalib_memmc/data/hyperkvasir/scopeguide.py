"""Tell frames with the black ScopeGuide box from frames without it (not in the paper)."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from anomalib_memmc.data.io.decode import open_image

SIDE = 64  # pixels of a thumbnail
ROWS, COLUMNS = slice(50, 62), slice(8, 14)  # inside the box, and outside the frame's black corner
MAX_LEVEL = 5  # of 255

CORNER = (0.0, 84 / 128, 44 / 128, 1.0)
"""Where the box may lie in a frame cropped as the authors do: (left, top, right, bottom), fractions of the crop."""


def has_scopeguide_box(path: str | Path) -> bool:
    """Whether a colonoscopy frame has the black box that covers the ScopeGuide picture at its lower left.

    Most normal frames have the box and fewer polyps do, so a score may tell them apart by the box alone.

    Args:
        path: The image file.

    Returns:
        True if the place of the box is black.

    Raises:
        ImageReadError: If the file cannot be read.
    """
    with open_image(path) as image:
        image.draft("L", (SIDE, SIDE))
        thumbnail = np.asarray(ImageOps.exif_transpose(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return bool(thumbnail[ROWS, COLUMNS].mean() < MAX_LEVEL)
