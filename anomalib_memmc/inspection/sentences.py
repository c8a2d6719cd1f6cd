"""What an inspection found, in sentences."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from anomalib_memmc.inspection.ablation import DIFFERENCES, MEMORY, NOTHING
from anomalib_memmc.inspection.table import ALL, ANOMALOUS, DIFFERENCE, NORMAL, number, select, signed
from anomalib_memmc.inspection.verdict import verdict


def error_sentence(table: pd.DataFrame) -> str:
    """Whether anomalous images are reconstructed worse than normal ones, one sentence.

    Args:
        table: The table of an inspection.
    """
    normal, anomalous, difference = (
        number(table, "squared_error", images=images, off=NOTHING) for images in (NORMAL, ANOMALOUS, DIFFERENCE)
    )
    how = "as well as" if not difference.is_clear else "better than" if difference.value < 0 else "worse than"
    return (
        f"Hidden patches of anomalous images are reconstructed {how} those of normal images: squared error "
        f"{anomalous.value:#.3g} and {normal.value:#.3g}, difference {difference.value:+.2g} ± "
        f"{difference.standard_error:.2g}."
    )


def memory_sentences(table: pd.DataFrame) -> Iterator[str]:
    """What the memory is given, what it does, and whether it holds normal patterns.

    Args:
        table: The table of an inspection.
    """
    if not len(select(table, "memory_slots")):
        yield "The model has no memory (memory_slots is 0), so nothing is said of it."
        return
    slots = int(number(table, "memory_slots").value)
    even = number(table, "even_share").value
    yield f"Memory takes {_by_layer(table, 'memory_share', '.0%')}. Were attention even, it would be {even:.0%}."
    yield (
        f"Of {slots} slots the layers use {_span(table, 'slots_used')} on the whole, and a single query "
        f"{_span(table, 'slots_of_a_query')} (exp of the entropy of the attention to them)."
    )
    if len(moves := select(table, "memory_move")):
        low, high = moves["value"].min(), moves["value"].max()
        yield f"Training moved the memory by {low:.1%} to {high:.1%} of the random values that it began with."
    yield _differences(table, "memory_share", "The share of memory", ".1%")
    yield loss(table, MEMORY, "Memory switched off")
    yield loss(table, DIFFERENCES, "All slots replaced by their mean")
    yield f"Does the memory hold normal patterns? {verdict(table)}"


def level_sentences(table: pd.DataFrame) -> Iterator[str]:
    """How open the gates are, and what each level is worth.

    Args:
        table: The table of an inspection.
    """
    gates = select(table, "gate", images=ALL)
    if not len(gates):
        yield "The decoder attends to no encoder levels (multi_level is false), so nothing is said of gates."
        return
    lowest, highest = (
        f"{row.value:.2f} (level {row.level} in block {row.block})"
        for row in (gates.loc[gates["value"].idxmin()], gates.loc[gates["value"].idxmax()])
    )
    yield f"Gates are open from {lowest} to {highest}; an untrained gate is at about 0.5."
    yield _differences(table, "gate", "The mean gate", ".3f")
    for off in select(table, "image_AUROC")["off"]:
        if "level" in off:
            yield loss(table, off, f"{off[0].upper()}{off[1:]} switched off")


def loss(table: pd.DataFrame, off: str, what: str) -> str:
    """What switching a part off does to detection and reconstruction, one sentence.

    Args:
        table: The table of an inspection.
        off: The part.
        what: The beginning of the sentence.
    """
    before, after = (number(table, "image_AUROC", off=each).value for each in (NOTHING, off))
    change = number(table, "image_AUROC_change", off=off)
    clear = "beyond" if change.is_clear else "within"
    normal, anomalous = (
        signed(number(table, "squared_error_change", off=off, images=images).value, ".0%")
        for images in (NORMAL, ANOMALOUS)
    )
    return (
        f"{what}: image AUROC from {before:.3f} to {after:.3f} ({signed(change.value, '.3f')} ± "
        f"{change.standard_error:.3f}, {clear} two standard errors); squared error of hidden patches {normal} on "
        f"normal and {anomalous} on anomalous images."
    )


def caveats(table: pd.DataFrame) -> Iterator[str]:
    """What the numbers rest on.

    Args:
        table: The table of an inspection.
    """
    normal, anomalous = (int(number(table, "image_count", images=images).value) for images in (NORMAL, ANOMALOUS))
    yield (
        f"From {normal} normal and {anomalous} anomalous test images; standard errors take images as independent. Of "
        "many differences one in twenty is beyond two standard errors by chance."
    )
    if refitted := int(number(table, "refit_count").value):
        yield (
            f"The scorer was fitted with everything on. For each part that is off, and for none, a copy was refitted "
            f"to {refitted} normal training images."
        )
    yield "The network was trained with all parts; one that is trained without a part may do better than this one."


def _by_layer(table: pd.DataFrame, measure: str, form: str) -> str:
    """Such as ``3 % of the attention of layer 1, 5 % of layer 2``."""
    rows = select(table, measure, images=ALL)
    shares = [f"{value:{form}} of layer {block}" for block, value in zip(rows["block"], rows["value"], strict=True)]
    shares[0] = shares[0].replace("of layer", "of the attention of layer")
    return ", ".join(shares)


def _span(table: pd.DataFrame, measure: str) -> str:
    """Such as ``31.0 to 38.2``."""
    values = [f"{value:.1f}" for value in sorted(select(table, measure, images=ALL)["value"])]
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _differences(table: pd.DataFrame, measure: str, what: str, form: str) -> str:
    """Where the classes differ, one sentence."""
    rows = select(table, measure, images=DIFFERENCE)
    clear = rows[rows["value"].abs() > 2 * rows["standard_error"]]
    if not len(clear):
        return f"{what} is alike on anomalous and normal images, within two standard errors, in all {len(rows)} places."
    places = ", ".join(f"{_place(row)} ({signed(row.value, form)})" for row in clear.itertuples())
    others = "the others are within" if len(clear) < len(rows) else "that is all of them"
    return f"{what} differs, anomalous less normal images, by more than two standard errors in {places}; {others}."


def _place(row: Any) -> str:
    return f"layer {row.block}" if pd.isna(row.level) else f"level {row.level} in block {row.block}"
