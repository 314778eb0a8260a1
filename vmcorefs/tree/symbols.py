"""``kallsyms``, ``vmlinux``, ``gdbinit``: names for addresses without a debug package; ``version``.

All are made when they are first asked for, from the symbols that the kernel keeps of itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cached_property

from vmcorefs.core.structures.crash_notes import slots_by_cpu
from vmcorefs.core.structures.version import names_uts, read_uts
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.debug_vmlinux import kernel_offset, recover_vmlinux
from vmcorefs.kernel.debuginfo import find_vmlinux
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.kernel.symbols import Symbols
from vmcorefs.system.memory import available_memory
from vmcorefs.tree.file import TreeFile, text_file

log = logging.getLogger(__name__)

_NOTE_HEADER_SIZE = 12
_PANIC_CPU_NONE = 2**32 - 1  # PANIC_CPU_INVALID (include/linux/panic.h)


class KernelSymbols:
    """What is made of one kernel's symbols."""

    def __init__(self, kernel: Kernel, slots: tuple[NoteSlot, ...]) -> None:
        self._kernel = kernel
        self._slots = slots
        self._available = available_memory()  # now: later, a daemon may open nothing

    @cached_property
    def symbols(self) -> Symbols:
        """The symbols; what is lacking is logged once.

        Raises:
            FormatError: if they cannot be decoded.
        """
        found = self._kernel.all_symbols
        for warning in found.warnings:
            log.warning("%s", warning)
        return found

    def format(self) -> bytes:
        """The text of /proc/kallsyms."""
        return self.symbols.format()

    def make_version(self) -> bytes:
        """The text of /proc/version, or what is known of it without symbols."""
        kernel = self._kernel
        if kernel.names_symbols:
            try:
                return kernel.banner
            except VmcorefsError as error:
                log.warning("version: who built the kernel is not in it: %s", error)
        return read_uts(kernel.vmcoreinfo, kernel.image)

    def make_vmlinux(self) -> bytes:
        """An ELF file with the kernel's symbols, types and unwind tables."""
        return recover_vmlinux(self._kernel, self.symbols, self._available)

    def panicked(self) -> NoteSlot | None:
        """The note slot of the CPU that panicked: kernel/panic.c keeps its number.

        A dump has no slot of a CPU that saved nothing, so the slot is found by what the CPU's own
        buffer holds. If no CPU has saved anything, the notes are a hypervisor's, of every CPU.
        """
        image = self._kernel.image
        try:
            symbols = self._kernel.symbols
            vaddr = symbols.lookup("panic_cpu")
            cpu = image.integer(vaddr, 4) if vaddr is not None else _PANIC_CPU_NONE
            buffers = slots_by_cpu(image, symbols)
            if not any(any(image.read(at, _NOTE_HEADER_SIZE)) for at in buffers.values()):
                return self._slots[cpu] if cpu < len(self._slots) else None
            return next((slot for slot in self._slots if self._is_in(buffers.get(cpu), slot)), None)
        except VmcorefsError:
            return None

    def _is_in(self, buffer: int | None, slot: NoteSlot) -> bool:
        if buffer is None or not slot.size:
            return False
        return self._kernel.image.read(buffer, slot.size) == slot.data[: slot.size]


def symbol_files(image: MemoryImage, location: str) -> Iterator[TreeFile]:
    """The files, if VMCOREINFO says where the symbols are (Linux 6.0 and later).

    Without symbols there still is ``version``, if VMCOREINFO says where ``init_uts_ns`` is.

    Args:
        image: The dead machine.
        location: The directory that the tree is mounted at, for ``gdbinit``.
    """
    kernel = image.kernel
    if kernel is None:
        return
    symbols = KernelSymbols(kernel, image.notes.cpu_slots)
    if kernel.names_symbols or names_uts(kernel.vmcoreinfo):
        yield text_file("version", symbols.make_version)
    if not kernel.names_symbols:
        return
    # now, and not when it is asked for: a daemon's directory is /
    given = image.config.vmlinux
    vmlinux = os.path.abspath(given) if given is not None else find_vmlinux(kernel.vmcoreinfo)
    yield text_file("kallsyms", symbols.format)
    yield text_file("vmlinux", symbols.make_vmlinux)

    def make_gdbinit() -> bytes:
        return _make_gdbinit(image, symbols, location, vmlinux, kernel_offset(kernel))

    yield text_file("gdbinit", make_gdbinit)


def _make_gdbinit(
    image: MemoryImage, symbols: KernelSymbols, location: str, vmlinux: str | None, offset: int
) -> bytes:
    symbol_file = vmlinux if vmlinux is not None else os.path.join(location, "vmlinux")
    lines = [
        f"# gdb -x {os.path.join(location, 'gdbinit')}",
        "set pagination off",
        f'symbol-file "{symbol_file}" -o {offset:#x}',
        # gdb takes the rest of this line as it is, quotes and all
        f"core-file {os.path.join(location, 'kcore')}",
    ]
    thread = _thread_number(image, symbols.panicked())
    if thread is not None:
        lines += ["# the CPU that panicked", f"thread {thread}"]
    if any("\n" in line for line in lines):
        names = f"{location!r} or {vmlinux!r}"
        raise FormatError(f"gdbinit: gdb cannot take a name with a line end, as in {names}")
    return os.fsencode("".join(f"{line}\n" for line in lines))


def _thread_number(image: MemoryImage, panicked: NoteSlot | None) -> int | None:
    """Which of gdb's threads a CPU is: it makes one of each note, in their order."""
    number = 0
    for slot in image.notes.cpu_slots:
        number += slot.state(image.plan.elfcorehdr.header) is not None
        if slot is panicked:
            return number or None
    return None
