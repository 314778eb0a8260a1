"""What could not be read while the dead machine was looked at, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import UnreadableError, VmcorefsError
from vmcorefs.sources.unreadable import LookedAt

_SHOWN = 20


def describe_unreadable(looked: Sequence[LookedAt], memory: Extents) -> tuple[str, ...]:
    """A line for each range that could not be read and was not told yet, the first 20 of them.

    Args:
        looked: The sources.
        memory: Where their bytes are in physical memory.
    """
    lines: list[str] = []
    left_out = 0
    for number, source in enumerate(looked):
        held = memory.rows((memory.source == number) & (memory.kind == Kind.DATA))
        for start, end, why in source.take_bad():
            if len(lines) == _SHOWN:
                left_out += end - start
                continue
            where = _addresses(held, start, end) or f"{source.name}: {format_range(start, end)}"
            lines.append(f"{where} is taken for absent: {why}")
    if left_out:
        lines.append(f"{format_size(left_out)} more are taken for absent, as they cannot be read")
    return tuple(lines)


def _addresses(held: Extents, start: int, end: int) -> str:
    """The physical addresses of bytes of a source; empty if they are not memory."""
    rows = held.rows((held.offset < end) & (start < held.offset + held.size))
    if not len(rows):
        return ""
    row = rows.rows(slice(0, 1))
    offset, paddr, size = int(row.offset[0]), int(row.start[0]), int(row.size[0])
    first, last = max(start, offset), min(end, offset + size)
    return f"memory at {format_range(paddr + first - offset, paddr + last - offset)}"


@contextmanager
def telling_unreadable(looked: Sequence[LookedAt], memory: Extents) -> Iterator[None]:
    """Have an error say what could not be read, as that may be the reason for it."""
    try:
        yield
    except UnreadableError:
        raise  # it says so itself
    except VmcorefsError as error:
        lines = describe_unreadable(looked, memory)
        if lines:
            error.args = (f"{error} ({'; '.join(lines)})",)
        raise
