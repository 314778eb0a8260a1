"""Finding the kernel's symbols, its BTF and its modules in its memory."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.core.btf import MAX_BTF, check_btf
from vmcorefs.core.kallsyms import SymbolTable, read_symbols
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.modules import iter_modules
from vmcorefs.core.vmcoreinfo import Vmcoreinfo
from vmcorefs.errors import FormatError, VmcorefsError


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """What the crashed kernel knows of itself.

    Attributes:
        kernel: Its own symbols.
        modules: Those of each module, in the order of /proc/kallsyms.
        btf: Its BTF, or None if it has none or that cannot be read.
        warnings: What is missing and why, a line each.
    """

    kernel: SymbolTable
    modules: tuple[SymbolTable, ...]
    btf: bytes | None
    warnings: tuple[str, ...]

    def format(self) -> bytes:
        """The text of /proc/kallsyms, but for what BPF, ftrace and kprobes add at run time."""
        return b"".join(table.format() for table in (self.kernel, *self.modules))


def find_symbols(
    vmcoreinfo: Vmcoreinfo | None, image: KernelMemory, mapped: KernelMemory | None
) -> tuple[Symbols | None, str]:
    """Decode the kernel's symbols.

    Args:
        vmcoreinfo: Where they are.
        image: Reads the kernel's image; the elfcorehdr's PT_LOADs are enough.
        mapped: Reads through its page tables, or None where they cannot be walked: modules are in
            vmalloc space.

    Returns:
        The symbols, or None and the reason why there are none.
    """
    if vmcoreinfo is None:
        return None, ""
    try:
        kernel = read_symbols(vmcoreinfo, image)
    except VmcorefsError as error:
        return None, f"no kallsyms: {error}"
    btf, no_btf = _find_btf(kernel, image)
    modules, no_modules = _find_modules(kernel, btf, mapped)
    warnings = tuple(warning for warning in (no_btf, no_modules) if warning)
    return Symbols(kernel, modules, btf, warnings), ""


def _find_btf(kernel: SymbolTable, image: KernelMemory) -> tuple[bytes | None, str]:
    start, end = kernel.lookup("__start_BTF"), kernel.lookup("__stop_BTF")
    if start is None or end is None:
        without = "CONFIG_DEBUG_INFO_BTF" if _has_variables(kernel) else "CONFIG_KALLSYMS_ALL"
        return None, f"no BTF: the kernel was built without {without}"
    try:
        if not 0 < end - start <= MAX_BTF:
            raise FormatError(f"{end - start} bytes between __start_BTF and __stop_BTF")
        return check_btf(image.read(start, end - start), image.byte_order), ""
    except VmcorefsError as error:
        return None, f"no BTF: {error}"


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
        return tuple(found), f"kallsyms: {len(found)} modules, then: {error}"
    return tuple(found), ""


def _has_variables(kernel: SymbolTable) -> bool:
    """Whether the symbols are more than functions: Debian's 6.1 for arm64 has no others."""
    return kernel.lookup("init_task") is not None
