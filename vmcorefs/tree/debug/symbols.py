"""``kallsyms``, ``vmlinux``, ``gdbinit``: names for addresses without a debug package; ``version``.

All are made when they are first asked for, from the symbols that the kernel keeps of itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cached_property, partial
from threading import RLock

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.structures.version import names_uts, read_uts
from vmcorefs.errors import ConfigError, VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.kernel.debug.debug_vmlinux import recover_vmlinux
from vmcorefs.kernel.debug.five_levels import FIVE_LEVELS
from vmcorefs.kernel.debug.installed import fetch_vmlinux, find_gdb_scripts, find_vmlinux
from vmcorefs.kernel.debug.isf import isf_name, recover_isf
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.once import once
from vmcorefs.kernel.symbols import Symbols
from vmcorefs.system.memory import available_memory
from vmcorefs.tree.debug.gdbinit import make_gdbinit
from vmcorefs.tree.file import TreeFile, text_file

log = logging.getLogger(__name__)


class KernelSymbols:
    """What is made of one kernel's symbols.

    Attributes:
        kernel: The kernel.
        lock: Held while its modules are looked up.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lock = RLock()
        self._available = available_memory()  # now: later, a daemon may open nothing

    @cached_property
    def symbols(self) -> Symbols:
        """The symbols; what is lacking is logged once.

        Raises:
            FormatError: if they cannot be decoded.
        """
        found = self.kernel.all_symbols
        for warning in found.warnings:
            log.warning("%s", warning)
        return found

    @once
    def modules(self) -> DebugModules:
        """Its modules, as debug files; the errors are those of ``symbols``."""
        return DebugModules(self.kernel, self.symbols, self._available)

    def format(self) -> bytes:
        """The text of /proc/kallsyms."""
        return self.symbols.format()

    def make_version(self) -> bytes:
        """The text of /proc/version, or what is known of it without symbols."""
        kernel = self.kernel
        if kernel.names_symbols:
            try:
                return kernel.banner
            except VmcorefsError as error:
                log.warning("version: who built the kernel is not in it: %s", error)
        return read_uts(kernel.vmcoreinfo, kernel.image)

    def make_vmlinux(self) -> bytes:
        """An ELF file with the kernel's symbols, types and unwind tables."""
        return recover_vmlinux(self.kernel, self.symbols, self._available)

    def make_isf(self) -> bytes:
        """volatility3's symbol file of the kernel."""
        return recover_isf(self.kernel, self.symbols, self.modules, self._available)


def find_symbol_file(image: MemoryImage) -> str | None:
    """The absolute path of the kernel's vmlinux: given, installed, or fetched if that was asked.

    That it cannot be fetched is logged.
    """
    given = image.config.vmlinux
    if given is not None:
        return os.path.abspath(given)
    if image.kernel is None:
        return None
    found = find_vmlinux(image.kernel.vmcoreinfo)
    if found is None and image.config.debuginfod:
        try:
            return fetch_vmlinux(image.kernel.vmcoreinfo)
        except ConfigError as error:
            log.warning("%s", error)
    return found


def symbol_files(image: MemoryImage, symbols: KernelSymbols, location: str) -> Iterator[TreeFile]:
    """The files, if VMCOREINFO says where the symbols are (Linux 6.0 and later).

    Without symbols there still is ``version``, if VMCOREINFO says where ``init_uts_ns`` is, and
    ``gdbinit``, if there is a vmlinux elsewhere.

    Args:
        image: The dead machine.
        symbols: Its kernel's.
        location: The directory that the tree is mounted at, for ``gdbinit``.
    """
    kernel = symbols.kernel
    if kernel.names_symbols or names_uts(kernel.vmcoreinfo):
        yield text_file("version", symbols.make_version)
    vmlinux = find_symbol_file(image)  # now: a daemon's directory is /
    if kernel.names_symbols:
        yield text_file("kallsyms", symbols.format)
        yield text_file("vmlinux", symbols.make_vmlinux)
        if kernel.machine == EM_X86_64:  # volatility3 knows no other page tables of Linux
            yield text_file(f"volatility3/linux/{isf_name(kernel)}", symbols.make_isf)
            if kernel.vmcoreinfo.values.get("NUMBER(pgtable_l5_enabled)", "0") != "0":
                yield text_file("volatility3/five_levels.py", lambda: FIVE_LEVELS)
    elif vmlinux is None:
        return
    scripts = find_gdb_scripts(kernel.vmcoreinfo)
    modules = (lambda: symbols.modules) if kernel.names_symbols else None
    make = partial(make_gdbinit, image, kernel, location, vmlinux, scripts, modules)
    yield text_file("gdbinit", make)
