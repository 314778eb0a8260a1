"""/proc/vmcore written the slow way: fs/proc/vmcore.c's rules, one after the other.

The oracle of the property tests. It shares no code with vmcorefs; it knows nothing of tables.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

PT_LOAD, PT_NOTE = 1, 4


def write_vmcore(
    physical: bytes | bytearray, elfcorehdr: bytes, *, page_size: int = 4096, note_align: int = 4
) -> bytes:
    """What the kernel's /proc/vmcore would read as.

    Args:
        physical: Memory by physical address, as the capture kernel reads it; zeros follow.
        elfcorehdr: Starts with the header that the capture kernel was given.
        page_size: Of the capture kernel.
        note_align: ``p_align`` that its release gives the merged PT_NOTE.
    """
    header = _Header(elfcorehdr)
    segments = header.segments()
    slots = [s for s in segments if s["p_type"] == PT_NOTE]
    loads = [s for s in segments if s["p_type"] == PT_LOAD]

    notes = b"".join(
        trim_notes(_read(physical, s["p_offset"], s["p_offset"] + s["p_memsz"]), header.order)
        for s in slots
    )
    head_size = _round_up(header.ehdr_size + header.phdr_size * (1 + len(loads)), page_size)
    merged = dict.fromkeys(header.names, 0) | {
        "p_type": PT_NOTE,
        "p_offset": head_size,
        "p_filesz": len(notes),
        "p_memsz": len(notes),
        "p_align": note_align,
    }
    shown = [merged]
    pages: list[bytes] = []
    at = head_size + _round_up(len(notes), page_size)
    for load in loads:
        first = load["p_offset"]
        start = first - first % page_size
        end = _round_up(first + load["p_memsz"], page_size)
        shown.append(load | {"p_offset": at + first - start})
        pages.append(_read(physical, start, end))
        at += end - start

    head = header.pack(shown)
    padded_notes = notes.ljust(_round_up(len(notes), page_size), b"\0")
    return head.ljust(head_size, b"\0") + padded_notes + b"".join(pages)


def trim_notes(slot: bytes, order: str) -> bytes:
    """The whole notes of one slot, up to a zero ``n_namesz`` or one that would leave the slot."""
    at = 0
    while at + 12 <= len(slot):
        namesz, descsz, _ = struct.unpack_from(f"{order}3I", slot, at)
        after = at + 12 + _round_up(namesz, 4) + _round_up(descsz, 4)
        if namesz == 0 or after > len(slot):
            break
        at = after
    return slot[:at]


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _read(physical: bytes | bytearray, start: int, end: int) -> bytes:
    return bytes(physical[start:end]).ljust(end - start, b"\0")


@dataclass
class _Header:
    data: bytes

    def __post_init__(self) -> None:
        wide = self.data[4] == 2
        self.order = "<" if self.data[5] == 1 else ">"
        self.ehdr_size, self.phdr_size = (64, 56) if wide else (52, 32)
        self.phnum_offset = 56 if wide else 44
        self.phdr_layout = self.order + ("II6Q" if wide else "8I")
        self.names = (
            "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align"
            if wide
            else "p_type p_offset p_vaddr p_paddr p_filesz p_memsz p_flags p_align"
        ).split()

    def segments(self) -> list[dict[str, int]]:
        (count,) = struct.unpack_from(f"{self.order}H", self.data, self.phnum_offset)
        return [
            dict(
                zip(
                    self.names,
                    struct.unpack_from(
                        self.phdr_layout, self.data, self.ehdr_size + n * self.phdr_size
                    ),
                    strict=True,
                )
            )
            for n in range(count)
        ]

    def pack(self, segments: Sequence[dict[str, int]]) -> bytes:
        """The same ELF header, but with these program headers behind it."""
        ehdr = bytearray(self.data[: self.ehdr_size])
        struct.pack_into(f"{self.order}H", ehdr, self.phnum_offset, len(segments))
        return bytes(ehdr) + b"".join(
            struct.pack(self.phdr_layout, *(segment[name] for name in self.names))
            for segment in segments
        )
