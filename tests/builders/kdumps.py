"""kdump-compressed dumps and flattened streams, built with ``struct`` and the codecs alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cramjam
import lzo
import zstandard

from tests.builders.dead_machines import prstatus_note, stamped, vmcoreinfo_note, vmcoreinfo_text

PAGE = 4096
NO_HEADER = False

CODECS: Mapping[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "zlib": (1, lambda page: zlib.compress(page, 1)),
    "lzo": (2, lambda page: lzo.compress(page, 1, NO_HEADER)),
    "snappy": (4, lambda page: bytes(cramjam.snappy.compress_raw(page))),
    "zstd": (32, zstandard.ZstdCompressor(level=1).compress),
}

RAM = range(1, 600)
KEPT = [*range(1, 100), *range(200, 230), 300, 599]
"""Page frame numbers of a dump's RAM, and of the pages that it stores."""

NOTES = prstatus_note(100, 0x1000, 0x2000) + vmcoreinfo_note(vmcoreinfo_text())


def stamped_page(pfn: int) -> bytes:
    """A page each of whose 8 bytes hold their own physical address."""
    return stamped(pfn * PAGE, (pfn + 1) * PAGE)


@dataclass
class Kdump:
    """A dump that is to be.

    Attributes:
        pages: Page frame numbers that are stored.
        ram: Page frame numbers that are RAM; those of ``pages`` if None.
        zeros: Those of ``pages`` that are zeros, and share one stored page.
        lost: Those of ``pages`` whose descriptor is all zeros.
        codec: Of every page.
        status: Bits of the main header's status, beside the codec's.
        split: The pages that this part speaks of.
        order: Byte order.
        bits: In a ``long``.
        packed: 64-bit members are aligned to 4 bytes, as on i386, and not to 8.
        machine: ``utsname.machine``.
        notes: The ELF notes; None for a header of version 3, which has VMCOREINFO's text alone.
        vmcoreinfo: VMCOREINFO's text in a place of its own, beside the notes.
        erased: What makedumpfile erased.
        phys_base: Of the sub header.
        descs: What descriptors are, in the place of what they should be: number to
            (offset, size, flags), None for what it should be.
    """

    pages: Iterable[int]
    ram: Iterable[int] | None = None
    zeros: Iterable[int] = ()
    lost: Iterable[int] = ()
    codec: str = "zlib"
    status: int = 0
    split: tuple[int, int] | None = None
    order: str = "<"
    bits: int = 64
    packed: bool = False
    machine: bytes = b"x86_64"
    notes: bytes | None = NOTES
    vmcoreinfo: bytes = b""
    erased: bytes = b""
    phys_base: int = 0
    mapped: int | None = None

    def pack(self, **fields: int) -> bytes:
        """The bytes of it; ``fields`` overwrite those of the main header."""
        pages = sorted(self.pages)
        ram = sorted(set(pages) | set(self.ram or ()))
        mapped = self.mapped or ram[-1] + 1
        half = -(-mapped // (8 * PAGE))
        flag, compress = CODECS[self.codec]
        body = _Body((2 + 1 + 2 * half) * PAGE + 24 * len(self._own(pages)))
        shared = body.put(compress(bytes(PAGE)))
        descs = b""
        for pfn in self._own(pages):
            offset, size = shared if pfn in self.zeros else body.put(compress(stamped_page(pfn)))
            if pfn in self.lost:
                offset, size = 0, 0
            descs += struct.pack(f"{self.order}qIIQ", offset, size, flag, 0)
        head = self._main(half, mapped, flag | self.status, fields)
        return (
            head.ljust(PAGE, b"\0")
            + self._sub(mapped).ljust(2 * PAGE, b"\0")
            + _bitmap(ram, half)
            + _bitmap(pages, half)
            + descs
            + body.data
        )

    def _own(self, pages: list[int]) -> list[int]:
        first, end = self.split or (0, pages[-1] + 1 if pages else 0)
        return [pfn for pfn in pages if first <= pfn < end]

    def _main(self, half: int, mapped: int, status: int, fields: dict[str, int]) -> bytes:
        names = [b"Linux", b"host", b"6.1.0-test", b"#1", self.machine, b""]
        values = {
            "tv_sec": 0,
            "tv_usec": 0,
            "status": status,
            "block_size": PAGE,
            "sub_hdr_size": 2,
            "bitmap_blocks": 2 * half,
            "max_mapnr": mapped,
            "total_ram_blocks": 0,
            "device_blocks": 0,
            "written_blocks": 0,
            "current_cpu": 0,
            "nr_cpus": 1,
        } | fields
        version = values.pop("header_version", 6 if self.notes is not None else 3)
        head = b"KDUMP   " + struct.pack(f"{self.order}i", version)
        head += b"".join(name.ljust(65, b"\0") for name in names)
        return self._members(head, "LLIiiIIIIIIi", values.values())

    def _members(self, head: bytes, kinds: str, values: Iterable[int]) -> bytes:
        """``head``, and behind it members of a structure; ``L`` is a ``long``."""
        for kind, value in zip(kinds, values, strict=True):
            code = kind if kind != "L" else "Q" if self.bits == 64 else "I"
            align = 4 if self.packed else struct.calcsize(f"={code}")
            head += bytes(-len(head) % align) + struct.pack(self.order + code, value)
        return head

    def _sub(self, mapped: int) -> bytes:
        first, end = self.split or (0, 0)
        text = vmcoreinfo_text() if self.notes is None else self.vmcoreinfo
        at, told, fields = PAGE + 104, b"", []  # or less, if a long has 32 bits
        for part in (text, self.notes or b"", self.erased):
            fields += [at + len(told) if part else 0, len(part)]
            told += part
        level, is_split = 31, int(self.split is not None)
        rest = (first, end, *fields, first, end, mapped)
        sub = self._members(b"", "LiiLLQLQLQLQQQ", (self.phys_base, level, is_split, *rest))
        return sub.ljust(104, b"\0") + told


@dataclass
class _Body:
    """What follows the descriptors."""

    start: int
    data: bytes = b""

    def put(self, data: bytes) -> tuple[int, int]:
        at = self.start + len(self.data)
        self.data += data
        return at, len(data)


def _bitmap(pfns: Sequence[int], blocks: int) -> bytes:
    bits = bytearray(blocks * PAGE)
    for pfn in pfns:
        bits[pfn // 8] |= 1 << (pfn % 8)
    return bytes(bits)


def flatten(pieces: Iterable[tuple[int, bytes]], *, ends: bool = True) -> bytes:
    """A flattened stream that writes each piece at its offset, in this order."""
    start = (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    records = b"".join(struct.pack(">qq", at, len(data)) + data for at, data in pieces)
    return start + records + (struct.pack(">qq", -1, -1) if ends else b"")
