"""Warnings that other packages raise among themselves, and that nobody who uses this one can heed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_AT_IMPORT = (  # anomalib importing parts of timm and of itself
    r"Importing from timm\.models\.layers is deprecated",
    r"The anomalib\.models\.components\.dinov2 package is deprecated",
)
_AT_WORK = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning calling PyTorch
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen network belongs there
    r"The ``compute`` method of metric (Pixel\w+|F1Score|\w*IoU) was called before",  # there are no masks to compare
)


@contextmanager
def without_import_warnings() -> Iterator[None]:
    """Leave out what the import of anomalib says of other packages; all else is shown."""
    with warnings.catch_warnings():
        for message in _AT_IMPORT:
            warnings.filterwarnings("ignore", message, FutureWarning)
        yield


def ignore_warnings_at_work() -> None:
    """Leave out, from now on in this process, what packages say to each other while they work."""
    for message in _AT_WORK:
        warnings.filterwarnings("ignore", message)
