"""What the command line writes beside its results: every line once, on stderr."""

import logging

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%H:%M:%S"
_SPEAKERS = ("anomalib", "anomalib_memmc", "lightning")
"""Packages whose messages of level INFO are shown; others have to be warnings."""
_WITH_HANDLERS = ("lightning.pytorch", "lightning.fabric")
_SAID_BY_LIGHTNING = "lightning.pytorch.utilities.rank_zero"
_UNWANTED = (
    "try installing [litlogger]",  # an advertisement
    "callbacks returned in `LightningModule.configure_callbacks` will override",  # by those of the training, the same
)


def configure_logger() -> None:
    """Show messages on stderr, once and on one line each, unless this process has set up its logging already.

    anomalib's ``configure_logger`` shows each line twice, on stdout and on stderr.
    """
    logging.basicConfig(format=_FORMAT, datefmt=_TIME, level=logging.WARNING)
    for name in _SPEAKERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _WITH_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger(_SAID_BY_LIGHTNING).addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(part in message for part in _UNWANTED)
