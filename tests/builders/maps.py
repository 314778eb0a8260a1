"""Memory maps of every kind that vmcorefs reads, as the kernels and tools print them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

Row = tuple[int, int, str]
"""Start, end (exclusive) and the name that /proc/iomem has for it."""
Span = tuple[int, int]

RAM, RESERVED = "System RAM", "Reserved"

E820Dialect = Literal["current", "old", "new"]
"""``old``: before 3.6, exclusive ends. ``new``: the words of 7.0, with the gaps listed."""

_E820_WORDS = {
    "current": {RAM: "usable", RESERVED: "reserved"},
    "old": {RAM: "usable", RESERVED: "reserved"},
    "new": {RAM: "System RAM", RESERVED: "device reserved"},
}


def iomem_text(rows: Sequence[Row], crash_kernel: Sequence[Span] = ()) -> str:
    """/proc/iomem: inclusive ends, each crash kernel range a child of the row that holds it."""
    lines = []
    for start, end, name in rows:
        lines.append(f"{start:08x}-{end - 1:08x} : {name}\n")
        lines += [
            f"  {low:08x}-{high - 1:08x} : Crash kernel\n"
            for low, high in crash_kernel
            if start <= low and high <= end
        ]
    return "".join(lines)


def memmap_rows(rows: Sequence[Row]) -> str:
    """What people make of /sys/firmware/memmap with a shell loop: ``start end type``."""
    # a shell lists the entries as 0 1 10 11 2
    order = sorted(range(len(rows)), key=str)
    return "".join(f"{rows[n][0]:#x} {rows[n][1] - 1:#x} {rows[n][2]}\n" for n in order)


def memmap_grep(rows: Sequence[Row]) -> str:
    """What ``grep -r . /sys/firmware/memmap`` prints."""
    return "".join(
        f"/sys/firmware/memmap/{number}/{name}:{value}\n"
        for number, row in enumerate(rows)
        for name, value in _memmap_files(row).items()
    )


def write_memmap_directory(rows: Sequence[Row], directory: Path) -> Path:
    """A copy of the directory /sys/firmware/memmap."""
    for number, row in enumerate(rows):
        entry = directory / str(number)
        entry.mkdir(parents=True)
        for name, value in _memmap_files(row).items():
            (entry / name).write_text(f"{value}\n")
    return directory


def _memmap_files(row: Row) -> dict[str, str]:
    start, end, name = row
    return {"end": f"{end - 1:#x}", "start": f"{start:#x}", "type": name}


def e820_text(
    rows: Sequence[Row],
    dialect: E820Dialect = "current",
    *,
    crash_kernel: Sequence[Span] = (),
    stamp: bool = True,
) -> str:
    """The lines of dmesg, with the crash kernel's reservation as that age of kernel prints it."""
    lines = ["Linux version 6.1.0", "BIOS-provided physical RAM map:"]
    at = 0
    for start, end, name in rows:
        if dialect == "new" and at < start:
            lines.append(f"BIOS-e820: [gap {at:#018x}-{start - 1:#018x}]")
        lines.append(f"BIOS-e820: {_e820_row(start, end, _E820_WORDS[dialect][name], dialect)}")
        at = end
    for start, end in crash_kernel:
        size = (end - start) >> 20
        lines.append(
            f"crashkernel reserved: {start:#018x} - {end:#018x} ({size} MB)"
            if dialect == "new"
            else f"Reserving {size}MB of memory at {start >> 20}MB for crashkernel (RAM: 9MB)"
        )
    prefix = "[    0.000000] " if stamp else ""
    return "".join(f"{prefix}{line}\n" for line in lines)


def _e820_row(start: int, end: int, word: str, dialect: E820Dialect) -> str:
    if dialect == "old":
        return f"{start:016x} - {end:016x} ({word})"
    return f"[mem {start:#018x}-{end - 1:#018x}] {word}"


Speller = Callable[[Sequence[Row]], str]
