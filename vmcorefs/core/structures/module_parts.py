"""What a loaded module is made of: its memory, its sections in it, its build id, its tables.

The kernel keeps the names and addresses of a module's sections for /sys/module/NAME/sections, and
its notes for /sys/module/NAME/notes (kernel/module/sysfs.c, ``add_sect_attrs``,
``add_notes_attrs``). The layout of all structures comes from BTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.modules import iter_list
from vmcorefs.core.structures.types.btf import MAX_BTF, Struct, find_structs, read_enumerators
from vmcorefs.errors import FormatError, VmcorefsError

MAX_SECTIONS: Final = 1 << 18
"""Most sections accepted, of all modules together: one module has about 30."""

_MAX_REGION: Final = 1 << 28
_MAX_NOTE: Final = 1 << 12
_MAX_NAME: Final = 128
# what no debugger's command line takes for something else
_SECTION_NAME: Final = re.compile(r"[\w.$+-]+", re.ASCII)
_BUILD_ID_NOTE: Final = ".note.gnu.build-id"
_STRUCTS: Final = (
    *("list_head", "module", "module_layout", "module_memory", "mod_arch_specific"),
    *("module_sect_attrs", "module_sect_attr", "module_notes_attrs"),
    *("attribute", "attribute_group", "bin_attribute", "btf_module", "btf"),
)
# enum mod_mem_type: what is code, and what is not written to
_CODE: Final = ("MOD_TEXT", "MOD_INIT_TEXT")
_CONSTANT: Final = ("MOD_RODATA", "MOD_INIT_RODATA")
_REGIONS: Final = "MOD_MEM_NUM_TYPES"
_MAX_REGIONS: Final = 64


class Region(msgspec.Struct, frozen=True):
    """Memory of a module, ``[start, start + size)``, and whether it is code, and whether data."""

    start: int
    size: int
    is_code: bool
    is_written: bool


class OrcTables(msgspec.Struct, frozen=True):
    """Where a module's unwind tables are: addresses, entries, and how many of each."""

    ips: int
    entries: int
    count: int


class ModuleParts(msgspec.Struct, frozen=True):
    """What is known of a module besides its symbols.

    Attributes:
        regions: Its memory, as far as it has not been freed.
        sections: Name and address of each section that it was loaded with.
        per_cpu: Where its per-CPU variables are in each CPU's area, and their size in bytes.
        build_id: Its GNU build id, or None.
        orc: Its unwind tables, or None.
    """

    regions: tuple[Region, ...]
    sections: tuple[tuple[str, int], ...]
    per_cpu: tuple[int, int] = (0, 0)
    build_id: bytes | None = None
    orc: OrcTables | None = None


