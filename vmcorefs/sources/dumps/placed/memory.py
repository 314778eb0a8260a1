"""What an opener of such a format returns: memory by physical address, as far as the file has it.

The rest is found in the memory, as for raw memory: which kernel it is of, its map, its headers.
"""

from __future__ import annotations

import msgspec

from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.ranges import Ranges, make_ranges
from vmcorefs.sources.base import Source

NOTHING = make_ranges([])


class PlacedMemory(msgspec.Struct, frozen=True):
    """An opened file, or several, of a format that has memory by physical address.

    Attributes:
        name: The path, as the user gave it.
        format: The format, for people.
        sources: What the table indexes; closed with the image.
        held: What is in the file, by physical address: DATA, or ZERO where the format says so.
        ram: What the format lists as RAM, a normal set, whether it is in the file or lost; empty if
            the format does not say what is RAM.
        zeros: Where RAM that is not in the file is zeros, as those are left out, a normal set.
        spared: What the programs that write the format never write though it is RAM, a normal set;
            it is missing, but no sign of a damaged file.
        lost: What the file has lost, for people; empty if it is whole as far as it can tell.
        cpus: The registers of its CPUs; None if the format does not have them.
        machine: The machine's ``EM_*``; None if the format may be of any.
        warnings: What a person should know about it.
    """

    name: str
    format: str
    sources: tuple[Source, ...]
    held: Extents
    ram: Ranges = NOTHING
    zeros: Ranges = NOTHING
    spared: Ranges = NOTHING
    lost: str = ""
    cpus: CpuRegisters | None = None
    machine: int | None = None
    warnings: tuple[str, ...] = ()
