"""A directory with a phone's RAM in several files, and the table of their addresses."""

from __future__ import annotations

import os
from contextlib import ExitStack

from vmcorefs.core.formats.ramdump import Part
from vmcorefs.core.space.extents import EMPTY, Extents, Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import format_range
from vmcorefs.errors import FormatError, LayoutError
from vmcorefs.sources.companions import ramdump_parts
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.file import FileSource

_FORMAT = "a phone's RAM by Qualcomm's tools"


def open_ramdump(path: str) -> PlacedMemory:
    """Open the files that the table of a directory names.

    Raises:
        ConfigError: if a file cannot be opened.
        FormatError: if the table cannot be true, or no file of it is there.
    """
    parts = ramdump_parts(path)
    with ExitStack() as stack:
        files: list[FileSource] = []
        tables, lost = [EMPTY], []
        for part in parts:
            name = os.path.join(path, part.name)
            size = 0
            if os.path.lexists(name):
                files.append(FileSource(name, role="image"))
                files[-1].format = _FORMAT
                stack.callback(files[-1].close)
                size = min(files[-1].size, part.size)
                tables.append(_table(part, size, len(files) - 1))
            if size < part.size:
                where = format_range(part.paddr + size, part.paddr + part.size)
                lost.append(f"{name}: {where} is not there")
        held = _merge(path, tables)
        stack.pop_all()
    return PlacedMemory(
        name=path,
        format=_FORMAT,
        sources=tuple(files),
        held=held,
        ram=make_ranges((part.paddr, part.paddr + part.size) for part in parts),
        lost="; ".join(lost),
    )


def _merge(path: str, tables: list[Extents]) -> Extents:
    try:
        held = merge(*tables)
    except LayoutError as error:
        raise FormatError(f"{path}: {error}") from error
    if not len(held):
        raise FormatError(f"{path}: none of the files with RAM is there")
    return held


def _table(part: Part, size: int, source: int) -> Extents:
    span = make_ranges([(part.paddr, part.paddr + size)])
    return make_extents(span, kind=Kind.DATA, source=source)
