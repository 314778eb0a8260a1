"""The memory of a QEMU guest that runs, out of QEMU's own memory: ``qmp:SOCKET``, ``qemu:PID``.

The monitor says where each physical address of the guest lies in QEMU's memory. Without it, there
is one mapping that is as large as the guest's memory; where its bytes belong is then found as for
raw memory. A mapping of a shared file (memory-backend-memfd, memory-backend-file with share=on) is
read as that file, any other one through /proc/PID/mem. The guest is not asked, and runs on, unless
it is to be stopped until its memory is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.maps.flat_view import Run
from vmcorefs.core.space.extents import Extents, Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import format_size
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.piece import Piece
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.live.process import (
    LiveMemory,
    Mapping,
    ProcessMemory,
    SharedMemory,
    list_mappings,
)
from vmcorefs.sources.live.qmp import Monitor

FORMAT: Final = "the memory of a QEMU guest that runs"
PAUSED: Final = "the memory of a QEMU guest that is stopped"
_UNITS: Final = {"": 20, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE: Final = re.compile(r"(?:size=)?([0-9]+)([bkmgt]?)(?:,.*)?", re.IGNORECASE)


def open_live(piece: Piece, *, pause: bool = False) -> PlacedMemory | tuple[FileSource, Extents]:
    """Open the memory of a guest.

    Args:
        piece: Its path is ``qmp:SOCKET`` or ``qemu:PID``.
        pause: Stop the guest until its memory is closed.

    Returns:
        The memory by physical address; of ``qemu:PID`` a source, and all of it from address 0 on.

    Raises:
        ConfigError: if it is not found, or may not be read.
        UnsupportedError: if only the monitor could tell where the memory lies.
    """
    kind, _, rest = piece.path.partition(":")
    if piece.paddr is not None or piece.offset or piece.size is not None:
        raise ConfigError(f"{piece.path}: a guest knows where its memory belongs: give no address")
    if kind == "qmp":
        with Monitor(rest) as monitor:
            opened = _open_runs(piece.path, monitor.pid, monitor.list_ram())
            return _paused(opened, monitor) if pause else opened
    if pause:
        raise ConfigError(f"{piece.path}: --pause takes its monitor, which stops it: qmp:SOCKET")
    if not rest.isdecimal():
        raise ConfigError(f"{piece.path}: expected qemu:PID")
    return _open_largest(piece.path, int(rest))


def _paused(opened: PlacedMemory, monitor: Monitor) -> PlacedMemory:
    try:
        for first in opened.sources[:1]:
            if isinstance(first, LiveMemory):
                first.pause = monitor.pause()
    except BaseException:
        for source in opened.sources:
            source.close()
        raise
    return replace(opened, format=PAUSED)


def _open_runs(name: str, pid: int, runs: Iterable[tuple[Run, int]]) -> PlacedMemory:
    mappings = list_mappings(pid)
    sources: dict[str, LiveMemory] = {}
    tables = []
    try:
        for run, address in runs:
            size = run.end - run.start
            mapping = next((m for m in mappings if m.start <= address < m.end), None)
            if mapping is None or address + size > mapping.end:
                # QEMU may protect a part of its memory, or have it in several mappings
                mapping = Mapping(address, address + size, is_writable=True)
            key = mapping.file or f"{mapping.start:#x}"
            if key not in sources:
                sources[key] = _open(f"{name} ({run.block})", pid, mapping)
            offset = address - mapping.start + (mapping.offset if mapping.file else 0)
            span = make_ranges([(run.start, run.end)])
            number = list(sources).index(key)
            tables.append(make_extents(span, kind=Kind.DATA, source=number, offset=offset))
    except BaseException:
        for source in sources.values():
            source.close()
        raise
    return PlacedMemory(name, FORMAT, tuple(sources.values()), merge(*tables))


def _open_largest(name: str, pid: int) -> tuple[FileSource, Extents]:
    """The mapping that is as large as the guest's memory."""
    wanted = _memory_of(name, pid)
    fitting = [m for m in list_mappings(pid) if m.is_writable and m.size == wanted]
    if len(fitting) != 1:
        raise UnsupportedError(
            f"{name}: {len(fitting)} mappings of {format_size(wanted)}, the size of the guest's"
            " memory, expected one; give its monitor, qmp:SOCKET, which knows"
        )
    source = _open(name, pid, fitting[0])
    offset = fitting[0].offset if fitting[0].file else 0
    span = np.array([[0, wanted]], dtype=np.int64)
    return source, make_extents(span, kind=Kind.DATA, source=0, offset=offset)


def _memory_of(name: str, pid: int) -> int:
    """Bytes of memory that a guest was started with, by QEMU's command line (-m)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError as error:
        raise ConfigError(f"{name}: no such process: {error.strerror}") from error
    given = [value for option, value in pairwise(words) if option == "-m"]
    match = _SIZE.fullmatch(given[-1]) if given else None
    if match is None:
        raise UnsupportedError(
            f"{name}: its command line does not say how much memory a guest has (-m); is it QEMU?"
            " If so, give its monitor, qmp:SOCKET"
        )
    return int(match[1]) << _UNITS[match[2].lower()]


def _open(name: str, pid: int, mapping: Mapping) -> LiveMemory:
    if mapping.file:
        return SharedMemory(mapping.file, name=name, role="image")
    return ProcessMemory(pid, mapping.start, mapping.size, name=name, role="image")
