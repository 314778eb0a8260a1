"""``kallsyms``, ``vmlinux``, ``gdbinit``: names for addresses without a debug package; ``version``.

All are made when they are first asked for, from the symbols that the kernel keeps of itself.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from functools import cached_property

from vmcorefs.core.debuginfo.orc import read_debug_frame
from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.structures.crash_notes import slots_by_cpu
from vmcorefs.core.structures.version import names_uts, read_uts
from vmcorefs.errors import FaultError, FormatError, VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.debuginfo import find_vmlinux
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.kernel.symbols import Symbols
from vmcorefs.tree.file import TreeFile, text_file

log = logging.getLogger(__name__)

_BUILD_ID = re.compile("([0-9a-f]{2}){8,64}")
_NOTE_HEADER_SIZE = 12
_PANIC_CPU_NONE = 2**32 - 1  # PANIC_CPU_INVALID (include/linux/panic.h)


class KernelSymbols:
    """What is made of one kernel's symbols."""

    def __init__(self, kernel: Kernel, slots: tuple[NoteSlot, ...]) -> None:
        self._kernel = kernel
        self._slots = slots

    @property
    def kernel_offset(self) -> int:
        """How far KASLR moved the kernel, in bytes; 0 where VMCOREINFO has no sane value."""
        text = self._kernel.vmcoreinfo.values.get("KERNELOFFSET", "")
        return int(text, 16) if re.fullmatch("[0-9a-f]{1,16}", text) else 0

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
        """An ELF file with the kernel's symbols, its BTF, and what unwinding its stacks takes."""
        kernel, symbols = self._kernel, self.symbols
        build_id = kernel.vmcoreinfo.values.get("BUILD-ID", "")
        frames = None
        try:
            if kernel.machine == EM_X86_64:
                frames = read_debug_frame(symbols.kernel, kernel.image)
        except (FormatError, FaultError) as error:  # CONFIG_UNWINDER_FRAME_POINTER has no ORC
            log.warning("vmlinux: no unwind tables, gdb goes by prologues: %s", error)
        return make_vmlinux(
            symbols.kernel,
            machine=kernel.machine,
            byte_order=kernel.byte_order,
            btf=symbols.btf,
            build_id=bytes.fromhex(build_id) if _BUILD_ID.fullmatch(build_id) else None,
            debug_frame=frames,
        )

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
    yield text_file("gdbinit", lambda: _make_gdbinit(image, symbols, location, vmlinux))


def _make_gdbinit(
    image: MemoryImage, symbols: KernelSymbols, location: str, vmlinux: str | None
) -> bytes:
    if vmlinux is None:
        load = f'symbol-file "{os.path.join(location, "vmlinux")}"'
    else:
        load = f'symbol-file "{vmlinux}" -o {symbols.kernel_offset:#x}'
    lines = [
        f"# gdb -x {os.path.join(location, 'gdbinit')}",
        "set pagination off",
        load,
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
