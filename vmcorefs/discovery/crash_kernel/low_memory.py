"""Which copy of low memory is used: the given backup, purgatory's in the image, or none.

docs/decisions/0004 explains the order.
"""

from __future__ import annotations

import msgspec

from vmcorefs.config import CaptureConfig
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.extents import Extents, Kind, exclude, make_extents, overlay
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.discovery.crash_kernel.backup import (
    Backup,
    backup_in_image,
    check_size,
    compare,
    expected_range,
)
from vmcorefs.discovery.plan import Plan
from vmcorefs.errors import FaultError
from vmcorefs.piece import Piece
from vmcorefs.reader import Reader
from vmcorefs.sources.input import File
from vmcorefs.sources.pieces import open_piece
from vmcorefs.sources.unreadable import LookedAt
from vmcorefs.sources.wrappers.unwrap import Unwrapping


class LowMemory(msgspec.Struct, frozen=True):
    """Memory with the backup that was chosen.

    Attributes:
        memory: All memory, with every backup laid over it.
        backup: The topmost backup, if there is any.
        source: The file that it is in, if it was given.
        warnings: What a person should know about it.
    """

    memory: Extents
    backup: Backup | None = None
    source: File | None = None
    warnings: tuple[str, ...] = ()


def find_low_memory(
    config: CaptureConfig, reader: Reader, plan: Plan, memory_map: MemoryMap
) -> LowMemory:
    """Choose the copy of low memory and lay it over memory.

    Args:
        config: What was asked for.
        reader: The captured memory, by physical address.
        plan: Its elfcorehdr says where the backup region is, if there is one.
        memory_map: The map in use.

    Raises:
        ConfigError: if a backup is given but cannot be opened, or its address is not known.
        LayoutError: if its size does not fit.
        SourceIOError: if an input cannot be read.
    """
    low = _low_memory_in_image(reader, plan)
    if config.backup is None:
        return low
    return _lay_given_backup(config, config.backup, low.memory, reader, plan, memory_map)


def _low_memory_in_image(reader: Reader, plan: Plan) -> LowMemory:
    moved = plan.elfcorehdr.backup
    if moved is None:
        return LowMemory(reader.table)
    try:
        backup, why_not = backup_in_image(reader, moved)
    except FaultError:
        # at low addresses the image has what the capture kernel left there
        lost = make_ranges([(moved[0], moved[0] + moved[1])])
        return LowMemory(exclude(reader.table, lost))
    if backup is None:
        return LowMemory(reader.table, warnings=(why_not,))
    return LowMemory(overlay(reader.table, backup.extents), backup)


def _lay_given_backup(
    config: CaptureConfig,
    piece: Piece,
    memory: Extents,
    reader: Reader,
    plan: Plan,
    memory_map: MemoryMap,
) -> LowMemory:
    moved = plan.elfcorehdr.backup
    source, paddr, size = open_piece(
        piece,
        role="backup",
        ram_end=memory_map.end,
        how=Unwrapping(config.truncated),
        far=config.far,
    )
    try:
        start, end = paddr, paddr + size
        if piece.paddr is None:
            start, end = expected_range(moved, memory_map, plan.elfcorehdr.header.e_machine)
            check_size(piece.name, size, start, end)
        sources = (*reader.sources, LookedAt(source))
        extents = make_extents(
            make_ranges([(start, end)]),
            kind=Kind.DATA,
            source=len(sources) - 1,
            offset=piece.offset,
        )
        warning = compare(reader, moved, Reader(piece.name, extents, sources)) if moved else ""
    except BaseException:
        source.close()
        raise
    backup = Backup(start, end, piece.name, extents)
    warnings = (warning,) if warning else ()
    return LowMemory(overlay(memory, extents), backup, source, warnings)
