"""The crashed kernel's memory, by virtual address, for reading its variables."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.space.units import PAGE_SIZE

MAX_IMAGE = 1 << 30
"""Largest kernel image accepted, in bytes: KERNEL_IMAGE_SIZE of x86-64."""

ReadVirtual = Callable[[int, int], bytes]
"""``read(vaddr, size)`` returns bytes of kernel virtual memory, or raises ``VmcorefsError``."""


class KernelMemory(msgspec.Struct, frozen=True):
    """How to read a kernel's variables.

    Attributes:
        read: Reads its virtual memory.
        byte_order: ``<`` or ``>``.
        word_size: Bytes in a ``long`` and in a pointer: 4 or 8.
    """

    read: ReadVirtual
    byte_order: ByteOrder
    word_size: int

    def integer(self, vaddr: int, size: int) -> int:
        """The unsigned integer of ``size`` bytes at ``vaddr``."""
        return self.decode(self.read(vaddr, size))

    def pointer(self, vaddr: int) -> int:
        """The pointer, or the ``unsigned long``, at ``vaddr``."""
        return self.integer(vaddr, self.word_size)

    def integers(self, vaddr: int, count: int, size: int) -> npt.NDArray[np.uint64]:
        """An array of unsigned integers of ``size`` bytes each, shape ``(count,)``."""
        data = self.read(vaddr, count * size)
        return np.frombuffer(data, dtype=f"{self.byte_order}u{size}").astype(np.uint64)

    def decode(self, data: bytes) -> int:
        """The unsigned integer that ``data`` holds."""
        return int.from_bytes(data, "little" if self.byte_order == "<" else "big")

    def string(self, vaddr: int, limit: int) -> bytes:
        """The string at ``vaddr`` without its NUL, or its first ``limit`` bytes if it is longer.

        It may end right before memory that is not mapped.
        """
        first = min(limit, PAGE_SIZE - vaddr % PAGE_SIZE)
        data = self.read(vaddr, first)
        if b"\0" not in data and first < limit:
            data += self.read(vaddr + first, limit - first)
        return data.partition(b"\0")[0]
