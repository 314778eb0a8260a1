"""What a kernel's symbols lack, and what its configuration has to do with it."""

from __future__ import annotations

import numpy as np
import pytest

from vmcorefs.core.kallsyms import SymbolTable
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.discovery.symbols import _find_btf, _find_modules
from vmcorefs.errors import FormatError


def table(*names: str) -> SymbolTable:
    addresses = np.arange(len(names), dtype=np.uint64) + np.uint64(0xFFFF800008000000)
    return SymbolTable(addresses, "t" * len(names), names)


def nothing(vaddr: int, _size: int) -> bytes:
    raise FormatError(f"nothing at {vaddr:#x}")


@pytest.mark.parametrize(
    ("names", "no_btf", "no_modules"),
    [
        (("_stext",), "without CONFIG_KALLSYMS_ALL", "without CONFIG_KALLSYMS_ALL"),
        (("_stext", "init_task"), "without CONFIG_DEBUG_INFO_BTF", ""),
        (("_stext", "init_task", "modules"), "without CONFIG_DEBUG_INFO_BTF", "need the kernel's"),
    ],
)
def test_what_is_lacking_is_told_with_its_reason(
    names: tuple[str, ...], no_btf: str, no_modules: str
) -> None:
    memory = KernelMemory(nothing, "<", 8)
    btf, why_no_btf = _find_btf(table(*names), memory)
    modules, why_no_modules = _find_modules(table(*names), btf, memory)
    assert btf is None
    assert no_btf in why_no_btf
    assert modules == ()
    assert no_modules in why_no_modules
    assert bool(why_no_modules) == bool(no_modules)
