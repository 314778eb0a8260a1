"""The crashed kernel's own memory, by virtual address, as its variables are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmcorefs.core.notes import ByteOrder

ReadVirtual = Callable[[int, int], bytes]
"""``read(vaddr, size)``: that many bytes of kernel virtual memory, or a ``VmcorefsError``."""


@dataclass(frozen=True, slots=True)
class KernelMemory:
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

    def decode(self, data: bytes) -> int:
        """The unsigned integer that ``data`` holds."""
        return int.from_bytes(data, "little" if self.byte_order == "<" else "big")
