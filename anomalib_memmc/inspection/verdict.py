"""Whether the memory of a model holds normal patterns, as the paper says."""

import pandas as pd

from anomalib_memmc.inspection.ablation import DIFFERENCES, MEMORY
from anomalib_memmc.inspection.table import ALL, ANOMALOUS, DIFFERENCE, NORMAL, number

_LITTLE = 0.1  # of what the whole memory is worth


def verdict(table: pd.DataFrame) -> str:
    """The answer, from what is lost without the memory and with all slots alike.

    Patterns of normal images are many, they help to reconstruct, they help normal images more than anomalous ones, and
    detection is worse without them. The first that fails is the answer.

    Args:
        table: The table of an inspection of a model with memory.

    Returns:
        One or two sentences.
    """
    rise = number(table, "squared_error_change", off=MEMORY, images=ALL)
    if not rise.is_clear or rise.value < 0:
        return "No, nothing that reconstruction needs: without it the errors are no larger."
    if _is_one_vector(table, rise.value):
        return (
            "No: it is needed, but as one vector and not as patterns. With all slots replaced by their mean the model "
            f"works as well. {_detection(table)}"
        )
    return f"{_for_whom(table)} {_detection(table)}"


def _is_one_vector(table: pd.DataFrame, rise: float) -> bool:
    """Whether slots that are all alike cost no detection, and little of the reconstruction that the memory is worth."""
    detection = number(table, "image_AUROC_change", off=DIFFERENCES)
    return number(table, "squared_error_change", off=DIFFERENCES, images=ALL).value < _LITTLE * rise and not (
        detection.is_clear and detection.value < 0
    )


def _for_whom(table: pd.DataFrame) -> str:
    """Whose errors rise more without the memory."""
    normal, anomalous, difference = (
        number(table, "squared_error_change", off=MEMORY, images=images) for images in (NORMAL, ANOMALOUS, DIFFERENCE)
    )
    rises = f"without it their errors rise by {normal.value:.0%} and {anomalous.value:.0%}"
    if not difference.is_clear:
        return f"It holds patterns, but of normal and anomalous images alike: {rises}."
    if difference.value < 0:
        return f"Yes, it holds patterns that normal images need more than anomalous ones: {rises}."
    return f"It holds patterns, but such as anomalous images need more than normal ones: {rises}."


def _detection(table: pd.DataFrame) -> str:
    """Whether detection is worse without the memory."""
    change = number(table, "image_AUROC_change", off=MEMORY)
    if not change.is_clear:
        return "Detection does not clearly change without the memory."
    return f"Detection is {'worse' if change.value < 0 else 'better'} without the memory."
