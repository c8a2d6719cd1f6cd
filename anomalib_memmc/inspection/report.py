"""An inspection in print: small tables, then sentences."""

import pandas as pd

from anomalib_memmc.inspection.ablation import NOTHING
from anomalib_memmc.inspection.sentences import caveats, error_sentence, level_sentences, memory_sentences
from anomalib_memmc.inspection.table import ALL, ANOMALOUS, DIFFERENCE, NORMAL, number, select, signed


def report(table: pd.DataFrame) -> str:
    """Tables and sentences.

    Args:
        table: The table of an inspection.

    Returns:
        Text, ending with a line break.
    """
    paragraphs = [
        *_tables(table),
        error_sentence(table),
        "\n".join(memory_sentences(table)),
        "\n".join(level_sentences(table)),
        "\n".join(caveats(table)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _tables(table: pd.DataFrame) -> list[str]:
    titles = {
        "Memory, by encoder layer (* beyond two standard errors)": memory_table(table),
        "Mean gates, by decoder block and encoder level (* beyond two standard errors)": gate_table(table),
        "Parts switched off (± standard error; errors are of hidden patches)": loss_table(table),
    }
    return [f"{title}\n{each.to_string(index=False)}" for title, each in titles.items() if len(each)]


def memory_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row an encoder layer: share of the attention, its difference of the classes, and slots used."""
    return pd.DataFrame(
        {
            "layer": block,
            "share": f"{number(table, 'memory_share', block=block, images=ALL).value:.1%}",
            **_classes(table, "memory_share", ".1%", block=block),
            "slots used": f"{number(table, 'slots_used', block=block).value:.1f}",
            "by a query": f"{number(table, 'slots_of_a_query', block=block, images=ALL).value:.1f}",
        }
        for block in select(table, "slots_used")["block"]
    )


def gate_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a decoder block and encoder level."""
    gates = select(table, "gate", images=ALL)
    return pd.DataFrame(
        {
            "block": block,
            "level": level,
            "gate": f"{value:.3f}",
            **_classes(table, "gate", ".3f", block=block, level=level),
        }
        for block, level, value in zip(gates["block"], gates["level"], gates["value"], strict=True)
    )


def loss_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a part that was switched off, the first of them nothing."""
    return pd.DataFrame(_loss(table, off) for off in select(table, "image_AUROC")["off"])


def _loss(table: pd.DataFrame, off: str) -> dict[str, str]:
    auroc = number(table, "image_AUROC", off=off)
    row = {"off": off, "image AUROC": f"{auroc.value:.3f} ± {auroc.standard_error:.3f}", "change": ""}
    if off != NOTHING:
        change = number(table, "image_AUROC_change", off=off)
        row["change"] = f"{signed(change.value, '.3f')} ± {change.standard_error:.3f}"
    if len(select(table, "image_AUROC_not_refitted")):
        row["not refitted"] = f"{number(table, 'image_AUROC_not_refitted', off=off).value:.3f}"
    for images in (NORMAL, ANOMALOUS):
        row[f"error, {images}"] = f"{number(table, 'squared_error', images=images, off=off).value:#.3g}"
    return row


def _classes(table: pd.DataFrame, measure: str, form: str, **where: int) -> dict[str, str]:
    """Both classes and their difference, which has one digit more."""
    finer = f".{int(form[1]) + 1}{form[2]}"
    cells = {name: f"{number(table, measure, images=name, **where).value:{form}}" for name in (NORMAL, ANOMALOUS)}
    difference = number(table, measure, images=DIFFERENCE, **where)
    star = " *" if difference.is_clear else "  "
    cells["difference"] = f"{signed(difference.value, finer)} ± {difference.standard_error:{finer}}{star}"
    return cells
