"""Images of very many ranges, a page each with a page between them, in files that are sparse."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.builders.dead_machines import PT_LOAD, PT_NOTE, X86_64, Phdr, pack_elf
from tests.builders.elf_dumps import NOTES
from tests.builders.kdumps import Kdump

PAGE = 4096
_PHDR = np.dtype("<u4,<u4,<u8,<u8,<u8,<u8,<u8,<u8")
_PN_XNUM = 0xFFFF


def make_raw(directory: Path, count: int) -> list[Path]:
    """Raw memory, and the map of it."""
    image, text = directory / "ram", directory / "iomem"
    image.touch()
    os.truncate(image, 2 * PAGE * count)
    with text.open("w") as file:
        for n in range(count):
            file.write(f"{2 * n * PAGE:08x}-{(2 * n + 1) * PAGE - 1:08x} : System RAM\n")
    return [image, text]


def make_elf(directory: Path, count: int) -> list[Path]:
    """An ELF dump with a PT_LOAD for each range; their number is where gABI puts large ones."""
    image = directory / "vmcore"
    at_section = 64 + 56 * (count + 1)
    at_notes = -(-(at_section + 64) // PAGE) * PAGE
    data = at_notes + PAGE
    note = Phdr(PT_NOTE, at_notes, len(NOTES), p_paddr=0, p_filesz=len(NOTES))
    one = pack_elf([note], X86_64)
    head = bytearray(one[:64])
    struct.pack_into("<Q", head, 40, at_section)  # e_shoff
    struct.pack_into("<HHH", head, 56, _PN_XNUM, 64, 1)  # e_phnum, e_shentsize, e_shnum
    number = np.arange(count, dtype=np.uint64)
    loads = np.zeros(count, dtype=_PHDR)
    loads["f0"], loads["f1"] = PT_LOAD, 7
    loads["f2"] = data + number * PAGE
    loads["f4"] = number * 2 * PAGE
    loads["f3"] = loads["f4"] + np.uint64(0xFFFF888000000000)
    loads["f5"] = loads["f6"] = PAGE
    with image.open("wb") as file:
        file.write(head + one[64:120])
        loads.tofile(file)
        file.write(struct.pack("<IIQQQQIIQQ", *(0,) * 7, count + 1, 0, 0))
        file.seek(at_notes)
        file.write(NOTES)
        file.truncate(data + count * PAGE)
    return [image]


def make_kdump(directory: Path, count: int, *, left_out: bool = False) -> list[Path]:
    """A kdump-compressed dump; what lies between is no RAM, or was left out."""
    image = directory / "kdump"
    small = Kdump(pages=[0], zeros=[0], codec="none", mapped=2 * count).pack()
    half = -(-2 * count // (8 * PAGE))
    bits = np.zeros(half * PAGE, dtype=np.uint8)
    bits[: count // 4] = 0x55
    ram = bits | (bits << 1) if left_out else bits
    descriptors = (3 + 2 * half) * PAGE
    page = -(-(descriptors + 24 * count) // PAGE) * PAGE
    with image.open("wb") as file:
        file.write(small[: 3 * PAGE])
        file.write(ram.tobytes() + bits.tobytes())
        file.write(struct.pack("<qIIQ", page, PAGE, 0, 0) * count)
        file.truncate(page + PAGE)
    return [image]


def make_filtered_kdump(directory: Path, count: int) -> list[Path]:
    """A kdump-compressed dump of RAM without a hole, of which every other page was left out."""
    return make_kdump(directory, count, left_out=True)


INPUTS: Mapping[str, Callable[[Path, int], list[Path]]] = {
    "raw memory with a map": make_raw,
    "ELF": make_elf,
    "kdump": make_kdump,
    "kdump, pages left out between": make_filtered_kdump,
}
