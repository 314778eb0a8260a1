"""What a document promises, and by which tests it is held.

A promise is a paragraph, an item of a list or a row of a table. Each part of it ends with a
footnote, which holds everything before it, back to the footnote before. A row has one anywhere, and
one in the head of a table holds every row. The footnote names tests, as
``tests/unit/test_x.py::test_y``, or ``::test_z`` of the file that was named last. No promise is
what stands in a quotation (``>``: what is behind a promise), or under a heading of `BACKGROUND`,
and what only leads to a list or a table, with a colon at its end.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

BACKGROUND = {
    "docs/security.md": {
        "Security",
        "Who is feared, and what they may do",
        "What is not guaranteed",
    },
    # its rows are tests themselves, which make it (test_docs.py)
    "docs/faults.md": {"The table"},
    "docs/save.md": set(),
    "docs/sources.md": {"Measured"},
    "docs/report.md": set(),
    "docs/triage.md": {"Measured", "Questions"},
    "docs/fuzzing.md": {"How to run them", "What was found by them", "What was seen"},
}
"""The documents that promise, and the headings under which they report instead."""

_DEFINITION = re.compile(r"^\[\^([^\]]+)\]:(.*(?:\n +\S.*)*)", re.MULTILINE)
_USE = re.compile(r"\[\^([^\]]+)\]")
_TEST = re.compile(r"`([\w/.]*)::(\w+)`")
_ITEM = re.compile(r"(?:[*-]|\d+\.) ")


class Promise(NamedTuple):
    line: int
    text: str

    @property
    def footnotes(self) -> list[str]:
        return _USE.findall(self.text)

    @property
    def without_test(self) -> str:
        """What follows the last footnote, if it says something."""
        if self.text.startswith("|") and self.footnotes:
            return ""
        rest = _USE.split(self.text)[-1]
        return rest.strip(" |.\n")


def footnotes(document: str) -> dict[str, list[str]]:
    """The tests of each footnote, each with the path of its file."""
    found: dict[str, list[str]] = {}
    for name, text in _DEFINITION.findall(document):
        assert name not in found, f"two footnotes are called {name}"
        found[name] = []
        file = ""
        for path, test in _TEST.findall(text):
            file = path or file
            found[name].append(f"{file}::{test}")
    return found


def promises(document: str, background: set[str]) -> Iterator[Promise]:
    promised = True
    for first, lines in _blocks(document):
        if lines[0].startswith("#"):
            promised = lines[0].lstrip("# ") not in background
        elif promised and not _says_nothing(lines):
            yield Promise(first, "\n".join(lines))


def _says_nothing(lines: list[str]) -> bool:
    first = lines[0].lstrip()
    return first.startswith((">", "```", "<!--", "[^")) or (
        lines[-1].endswith(":") and not first.startswith("|")
    )


def _blocks(document: str) -> Iterator[tuple[int, list[str]]]:
    """Headings, paragraphs, items, rows of tables, code: each with the number of its first line."""
    block: list[str] = []
    first = 0
    fenced = False
    head = ""
    lines = document.splitlines()
    for number, line in enumerate([*lines, ""], 1):
        if fenced:
            fenced = not line.startswith("```")
            continue
        if block and (not line.strip() or _begins(line, block)):
            yield first, block
            block = []
        if line.startswith("```"):
            fenced = True
        elif line.startswith("|") and _is_rule("".join(lines[number:][:1])):
            head = "".join(f"[^{name}]" for name in _USE.findall(line))
        elif line.strip() and not _is_rule(line):
            first = first if block else number
            block.append(line + head if line.startswith("|") else line)


def _begins(line: str, block: list[str]) -> bool:
    stripped = line.lstrip()
    return (
        line.startswith(("#", "|", "```", "[^"))
        or _ITEM.match(stripped) is not None
        or block[0].startswith("#")
        or (stripped.startswith(">") != block[0].lstrip().startswith(">"))
    )


def _is_rule(line: str) -> bool:
    return re.fullmatch(r"\|(?:[ :-]+\|)+", line) is not None


@cache
def tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    file = ROOT / path
    return path.startswith("tests/") and file.is_file() and name in tests_of(file)
