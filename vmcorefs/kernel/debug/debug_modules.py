"""Debug files of the dead kernel's modules, made from its memory, as ``vmlinux`` is."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from threading import RLock
from typing import Final

from vmcorefs.core.debuginfo.dwarf import Dwarf, make_dwarf
from vmcorefs.core.debuginfo.elf_file import PER_CPU, Contents, Section
from vmcorefs.core.debuginfo.isf import ModuleTypes
from vmcorefs.core.debuginfo.module import code_of, lay_out, make_module
from vmcorefs.core.debuginfo.orc import read_module_frame
from vmcorefs.core.debuginfo.reached import KernelTypes, keep_reached, prepare
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.module_parts import ModuleParts, ModuleReader, OrcTables
from vmcorefs.core.structures.types.btf import MAX_BTF
from vmcorefs.core.structures.types.btf_table import TypeTable, read_types
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.kernel.debug.debug_vmlinux import NEEDED, has_signed_chars, read_first_cpu
from vmcorefs.kernel.debug.places import find_places
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.once import once
from vmcorefs.kernel.symbols import Symbols

log = logging.getLogger(__name__)

MAX_FILES: Final = 1 << 29
"""Most bytes accepted, of all modules' files together: each is kept once it has been made."""

_MAX_SECTION: Final = 1 << 26  # amdgpu's .text has 8 MiB
_ZEROED: Final = re.compile(r"\.bss(\..*)?")
# it becomes the name of a file, and a part of gdb's command lines
_NAME: Final = re.compile(r"(?!\.)[\w.+-]+", re.ASCII)


class DebugModules:
    """The modules of one kernel; what is read for all of them is read once.

    Args:
        kernel: The kernel.
        symbols: Its symbols, and those of its modules.
        available: Bytes of memory that this machine has left, if that is known. With less than
            ``NEEDED`` the files have neither types nor bytes.

    Attributes:
        lock: Held while something is read for all of them.
    """

    def __init__(self, kernel: Kernel, symbols: Symbols, available: int | None = None) -> None:
        self._kernel = kernel
        self._btf = symbols.btf
        self._listed = symbols.modules
        self._is_short = available is not None and available < NEEDED
        self._left = MAX_FILES
        self._parts: dict[str, ModuleParts] = {}
        self.lock = RLock()

    @once
    def tables(self) -> dict[str, SymbolTable]:
        """The symbols of each module that a file can be named for, by its name."""
        found: dict[str, SymbolTable] = {}
        for table in self._listed:
            if not _NAME.fullmatch(table.module):
                log.warning("modules: no file for a module of the name %r", table.module)
            elif table.module in found:
                log.warning("modules: only the first of several modules named %s", table.module)
            else:
                found[table.module] = table
        return found

    def sections(self, name: str) -> list[tuple[str, int]]:
        """Name and address of each section that the file of a module has.

        Raises:
            FormatError: if memory contradicts itself.
            VmcorefsError: whatever reading it raises.
        """
        table = self.tables[name]
        return [(section.name, section.addr) for section in lay_out(self._read(table), table)]

    def make(self, name: str) -> bytes:
        """The debug file of a module: symbols, types, functions, bytes and unwind tables.

        What cannot be had is left out, and the log says why.

        Raises:
            FormatError: if memory contradicts itself.
            VmcorefsError: whatever reading it raises.
        """
        table = self.tables[name]
        parts = self._read(table)
        sections = lay_out(parts, table)
        contents = Contents(
            image={} if self._is_short else dict(self._read_contents(name, sections)),
            build_id=parts.build_id,
            debug_frame=self._read_frames(name, parts.orc),
            dwarf=None if self._is_short else self._describe(table, sections),
        )
        kernel = self._kernel
        made = make_module(
            table, sections, contents, machine=kernel.machine, byte_order=kernel.byte_order
        )
        with self.lock:
            self._left -= len(made)
            if self._left < 0:
                raise FormatError(f"modules: their files have more than {MAX_FILES} bytes")
        return made

    def iter_types(self) -> Iterator[ModuleTypes]:
        """The types of each module that has BTF; what cannot be had is left out and logged."""
        try:
            own, left = self._own_types, MAX_BTF
            _ = self._btf_of
        except VmcorefsError as error:
            log.warning("modules: no types: %s", error)
            return
        for name, table in self.tables.items():
            try:
                data = self._read_types(table, own)
                left -= len(data)
                if left < 0:
                    raise FormatError(f"those of all modules have more than {MAX_BTF} bytes")
                types = read_types(data, self._kernel.byte_order, own)
            except VmcorefsError as error:
                log.warning("modules: %s: no types: %s", name, error)
            else:
                yield ModuleTypes(name, types, len(own))

    def _read(self, table: SymbolTable) -> ModuleParts:
        with self.lock:
            parts = self._parts.get(table.module)
            if parts is None:
                parts = self._parts[table.module] = self._reader.read(table.module_at)
            return parts

    def _read_contents(self, name: str, sections: list[Section]) -> Iterator[tuple[str, bytes]]:
        """The bytes of sections; crash calls what is in one without bytes uninitialised data."""
        for section in sections:
            if _ZEROED.fullmatch(section.name):
                continue
            try:
                if section.size > _MAX_SECTION:
                    raise FormatError(f"{section.size} bytes are more than {_MAX_SECTION}")
                if section.name == PER_CPU:
                    yield section.name, read_first_cpu(self._kernel, section.addr, section.size)
                else:
                    yield section.name, self._kernel.virtual.read(section.addr, section.size)
            except VmcorefsError as error:
                log.warning("modules: %s: no bytes in %s: %s", name, section.name, error)

    def _read_frames(self, name: str, orc: OrcTables | None) -> bytes | None:
        if orc is None:
            return None
        try:
            return read_module_frame(self._kernel.virtual, orc.ips, orc.entries, orc.count)
        except VmcorefsError as error:
            log.warning("modules: %s: no unwind tables: %s", name, error)
            return None

    def _describe(self, table: SymbolTable, sections: list[Section]) -> Dwarf | None:
        name, kernel = table.module, self._kernel
        try:
            own = self._types
            data = self._read_types(table, own.types)
            types = keep_reached(own, read_types(data, kernel.byte_order, own.types))
        except VmcorefsError as error:
            log.warning("modules: %s: no types: %s", name, error)
            return None
        ends = [section.addr + section.size for section in sections]
        return make_dwarf(
            types,
            find_places(table, code_of(sections), ends=ends, unit=f"{name}.ko"),
            {},
            byte_order=kernel.byte_order,
            char_is_signed=has_signed_chars(kernel),
        )

    def _read_types(self, table: SymbolTable, own: TypeTable) -> bytes:
        at = self._btf_of.get(table.module_at)
        if at is None:
            raise FormatError("it has no BTF")
        # behind the kernel's names there is a NUL that is not its own
        return self._reader.read_btf(at, len(own), len(own.strings) - 1)

    @once
    def _reader(self) -> ModuleReader:
        if self._btf is None:
            raise FormatError("modules: they need the kernel's BTF")
        return ModuleReader(self._kernel.virtual, self._btf)

    @once
    def _btf_of(self) -> dict[int, int]:
        return self._reader.find_btf(self._kernel.symbols)

    @once
    def _own_types(self) -> TypeTable:
        if self._btf is None:
            raise FormatError("no BTF")
        return read_types(self._btf, self._kernel.byte_order)

    @once
    def _types(self) -> KernelTypes:
        return prepare(self._own_types)
