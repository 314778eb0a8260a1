"""What a kernel's symbols lack, and what its configuration has to do with it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders.btf import Writer
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError
from vmcorefs.kernel.symbols import _find_modules, find_btf


def table(*names: str) -> SymbolTable:
    addresses = np.arange(len(names), dtype=np.uint64) + np.uint64(0xFFFF800008000000)
    return SymbolTable(addresses, "t" * len(names), names)


def nothing(vaddr: int, _size: int) -> bytes:
    raise FormatError(f"nothing at {vaddr:#x}")


@pytest.mark.parametrize(
    ("names", "no_btf", "no_modules"),
    [
        (("_stext", "_etext"), "without CONFIG_DEBUG_INFO_BTF", "without CONFIG_KALLSYMS_ALL"),
        (("_stext", "init_task"), "without CONFIG_DEBUG_INFO_BTF", ""),
        (("_stext", "init_task", "modules"), "without CONFIG_DEBUG_INFO_BTF", "need the kernel's"),
    ],
)
def test_what_is_lacking_is_told_with_its_reason(
    names: tuple[str, ...], no_btf: str, no_modules: str
) -> None:
    memory = KernelMemory(nothing, "<", 8)
    found, why_no_btf = find_btf(table(*names), memory)
    modules, why_no_modules = _find_modules(table(*names), found, memory)
    assert found is None
    assert no_btf in why_no_btf
    assert modules == ()
    assert no_modules in why_no_modules
    assert bool(why_no_modules) == bool(no_modules)


_ETEXT = 0xFFFF800008000001  # the second symbol of ``table``


def constants(data: bytes) -> KernelMemory:
    def read(vaddr: int, size: int) -> bytes:
        at = vaddr - _ETEXT
        if not 0 <= at <= at + size <= len(data):
            return nothing(vaddr, size)
        return data[at : at + size]

    return KernelMemory(read, "<", 8)


def btf(*structs: str) -> bytes:
    writer = Writer()
    for name in structs:
        writer.add_struct(name, 16, [("next", 1, 0)])
    return writer.finish()


def test_btf_that_no_symbol_names_is_found_behind_the_code() -> None:
    wanted = btf("module", "list_head")
    torn, of_a_module = wanted[:30], btf("virtio_blk")
    # the last page that is there is not a whole chunk's end
    data = bytes(3 << 20) + torn + of_a_module + b"odd" + wanted
    data = data.ljust((3 << 20) + 4096, b"\xff")
    assert find_btf(table("_stext", "_etext"), constants(data)) == (wanted, "")


def test_a_thing_that_looks_like_btf_is_none() -> None:
    data = (btf("virtio_blk") + bytes(64)).ljust(4096, b"\0")
    found, why_not = find_btf(table("_stext", "_etext"), constants(data))
    assert found is None
    assert "no BTF" in why_not


def test_not_every_likeness_is_followed() -> None:
    likeness = btf("virtio_blk")
    data = (likeness * 4 + btf("list_head")).ljust(4096, b"\0")
    assert find_btf(table("_stext", "_etext"), constants(data))[0] is None
