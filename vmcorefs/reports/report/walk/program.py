"""drgn, fed with the dead machine's memory: no mount, and no debug package."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import drgn

from vmcorefs.core.elf.elf import EM_AARCH64, EM_X86_64
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import (
    FaultError,
    FormatError,
    SourceIOError,
    UnsupportedError,
    VmcorefsError,
)
from vmcorefs.kernel.debug.debug_vmlinux import recover_vmlinux
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.lru_cache import LruCache
from vmcorefs.reader import Reader
from vmcorefs.reports.report.walk.absent import ABSENT

_KEPT_PAGES: Final = 512
_ARCHITECTURES: Final = {
    EM_X86_64: drgn.Architecture.X86_64,
    EM_AARCH64: drgn.Architecture.AARCH64,
}


def open_program(kernel: Kernel, vmlinux: str | None = None) -> drgn.Program:
    """A program that reads the kernel's memory, with its types and symbols out of that memory.

    Args:
        kernel: The kernel.
        vmlinux: Its debug vmlinux, for one that has no types in memory.

    Raises:
        UnsupportedError: if drgn cannot read such a machine.
        FormatError: if the kernel's symbols cannot be decoded, or drgn cannot begin with what there
            is.
    """
    try:
        return _open(kernel, vmlinux)
    except ABSENT as error:
        if isinstance(error, VmcorefsError):
            raise
        raise FormatError(f"drgn: {error}") from error


def _open(kernel: Kernel, vmlinux: str | None) -> drgn.Program:
    architecture = _ARCHITECTURES.get(kernel.machine)
    if architecture is None:
        raise UnsupportedError(f"drgn does not read memory of machines of type {kernel.machine}")
    program = drgn.Program(drgn.Platform(architecture))
    table = kernel.memory.table
    size = int((table.start + table.size).max(initial=0))
    program.add_memory_segment(0, size, _reads_of(kernel.memory), physical=True)
    program.set_linux_kernel_custom(kernel.vmcoreinfo.text, is_live=False)
    # drgn takes what is not in the file out of memory: the bytes of the image need not be copied
    symbols = kernel.all_symbols
    if symbols.btf is None and vmlinux is not None:
        _load(program, vmlinux)
    else:
        _load_made(program, recover_vmlinux(kernel, symbols, with_contents=False))
    return program


def _load(program: drgn.Program, path: str) -> None:
    try:
        program.load_debug_info([path])
    except MemoryError as error:
        # it looks at memory too, and believes the sizes that torn memory has
        raise FormatError("drgn: more memory is asked for than there is") from error


def _load_made(program: drgn.Program, made: bytes) -> None:
    file = os.memfd_create("vmlinux")
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(made)
        _load(program, f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _reads_of(memory: Reader) -> Callable[[int, int, int, bool], bytes]:
    """Reads by physical address, whose errors are drgn's.

    drgn follows the page tables anew for each address: without keeping pages, most of what is read
    would be the same few tables.
    """
    pages: LruCache[int, bytes] = LruCache(_KEPT_PAGES)

    def read_page(number: int) -> bytes:
        return memory.pread(PAGE_SIZE, number * PAGE_SIZE)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:  # noqa: FBT001
        number, inside = divmod(offset, PAGE_SIZE)
        try:
            if inside + count <= PAGE_SIZE:
                with suppress(FaultError, SourceIOError):  # a part of it may be there
                    return pages.get(number, read_page)[inside : inside + count]
            return memory.pread(count, offset)
        except (FaultError, SourceIOError) as error:
            raise drgn.FaultError(str(error), address) from error

    return read
