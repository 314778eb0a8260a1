"""Finding the kernel's symbols, its BTF and its modules in its memory."""

from __future__ import annotations

import msgspec

from vmcorefs.core.space.units import PAGE_SIZE, counted
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.modules import iter_modules
from vmcorefs.core.structures.types.btf import MAX_BTF, btf_start, check_btf, read_structs
from vmcorefs.errors import FormatError, VmcorefsError

_MAX_CONSTANTS = 1 << 26
_MAX_CANDIDATES = 4
_CHUNK = 1 << 20


class Symbols(msgspec.Struct, frozen=True, eq=False):
    """The symbols and types of the crashed kernel.

    Attributes:
        kernel: Its own symbols.
        modules: Those of each module, in the order of /proc/kallsyms.
        btf: Its BTF, or None if there is none or it cannot be read.
        warnings: What is missing and why, a line each.
    """

    kernel: SymbolTable
    modules: tuple[SymbolTable, ...]
    btf: bytes | None
    warnings: tuple[str, ...]

    def format(self) -> bytes:
        """The text of /proc/kallsyms, except for what BPF, ftrace and kprobes add at run time."""
        return b"".join(table.format() for table in (self.kernel, *self.modules))


def find_symbols(
    kernel: SymbolTable, types: tuple[bytes | None, str], mapped: KernelMemory | None
) -> Symbols:
    """Find the symbols of the kernel's modules, and put everything together.

    Args:
        kernel: The kernel's own symbols.
        types: What ``find_btf`` returned.
        mapped: Reads through its page tables, or None if they cannot be walked: modules are in
            vmalloc space.
    """
    btf, no_btf = types
    modules, no_modules = _find_modules(kernel, btf, mapped)
    warnings = tuple(warning for warning in (no_btf, no_modules) if warning)
    return Symbols(kernel, modules, btf, warnings)


def find_btf(kernel: SymbolTable, image: KernelMemory) -> tuple[bytes | None, str]:
    """Read the kernel's BTF: where its symbols say, or by a scan if they include no variables.

    Args:
        kernel: The kernel's own symbols.
        image: Reads the kernel's image.

    Returns:
        BTF, or None and the reason why there is none.
    """
    start, end = kernel.lookup("__start_BTF"), kernel.lookup("__stop_BTF")
    if start is None or end is None:
        found = None if _has_variables(kernel) else _scan_for_btf(kernel, image)
        return found, "" if found else "no BTF: the kernel was built without CONFIG_DEBUG_INFO_BTF"
    try:
        if not 0 < end - start <= MAX_BTF:
            raise FormatError(f"{end - start} bytes between __start_BTF and __stop_BTF")
        return check_btf(image.read(start, end - start), image.byte_order), ""
    except VmcorefsError as error:
        return None, f"no BTF: {error}"


def _scan_for_btf(kernel: SymbolTable, image: KernelMemory) -> bytes | None:
    """Search the kernel's constants for BTF, as no symbol says where it is.

    They follow its code (include/asm-generic/vmlinux.lds.h, RO_DATA).
    """
    start = kernel.lookup("_etext")
    if start is None:
        return None
    constants = _read_on(image, start, _MAX_CONSTANTS)
    at = -1
    for _ in range(_MAX_CANDIDATES):
        at = constants.find(btf_start(image.byte_order), at + 1)
        if at < 0:
            break
        try:
            found = check_btf(constants[at : at + MAX_BTF], image.byte_order)
            read_structs(found, image.byte_order, ["list_head"])  # the BTF of a module lacks it
        except FormatError:
            continue
        return found
    return None


def _read_on(image: KernelMemory, start: int, limit: int) -> bytes:
    """The bytes from ``start`` to where memory ends, or about ``limit`` bytes."""
    parts, done, size = [], 0, _CHUNK
    while done < limit and size >= PAGE_SIZE:
        try:
            parts.append(image.read(start + done, size))
            done += size
        except VmcorefsError:
            size //= 2
    return b"".join(parts)


def _find_modules(
    kernel: SymbolTable, btf: bytes | None, mapped: KernelMemory | None
) -> tuple[tuple[SymbolTable, ...], str]:
    if kernel.lookup("modules") is None:
        if _has_variables(kernel):  # no CONFIG_MODULES
            return (), ""
        return (), "kallsyms: no module symbols: the kernel was built without CONFIG_KALLSYMS_ALL"
    if btf is None or mapped is None:
        lacking = "BTF" if btf is None else "page tables"
        return (), f"kallsyms: no module symbols: they need the kernel's {lacking}"
    found: list[SymbolTable] = []
    try:
        found.extend(iter_modules(mapped, kernel, btf))  # keeps what came before an error
    except VmcorefsError as error:
        return tuple(found), f"kallsyms: {counted(len(found), 'module')}, then: {error}"
    return tuple(found), ""


def _has_variables(kernel: SymbolTable) -> bool:
    """Whether the symbols include more than functions: Debian's 6.1 for arm64 has no others."""
    return kernel.lookup("init_task") is not None
