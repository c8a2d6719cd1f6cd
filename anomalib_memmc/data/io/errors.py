"""What can be wrong with a data set."""


class ImageReadError(ValueError):
    """An image or a mask cannot be read; the message names the file and what to do."""


class DatasetError(ValueError):
    """A data set does not hold what was asked of it; the message says what was found and what to change."""


class DatasetNotFoundError(FileNotFoundError, DatasetError):
    """A data set is not where it was said to be; the message says where it comes from and what tree it has."""
