"""Tables of the report."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Table:
    """A Markdown table with a note below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", *(f"| {' | '.join(row)} |" for row in (self.header, *self.rows))]
        lines.insert(3, f"| --- |{' ---: |' * (len(self.header) - 1)}")
        return "\n".join([*lines, "", self.note, ""] if self.note else [*lines, ""])
