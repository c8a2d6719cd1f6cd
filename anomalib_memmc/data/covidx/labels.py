"""The label files of Covid-X."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pandas import DataFrame

from anomalib_memmc.data.io import DatasetError
from anomalib_memmc.data.io.text import read_text

NORMAL_FINDINGS = ("negative", "normal", "pneumonia")  # "negative" of 8B is "normal" or "pneumonia" in 8A
ANOMALOUS_FINDINGS = ("positive", "covid-19")
FIELDS = ["patient", "filename", "finding", "source"]
MOST_WORDS = 5  # of a line: a patient id holds one blank at most


def read_labels(path: str | Path, normal_findings: Collection[str] | None = None) -> DataFrame:
    """Read a label file: ``patient-id filename class source`` a line, separated by blanks.

    A line is parsed from its right end, because the patient id of 943 rows of COVIDx8B holds a blank ("COVID 1"). An id
    of more blanks is refused: it would be a line and the next one, joined.

    Args:
        path: The file, UTF-8 or with a byte order mark.
        normal_findings: The classes that count as normal, in any case; every other class is then anomalous.
            ``None``: "negative", "normal" and "pneumonia" are normal (Covid-X looks for COVID-19 only), "positive" and
            "COVID-19" anomalous, and any other class an error.

    Returns:
        Table with the columns patient, filename, finding, source (str) and label_index (0 normal, 1 anomalous), in the
        file's order.

    Raises:
        DatasetError: If the file is missing, empty or in another encoding, or a line is malformed, of an unknown class,
            or names a file for a second time; the line's number is given.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"The label file {path} does not exist."
        raise DatasetError(msg)
    rows = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.strip().rsplit(maxsplit=3)]
        if len(fields) != len(FIELDS):
            msg = f"{path}, line {number}: expected 'patient-id filename class source', found {line.strip()!r}."
            raise DatasetError(msg)
        if len(line.split()) > MOST_WORDS:
            msg = (
                f"{path}, line {number}: expected 'patient-id filename class source' with one blank at most in the "
                f"patient id, found {line.strip()!r}. Are two lines joined? Start each on a line of its own."
            )
            raise DatasetError(msg)
        row = dict(zip(FIELDS, fields, strict=True))
        first = seen.setdefault(row["filename"], number)
        if first != number:
            msg = f"{path}, line {number}: the file {row['filename']} is already in line {first}."
            raise DatasetError(msg)
        rows.append({**row, "label_index": _label_index(row["finding"], normal_findings, f"{path}, line {number}")})
    if not rows:
        msg = f"The label file {path} is empty."
        raise DatasetError(msg)
    return DataFrame(rows, columns=[*FIELDS, "label_index"])


def _label_index(finding: str, normal_findings: Collection[str] | None, place: str) -> int:
    """0 for a normal class, 1 for an anomalous one."""
    if normal_findings is not None:
        return int(finding.lower() not in {name.lower() for name in normal_findings})
    if finding.lower() in NORMAL_FINDINGS:
        return 0
    if finding.lower() in ANOMALOUS_FINDINGS:
        return 1
    known = ", ".join((*NORMAL_FINDINGS, *ANOMALOUS_FINDINGS))
    msg = f"{place}: unknown class {finding!r} (known: {known}). Say which classes are normal with normal_findings."
    raise DatasetError(msg)
