"""Sentences, tables and figure, from tables made by hand."""

import pytest

from anomalib_memmc.inspection.figure import draw
from anomalib_memmc.inspection.report import report
from anomalib_memmc.inspection.table import Row, to_table
from anomalib_memmc.inspection.verdict import verdict

COUNTS = [Row("image_count", "normal", 60), Row("image_count", "anomalous", 50), Row("refit_count", "normal", 306)]


def classes(measure, normal, anomalous, error=0.01, **where):
    return [
        Row(measure, "all", (normal + anomalous) / 2, error, **where),
        Row(measure, "normal", normal, error, **where),
        Row(measure, "anomalous", anomalous, error, **where),
        Row(measure, "anomalous - normal", anomalous - normal, error, **where),
    ]


def loss(off, auroc, normal, anomalous, base=0.8):
    """What is lost with a part off; the error of a change is 0.01."""
    rows = [Row("image_AUROC", "all", auroc, 0.05, off=off), *classes("squared_error", 0.02, 0.03, off=off)]
    if off == "nothing":
        return rows
    changes = classes("squared_error_change", normal, anomalous, off=off)
    return [*rows, *changes, Row("image_AUROC_change", "all", auroc - base, 0.01, off=off)]


def memory(off=(0.7, 0.5, 0.1), alike=(0.75, 0.3, 0.05)):
    """Two layers; AUROC and rise of the error of normal and anomalous images, without memory and with slots alike."""
    return to_table(
        [
            *COUNTS,
            *loss("nothing", 0.8, 0, 0),
            *loss("memory", *off),
            *loss("differences of slots", *alike),
            Row("memory_slots", "all", 40),
            Row("even_share", "all", 0.7),
            Row("memory_move", "all", 0.02, block=1),
            Row("memory_move", "all", 0.08, block=2),
            *classes("memory_share", 0.03, 0.03, block=1),
            *classes("memory_share", 0.10, 0.20, block=2),
            *(Row("slots_used", "all", 31.25, block=layer) for layer in (1, 2)),
            *classes("slots_of_a_query", 4, 6, block=1),
            *classes("slots_of_a_query", 7, 9, block=2),
        ]
    )


def levels():
    gates = [
        classes("gate", 0.4 + 0.1 * block, 0.4 + 0.2 * block, block=block, level=level)
        for block in (0, 1)
        for level in (2, 4, 6)
    ]
    rows = [row._replace(block=row.block + 1) for group in gates for row in group]
    offs = ("level 2", "level 4", "level 6", "all levels but 6")
    return to_table(
        [*COUNTS, *loss("nothing", 0.8, 0, 0), *(r for off in offs for r in loss(off, 0.79, 0.2, 0.3)), *rows]
    )


@pytest.mark.parametrize(
    ("off", "alike", "words"),
    [
        ((0.7, 0.0, 0.0), (0.8, 0, 0), ["No, nothing that reconstruction needs"]),
        ((0.7, -0.4, -0.3), (0.8, 0, 0), ["No, nothing that reconstruction needs"]),
        ((0.7, 0.5, 0.5), (0.795, 0.02, 0.02), ["No: it is needed, but as one vector", "worse without the memory"]),
        ((0.7, 0.5, 0.1), (0.7, 0.02, 0.02), ["normal images need more", "by 50% and 10%", "worse without"]),
        ((0.79, 0.5, 0.1), (0.79, 0.3, 0.1), ["normal images need more", "does not clearly change"]),
        ((0.9, 0.3, 0.3), (0.79, 0.3, 0.1), ["normal and anomalous images alike", "better without"]),
        ((0.7, 0.1, 0.5), (0.79, 0.3, 0.1), ["anomalous images need more", "by 10% and 50%"]),
    ],
)
def test_verdict(off, alike, words):
    said = verdict(memory(off, alike))
    for each in words:
        assert each in said


def test_sentences_on_memory():
    text = report(memory())
    for sentence in (
        "Memory takes 3% of the attention of layer 1, 15% of layer 2. Were attention even, it would be 70%.",
        "Of 40 slots the layers use 31.2 on the whole, and a single query 5.0 to 8.0",
        "Training moved the memory by 2.0% to 8.0% of the random values that it began with.",
        "more than two standard errors in layer 2 (+10.0%); the others are within.",
        "Memory switched off: image AUROC from 0.800 to 0.700 (-0.100 ± 0.010, beyond two standard errors); "
        "squared error of hidden patches +50% on normal and +10% on anomalous images.",
        "Does the memory hold normal patterns? Yes, it holds patterns that normal images need more",
        "attends to no encoder levels (multi_level is false)",
        "reconstructed as well as those of normal images",
        "From 60 normal and 50 anomalous test images",
        "refitted to 306 normal training images",
    ):
        assert sentence in text


def test_a_change_that_rounds_to_zero_has_no_minus():
    text = report(memory(alike=(0.7999, -0.001, 0.001)))
    assert "from 0.800 to 0.800 (+0.000 ± 0.010, within two standard errors)" in text
    assert "+0% on normal and +0% on anomalous" in text


def test_sentences_on_levels():
    text = report(levels())
    for sentence in (
        "The model has no memory (memory_slots is 0)",
        "Gates are open from 0.40 (level 2 in block 1) to 0.55 (level 2 in block 2)",
        "level 2 in block 2 (+0.100), level 4 in block 2 (+0.100), level 6 in block 2 (+0.100); the others are within.",
        "Level 4 switched off: image AUROC from 0.800 to 0.790 (-0.010 ± 0.010, within two standard errors)",
        "All levels but 6 switched off",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("table", "titles"),
    [
        (memory(), ["Attention that goes to memory", "Memory slots used, of 40", "Detection with parts switched off"]),
        (levels(), ["Mean gate (* differs between the classes)", "Detection with parts switched off"]),
        (to_table([*COUNTS, *loss("nothing", 0.8, 0, 0)]), ["Detection with parts switched off"]),
    ],
)
def test_panels(table, titles):
    assert [axes.get_title() for axes in draw(table).axes if axes.get_title()] == titles


def test_the_gates_of_the_figure():
    axes = next(axes for axes in draw(levels()).axes if axes.get_title().startswith("Mean gate"))
    assert [text.get_text() for text in axes.texts] == ["0.40"] * 3 + ["0.55*"] * 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "6"]