class ModuleReader:
    """Reads what modules are made of.

    Args:
        memory: The kernel's virtual memory, translated by its page tables.
        btf: Its BTF.

    Raises:
        FormatError: if the BTF is damaged.
    """

    def __init__(self, memory: KernelMemory, btf: bytes) -> None:
        self._memory = memory
        self._structs = find_structs(btf, memory.byte_order, _STRUCTS)
        names = (*_CODE, *_CONSTANT, _REGIONS)
        self._region_types = read_enumerators(btf, memory.byte_order, names)
        self._sections_left = MAX_SECTIONS

    def read(self, at: int) -> ModuleParts:
        """Read the parts of the module whose ``struct module`` is at ``at``.

        Raises:
            FormatError: if BTF lacks a member, or memory contradicts itself.
            VmcorefsError: whatever ``memory.read`` raises.
        """
        return ModuleParts(
            tuple(region for region in self._iter_regions(at) if region.size),
            tuple(self._iter_sections(at)),
            self._per_cpu(at),
            self._build_id(at),
            self._orc(at),
        )

    def find_btf(self, kernel: SymbolTable) -> dict[int, int]:
        """Where the ``struct btf`` of each module is, by the address of its ``struct module``.

        The list ``btf_modules`` of kernel/bpf/btf.c has them: what a module itself says of its BTF
        is no longer true once it is loaded.

        Raises:
            FormatError: if there is no such list (no CONFIG_DEBUG_INFO_BTF_MODULES), or no end of
                it.
            VmcorefsError: whatever ``memory.read`` raises.
        """
        node = self._struct("btf_module")
        found = {}
        head = kernel.require("btf_modules")
        for position in iter_list(self._memory, head, self._struct("list_head")):
            at = position - node.offset("list")
            owner = self._memory.pointer(at + node.offset("module"))
            found[owner] = self._memory.pointer(at + node.offset("btf"))
        return found

    def read_btf(self, at: int, types: int, names: int) -> bytes:
        """Read the BTF of the ``struct btf`` at ``at``.

        Args:
            at: Where that is.
            types: How many types the kernel's own BTF has, void included.
            names: How many bytes of names that has.

        Raises:
            FormatError: if it does not go on where the kernel's ends, or is too long.
            VmcorefsError: whatever ``memory.read`` raises.
        """
        btf = self._struct("btf")
        fields = ("data_size", "start_id", "start_str_off")
        size, *starts = (self._memory.integer(at + btf.offset(field), 4) for field in fields)
        if starts != [types, names]:
            raise FormatError(
                f"BTF: it goes on from type {starts[0]} and name {starts[1]:#x}, but the kernel's"
                f" has {types} types, and {names:#x} bytes of names"
            )
        if size > MAX_BTF:
            raise FormatError(f"BTF: {size} bytes, expected at most {MAX_BTF}")
        return self._memory.read(self._memory.pointer(at + btf.offset("data")), size)

    def _struct(self, name: str) -> Struct:
        found = self._structs.get(name)
        if found is None:
            raise FormatError(f"BTF: no struct {name}")
        return found

    def _iter_regions(self, at: int) -> Iterator[Region]:
        module = self._struct("module")
        if "mem" not in module.offsets:  # before ac3b43283923 of 6.4
            yield from self._iter_layouts(at)
            return
        types, memory = self._region_types, self._struct("module_memory")
        for kind in range(min(types.get(_REGIONS, 0), _MAX_REGIONS)):
            place = at + module.offset("mem") + kind * memory.size
            is_code = kind in [types.get(name) for name in _CODE]
            is_constant = kind in [types.get(name) for name in _CONSTANT]
            yield self._region(
                self._memory.pointer(place + memory.offset("base")),
                self._memory.integer(place + memory.offset("size"), 4),
                is_code=is_code,
                is_written=not is_code and not is_constant,
            )

    def _iter_layouts(self, at: int) -> Iterator[Region]:
        """Code, constants and data, one behind the other (``struct module_layout``)."""
        module, layout = self._struct("module"), self._struct("module_layout")
        for member in ("core_layout", "init_layout"):
            place = at + module.offset(member)
            base = self._memory.pointer(place + layout.offset("base"))
            code, constant, size = (
                self._memory.integer(place + layout.offset(field), 4)
                for field in ("text_size", "ro_size", "size")
            )
            if not code <= constant <= size:
                raise FormatError(f"module: of {size} bytes {constant} are constant, {code} code")
            yield self._region(base, code, is_code=True, is_written=False)
            yield self._region(base + code, constant - code, is_code=False, is_written=False)
            yield self._region(base + constant, size - constant, is_code=False, is_written=True)

    def _region(self, start: int, size: int, *, is_code: bool, is_written: bool) -> Region:
        if size > _MAX_REGION or start + size >= 1 << 64:
            raise FormatError(f"module: {size} bytes of memory at {start:#x}")
        return Region(start, size, is_code, is_written)

    def _iter_sections(self, at: int) -> Iterator[tuple[str, int]]:
        attrs = self._struct("module_sect_attrs")
        held = self._memory.pointer(at + self._struct("module").offset("sect_attrs"))
        if not held:
            raise FormatError("module: it has no sections yet")
        if "nsections" in attrs.offsets:
            entry = self._struct("module_sect_attr")
            attribute, address = entry.offset("battr"), entry.offset("address")
        else:  # since 4b2c11e4aaf7 of 6.14
            entry = self._struct("bin_attribute")
            attribute, address = 0, entry.offset("private")
        for place in self._iter_entries(held, attrs, "nsections", entry):
            name = self._attribute_name(place + attribute)
            if _SECTION_NAME.fullmatch(name):
                yield name, self._memory.pointer(place + address)

    def _iter_entries(self, held: int, attrs: Struct, count: str, entry: Struct) -> Iterator[int]:
        """Where each entry of a table of attributes is.

        Args:
            held: Where the structure is that holds them.
            attrs: Its layout.
            count: The member that says how many; without it a table of pointers ends with NULL.
            entry: An entry's layout.
        """
        counted = count in attrs.offsets
        if counted:
            number = self._memory.integer(held + attrs.offset(count), 4)
            self._take(number)
            first = held + attrs.offset("attrs")
            yield from range(first, first + number * entry.size, entry.size or 1)
            return
        group = held + attrs.offset("grp")
        place = self._memory.pointer(group + self._struct("attribute_group").offset("bin_attrs"))
        while place and (found := self._memory.pointer(place)):
            self._take(1)
            yield found
            place += self._memory.word_size

    def _take(self, count: int) -> None:
        self._sections_left -= count
        if self._sections_left < 0:
            raise FormatError(f"modules: more than {MAX_SECTIONS} sections")

    def _attribute_name(self, bin_attribute: int) -> str:
        at = bin_attribute + self._struct("bin_attribute").offset("attr")
        name = self._memory.pointer(at + self._struct("attribute").offset("name"))
        return self._memory.string(name, _MAX_NAME).decode("latin-1")

    def _build_id(self, at: int) -> bytes | None:
        with suppress(VmcorefsError):  # the rest is of use without it
            attrs, entry = self._struct("module_notes_attrs"), self._struct("bin_attribute")
            held = self._memory.pointer(at + self._struct("module").offset("notes_attrs"))
            for place in self._iter_entries(held, attrs, "notes", entry) if held else ():
                if self._attribute_name(place) == _BUILD_ID_NOTE:
                    return self._read_build_id(place)
        return None

    def _read_build_id(self, place: int) -> bytes | None:
        entry = self._struct("bin_attribute")
        size = self._memory.pointer(place + entry.offset("size"))
        start = self._memory.pointer(place + entry.offset("private"))
        notes = walk_notes(self._memory.read(start, min(size, _MAX_NOTE)), self._memory.byte_order)
        return next((note.desc for note in notes.notes if note.is_build_id), None)

    def _per_cpu(self, at: int) -> tuple[int, int]:
        module = self._struct("module")
        if "percpu" not in module.offsets:  # no CONFIG_SMP
            return 0, 0
        size = self._memory.integer(at + module.offset("percpu_size"), 4)
        start = self._memory.pointer(at + module.offset("percpu"))
        region = self._region(start, size, is_code=False, is_written=True)
        return (region.start, region.size) if start else (0, 0)

    def _orc(self, at: int) -> OrcTables | None:
        arch = self._structs.get("mod_arch_specific")
        if arch is None or "orc_unwind_ip" not in arch.offsets:
            return None
        place = at + self._struct("module").offset("arch")
        count = self._memory.integer(place + arch.offset("num_orcs"), 4)
        ips, entries = (
            self._memory.pointer(place + arch.offset(field))
            for field in ("orc_unwind_ip", "orc_unwind")
        )
        return OrcTables(ips, entries, count) if count else None
