"""docs/faults.md: rows that tests make, and that tests hold it to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
_START = "<!-- made by ./run faults-table -->"


@dataclass(frozen=True)
class Row:
    """One fault in one plane.

    Attributes:
        fault: What goes wrong.
        plane: By what the file is served.
        injected: How it was made to happen.
        reader: What readers saw.
        log: What the log said.
        time: How long, and the limit that the test holds it to.
        recovered: What it took to go on.
    """

    fault: str
    plane: str
    injected: str
    reader: str
    log: str
    time: str
    recovered: str

    @property
    def key(self) -> tuple[str, str]:
        return self.fault, self.plane

    @property
    def claims(self) -> tuple[str, ...]:
        """All but what was measured: that differs each time, and the test has its limit."""
        limit = self.time.partition("limit ")[2]
        return (self.fault, self.plane, self.injected, self.reader, self.log, limit, self.recovered)


def read_rows(text: str) -> list[Row]:
    """The rows of the document."""
    _, _, table = text.partition(_START)
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    width = len(fields(Row))
    rows = []
    for line in lines:
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == width, line
        rows.append(Row(*cells))
    return rows


def write_rows(text: str, rows: Iterable[Row]) -> str:
    """The document with these rows in place of those with the same key; sorted as it is told."""
    before, _, _ = text.partition(_START)
    head = ["fault", "plane", "what was injected", "what the readers saw", "what the log said"]
    head += ["how long", "recovered"]
    lines = [_line(head), "|" + "---|" * len(head), *(_line(astuple(row)) for row in rows)]
    return f"{before}{_START}\n\n" + "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
