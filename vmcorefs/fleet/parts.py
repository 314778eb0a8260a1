"""The files of dumps that ``makedumpfile --split`` has made, put together: each is one dump.

A file says itself that it is a part, and of which dump: see ``core.formats.kdump``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec.structs import replace

from vmcorefs.core.formats.kdump.headers import (
    MAX_HEADER_SIZE,
    MAX_SUB_HEADER_SIZE,
    MainHeader,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.core.formats.magics import KDUMP
from vmcorefs.errors import VmcorefsError
from vmcorefs.fleet.listing import Dump
from vmcorefs.output.places import is_local


def put_together(dumps: Iterable[Dump]) -> list[Dump]:
    """Dumps, of which each of several files is where the first of its files was.

    Files in a store are not looked into: that would move a block of each dump there.

    Args:
        dumps: Files, one each.
    """
    found: list[Dump] = []
    first: dict[object, int] = {}
    for dump in dumps:
        whole = _whole_of(dump.place) if is_local(dump.place) else None
        at = first.setdefault(whole, len(found)) if whole is not None else len(found)
        if at < len(found):
            found[at] = replace(found[at], others=(*found[at].others, dump))
        else:
            found.append(dump)
    return found


def _whole_of(path: str) -> object:
    """What all parts of a dump in one directory have in common; None if a file is no part."""
    try:
        with open(path, "rb", buffering=0) as file:
            if file.read(len(KDUMP)) != KDUMP:
                return None
            main = parse_main_header(os.pread(file.fileno(), MAX_HEADER_SIZE, 0))
            sub = parse_sub_header(
                main, os.pread(file.fileno(), MAX_SUB_HEADER_SIZE, main.block_size)
            )
    except (OSError, VmcorefsError):
        return None  # opening it will say what is wrong
    return (os.path.dirname(path), _told(main), sub.max_mapnr_64) if sub.split else None


def _told(main: MainHeader) -> tuple[object, ...]:
    return main.utsname, main.tv_sec, main.tv_usec, main.block_size, main.max_mapnr
