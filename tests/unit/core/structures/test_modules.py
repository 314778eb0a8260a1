"""Symbols of modules, against modules laid out by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from tests.builders.modules import (
    BASE,
    EXT4,
    HEAD,
    KALLSYMS,
    LIST,
    NAME,
    NUM_SYMS,
    SYMS,
    Machine,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.modules import _Budget, _read_names, iter_modules
from vmcorefs.errors import FormatError


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_two_modules(byte_order: ByteOrder, relative: bool) -> None:
    machine = Machine(byte_order, relative=relative)
    machine.add("ext4", EXT4, {"ext4_exported": BASE + 0x8040})
    machine.add("jbd2", [(BASE + 0xA000, "t", "jbd2_start")], {})

    assert machine.text() == (
        "ffffffffc0008000 t ext4_read\t[ext4]\n"
        "ffffffffc0008040 T ext4_exported\t[ext4]\n"
        "ffffffffc0008040 t ext4_alias\t[ext4]\n"
        "ffffffffc0009000 d ext4_data\t[ext4]\n"
        "ffffffffc000a000 t jbd2_start\t[jbd2]\n"
    )


def test_no_modules() -> None:
    assert Machine().text() == ""


def test_a_module_that_is_not_formed_yet_is_left_out() -> None:
    machine = Machine()
    machine.add("early", EXT4, {}, state=3)

    assert machine.text() == ""


def test_a_list_that_does_not_end() -> None:
    machine = Machine()
    at = machine.add("ext4", EXT4, {})
    machine.put(at + LIST, "Q", BASE + at + LIST)

    with pytest.raises(FormatError, match="the list of modules does not end"):
        machine.text()


def test_what_came_before_an_error_is_given() -> None:
    machine = Machine()
    machine.add("ext4", EXT4, {})
    machine.put(machine.last, "Q", 0x10)
    kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
    tables = iter_modules(KernelMemory(machine.read, "<", 8), kernel, machine.btf())

    assert next(tables).module == "ext4"
    with pytest.raises(FormatError, match="nothing at 0x8"):
        next(tables)


def change(field: int, layout: str, value: int) -> Callable[[Machine, int], None]:
    return lambda machine, at: machine.put(at + field, layout, value)


def change_table(field: int, layout: str, value: int) -> Callable[[Machine, int], None]:
    def apply(machine: Machine, at: int) -> None:
        (pointer,) = struct.unpack_from("<Q", machine.image, at + KALLSYMS)
        machine.put(pointer - BASE + field, layout, value)

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change(KALLSYMS, "Q", 0), "nothing at"),
        (change_table(8, "I", 0xFFFFFFFF), "module ext4: 4294967295 symbols"),
        (change_table(24, "Q", BASE), "bytes of names"),
        (change_table(24, "Q", (1 << 64) - 1), "bytes of names"),
        (change(NUM_SYMS, "I", 0x7FFFFFFF), "module ext4: 2147483653 symbols"),
        (change(NAME, "I", 0x0A414141), "name or symbol is b'AAA"),
    ],
)
def test_memory_is_checked(apply: Callable[[Machine, int], None], message: str) -> None:
    machine = Machine()
    apply(machine, machine.add("ext4", EXT4, {}))

    with pytest.raises(FormatError, match=message):
        machine.text()


def test_no_list_of_modules() -> None:
    kernel = SymbolTable(np.zeros(1, dtype=np.uint64), "T", ("_stext",))
    machine = Machine()

    with pytest.raises(FormatError, match="no modules"):
        list(iter_modules(KernelMemory(machine.read, "<", 8), kernel, machine.btf()))


def test_a_name_is_cut_as_in_proc_kallsyms() -> None:
    machine = Machine()
    machine.add("ext4", [(BASE + 0x8000, "t", "x" * 600)], {"x" * 600: BASE + 0x8000})

    assert machine.text() == f"ffffffffc0008000 T {'x' * 511}\t[ext4]\n"


def test_an_assemblers_local_labels_are_names() -> None:
    """Debian's 6.12 for arm64 and riscv64 has such: /proc/kallsyms shows them as they are."""
    machine = Machine()
    names = ".L14472\x021", ".L0 "
    machine.add("virtio_blk", [(BASE + 0x8000, "t", name) for name in names], {})

    assert machine.text() == "".join(f"ffffffffc0008000 t {name}\t[virtio_blk]\n" for name in names)


def test_an_exported_name_right_before_memory_that_is_not_mapped() -> None:
    machine = Machine()
    at = machine.add("ext4", EXT4, {"ext4_exported": BASE + 0x8040})
    name = b"ext4_exported\0"
    machine.image[-len(name) :] = name
    (table,) = struct.unpack_from("<Q", machine.image, at + SYMS)
    place = table - BASE + 4
    machine.put(place, "i", len(machine.image) - len(name) - place)

    assert "T ext4_exported\t" in machine.text()


def test_symbols_that_all_have_one_long_name() -> None:
    budget = _Budget(names=1000)
    with pytest.raises(FormatError, match="too many"):
        list(_read_names(b"x" * 600, range(100), budget))


def test_names_of_exports_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile table may export one symbol a million times, each of which is to be looked at."""
    machine = Machine(relative=False)
    machine.add("ext4", EXT4, {f"other{number}": BASE + 0x8040 for number in range(8)})
    monkeypatch.setattr("vmcorefs.core.structures.modules._Budget", lambda: _Budget(names=4096))
    kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
    memory = KernelMemory(machine.read, "<", 8)
    with pytest.raises(FormatError, match="module ext4: 0 symbols, 512 bytes of names: too many"):
        list(iter_modules(memory, kernel, machine.btf()))


@pytest.mark.parametrize("size", [0, 65, 0xFFFFFFFF])
def test_exports_of_an_absurd_size_are_not_read(size: int) -> None:
    machine = Machine()
    machine.add("ext4", EXT4, {"ext4_exported": BASE + 0x8040})
    btf = machine.btf().replace(
        struct.pack("<II", 4 << 24 | 3, 12), struct.pack("<II", 4 << 24 | 3, size)
    )
    kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
    with pytest.raises(FormatError, match=f"^BTF: struct kernel_symbol has {size} bytes$"):
        list(iter_modules(KernelMemory(machine.read, "<", 8), kernel, btf))
