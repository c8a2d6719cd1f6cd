"""What the command line writes beside its results: every line once, on stderr."""

import logging

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%H:%M:%S"
_LIGHTNING = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
"""Lightning's names, which have handlers of their own; it may speak by any of them."""
_SPEAKERS = ("anomalib", "anomalib_memmc", *_LIGHTNING)
"""Packages whose messages of level INFO are shown; others have to be warnings."""
_UNWANTED = (
    "try installing [litlogger]",  # an advertisement
    "callbacks returned in `LightningModule.configure_callbacks` will override",  # by those of the training, the same
    "Conflicting resize shapes found between augmentations",  # such as those of a preset, which crop after it
)


def configure_logger() -> None:
    """Show messages on stderr, once and on one line each, unless this process has set up its logging already.

    anomalib's function of this name shows each line twice, on stdout and on stderr.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, _TIME))
    handler.addFilter(_is_wanted)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in _SPEAKERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _LIGHTNING:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _is_wanted(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(part in message for part in _UNWANTED)
