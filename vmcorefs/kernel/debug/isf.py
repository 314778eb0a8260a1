"""volatility3's symbol file of the dead kernel, made from its memory."""

from __future__ import annotations

import logging
import re

from vmcorefs.core.debuginfo.isf import SymbolFile
from vmcorefs.core.debuginfo.vmlinux import at_link_addresses
from vmcorefs.core.structures.kallsyms import find_tables
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.kernel.debug.debug_vmlinux import (
    NEEDED,
    has_signed_chars,
    kernel_offset,
    read_declared,
)
from vmcorefs.kernel.debug.installed import build_id_of
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.symbols import Symbols

log = logging.getLogger(__name__)

_RELEASE = re.compile(r"[\w.+~-]{1,100}", re.ASCII)


def isf_name(kernel: Kernel) -> str:
    """What the file is called: volatility3 remembers for days which kernel a path was of."""
    release, build_id = kernel.vmcoreinfo.release or "", build_id_of(kernel.vmcoreinfo)
    names = [release] if _RELEASE.fullmatch(release) else []
    names += [build_id] if build_id is not None else []
    return "-".join(names or ["linux"]) + ".json"


def recover_isf(
    kernel: Kernel, symbols: Symbols, modules: DebugModules, available: int | None = None
) -> bytes:
    """The symbol file: types, symbols, the types of well-known variables, the banner.

    Args:
        kernel: The kernel, of x86-64.
        symbols: Its symbols.
        modules: Its modules, whose types are in the file too.
        available: Bytes of memory that this machine has left, if that is known.

    Raises:
        FormatError: if its BTF cannot be described.
        UnsupportedError: without BTF, or with less memory than ``NEEDED``.
        VmcorefsError: if its banner cannot be read.
    """
    if available is not None and available < NEEDED:
        raise UnsupportedError("this machine has too little memory left to describe the types")
    if symbols.btf is None:
        raise UnsupportedError("without the kernel's BTF nothing is known of its types")
    banner = kernel.banner
    own = symbols.kernel.with_others(find_tables(kernel.vmcoreinfo, kernel.image))
    linked = at_link_addresses(own, kernel_offset(kernel))
    types, declared = read_declared(kernel, linked, symbols.btf)
    made = SymbolFile(types, char_is_signed=has_signed_chars(kernel))
    for module in modules.iter_types():
        try:
            made.add_module(module)
        except FormatError as error:
            log.warning("volatility3: %s: no types: %s", module.module, error)
    return made.finish(linked, declared, banner)
