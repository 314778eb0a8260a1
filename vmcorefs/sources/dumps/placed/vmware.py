"""VMware's suspended virtual machines and snapshots, with the memory in them or in a .vmem."""

from __future__ import annotations

from vmcorefs.core.formats.vmware.state import State, read_state
from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.placed.memory import NOTHING, PlacedMemory
from vmcorefs.sources.dumps.placed.regions import Row, describe_cut, stored_regions
from vmcorefs.sources.input import File


def open_vmware(file: File, memory: File | None = None) -> PlacedMemory:
    """Read where memory is.

    Args:
        file: The .vmss or .vmsn.
        memory: The .vmem, if there is one.

    Both are closed when the sources of the returned memory are closed.

    Raises:
        FormatError: if the state cannot be true.
        UnsupportedError: if it has no memory, and there is no .vmem; or if that is compressed.
        SourceIOError: if it cannot be read.
    """
    try:
        state = read_state(Window(read_at(file), file.size))
        held_by = _held_by(state, file, memory)
        held, ram = stored_regions(_rows(state, held_by), _end(state, held_by))
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{file.name}: {error}") from error
    lost = describe_cut(held_by, ram, held)
    if state.is_partial and not lost:
        lost = f"{file.name}: VMware has marked it as not complete"
    others = (file,) if memory is None else (file, memory)
    return PlacedMemory(
        name=file.name,
        format="a virtual machine's state by VMware",
        sources=(held_by, *(one for one in others if one is not held_by)),
        held=held,
        # without regions, the holes of the machine are in the memory too
        ram=ram if state.regions else NOTHING,
        lost=lost,
        cpus=state.cpus,
    )


def _held_by(state: State, file: File, memory: File | None) -> File:
    if state.at is not None:
        return file
    if memory is None:
        raise UnsupportedError(
            "a virtual machine's state by VMware, whose memory is in the file .vmem that was made"
            " with it: give that too"
        )
    return memory


def _rows(state: State, held_by: File) -> list[Row]:
    at = state.at or 0
    if state.regions:
        return [(one.paddr, at + one.offset, one.size) for one in state.regions]
    size = state.size if state.at is not None else held_by.size
    return [(0, at, size)] if size else []


def _end(state: State, held_by: File) -> int:
    """Where the memory ends in its file."""
    if state.at is None:
        return held_by.size
    return min(held_by.size, state.at + state.size)
