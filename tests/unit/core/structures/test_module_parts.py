"""What modules are made of, against modules laid out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.builders.module_parts import (
    ARCH,
    BTF_MODULES,
    BUILD_ID,
    CODE,
    CONSTANTS,
    DATA,
    LAYOUT,
    NOTES_ATTRS,
    PERCPU,
    PERCPU_SIZE,
    SECT_ATTRS,
    SECTIONS,
    SYMBOLS,
    PartsMachine,
)
from tests.builders.modules import BASE
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.module_parts import (
    MAX_SECTIONS,
    ModuleParts,
    ModuleReader,
    OrcTables,
    Region,
)
from vmcorefs.errors import FormatError

KERNEL = SymbolTable(np.array([BTF_MODULES], dtype=np.uint64), "d", ("btf_modules",))


def machine(*, newer: bool = False) -> tuple[PartsMachine, int]:
    made = PartsMachine(newer=newer)
    at = made.add("ext4", SYMBOLS, {})
    made.dress(at)
    return made, at


def reader(made: PartsMachine) -> ModuleReader:
    return ModuleReader(KernelMemory(made.read, "<", 8), made.btf())


def read(made: PartsMachine, at: int) -> ModuleParts:
    return reader(made).read(BASE + at)


@pytest.mark.parametrize("newer", [False, True])
def test_sections_and_build_id(*, newer: bool) -> None:
    parts = read(*machine(newer=newer))

    assert parts.sections == tuple(SECTIONS)
    assert parts.build_id == BUILD_ID
    assert parts.per_cpu == (0, 0)


def test_memory_is_code_constants_and_data_one_behind_the_other() -> None:
    assert read(*machine()).regions == (
        Region(CODE, 0x100, is_code=True, is_written=False),
        Region(CODE + 0x100, 0x1000, is_code=False, is_written=False),
        Region(CONSTANTS + 0x100, 0x1000, is_code=False, is_written=True),
    )


def test_memory_of_each_kind() -> None:
    assert read(*machine(newer=True)).regions == (
        Region(CODE, 0x100, is_code=True, is_written=False),
        Region(DATA, 0x100, is_code=False, is_written=True),
        Region(CONSTANTS, 0x100, is_code=False, is_written=False),
    )


def test_per_cpu_variables_and_unwind_tables() -> None:
    made, at = machine()
    made.put(at + PERCPU, "QI", 0x34000, 0x40)
    made.put(at + ARCH, "QQQ", 12, BASE + 0x500, BASE + 0x600)

    parts = read(made, at)

    assert parts.per_cpu == (0x34000, 0x40)
    assert parts.orc == OrcTables(BASE + 0x500, BASE + 0x600, 12)


def test_a_name_that_is_no_sections_is_left_out() -> None:
    made = PartsMachine()
    at = made.add("ext4", SYMBOLS, {})
    made.dress(at, [(".text", CODE), (".data\nshell id", DATA), (".data -s .text", DATA), ("", 1)])

    assert read(made, at).sections == ((".text", CODE),)


def test_a_module_without_a_build_id() -> None:
    made, at = machine()
    made.put(at + NOTES_ATTRS, "Q", 0)

    assert read(made, at).build_id is None
    made.put(at + NOTES_ATTRS, "Q", 0x1234)  # nothing there
    assert read(made, at).build_id is None


def change(field: int, layout: str, value: int) -> Callable[[PartsMachine, int], None]:
    return lambda made, at: made.put(at + field, layout, value)


def claim(made: PartsMachine, at: int) -> None:
    made.put(int.from_bytes(made.image[at + SECT_ATTRS :][:8], "little") - BASE + 40, "I", 1 << 31)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change(SECT_ATTRS, "Q", 0), "module: it has no sections yet"),
        (change(SECT_ATTRS, "Q", 8), "nothing at 0x30"),
        (claim, f"modules: more than {MAX_SECTIONS} sections"),
        (change(LAYOUT + 12, "I", 1 << 31), "constant, 2147483648 code"),
        (change(LAYOUT + 8, "I", 1 << 31), "bytes of memory at"),
        (change(PERCPU_SIZE, "I", 1 << 31), "module: 2147483648 bytes of memory at 0x0"),
    ],
)
def test_memory_is_checked(apply: Callable[[PartsMachine, int], None], message: str) -> None:
    made, at = machine()
    apply(made, at)

    with pytest.raises(FormatError, match=message):
        read(made, at)


def test_a_table_of_attributes_without_end() -> None:
    made = PartsMachine(newer=True)
    at = made.add("ext4", SYMBOLS, {})
    made.dress(at)
    attribute = made.attributes([(".text", 0, CODE)], sections=True)
    made.put(at + SECT_ATTRS, "Q", attribute)
    table = int.from_bytes(made.read(attribute + 32, 8), "little")
    entry = made.read(table, 8)
    made.image[table - BASE :] = entry * (len(made.image[table - BASE :]) // 8)

    with pytest.raises(FormatError, match="nothing at"):
        read(made, at)


def test_all_modules_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcorefs.core.structures.module_parts.MAX_SECTIONS", 10)
    made, at = machine()
    shared = reader(made)
    shared.read(BASE + at)

    with pytest.raises(FormatError, match="modules: more than 10 sections"):
        shared.read(BASE + at)


def test_btf_by_module() -> None:
    made, at = machine()
    other = made.add("jbd2", [], {})
    held = [made.describe(at, b"first", 10, 100), made.describe(other, b"second!", 10, 100)]

    found = reader(made).find_btf(KERNEL)

    assert found == {BASE + at: BASE + held[0], BASE + other: BASE + held[1]}
    assert reader(made).read_btf(found[BASE + at], 10, 100) == b"first"
    assert reader(made).read_btf(found[BASE + other], 10, 100) == b"second!"


def test_btf_of_another_kernel_is_refused() -> None:
    made, at = machine()
    held = BASE + made.describe(at, b"", 10, 100)

    with pytest.raises(FormatError, match="from type 10 and name 0x64, but the kernel's has 11"):
        reader(made).read_btf(held, 11, 100)
    with pytest.raises(FormatError, match="0x65 bytes of names"):
        reader(made).read_btf(held, 10, 101)


def test_btf_of_an_absurd_size_is_not_read() -> None:
    made, at = machine()
    held = made.describe(at, b"", 10, 100)
    made.put(held + 8, "I", 0xFFFFFFFF)

    with pytest.raises(FormatError, match="BTF: 4294967295 bytes"):
        reader(made).read_btf(BASE + held, 10, 100)


def test_a_list_of_btf_that_does_not_end() -> None:
    made, at = machine()
    made.describe(at, b"", 10, 100)
    made.put(made.last_btf, "Q", BASE + made.last_btf)

    with pytest.raises(FormatError, match="does not end"):
        reader(made).find_btf(KERNEL)


def test_no_list_of_btf() -> None:
    nothing = SymbolTable(np.zeros(0, dtype=np.uint64), "", ())

    with pytest.raises(FormatError, match="no btf_modules"):
        reader(machine()[0]).find_btf(nothing)
