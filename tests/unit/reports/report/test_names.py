"""Names for places in code."""

from __future__ import annotations

import numpy as np
import pytest

from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Frame

_TEXT = 0xFFFFFFFF81000000
_MODULE = 0xFFFFFFFFC0000000


def _table(symbols: dict[str, int], module: str = "") -> SymbolTable:
    addresses = np.array(list(symbols.values()), dtype=np.uint64)
    return SymbolTable(addresses, "t" * len(symbols), tuple(symbols), module=module)


@pytest.fixture
def names() -> Names:
    kernel = {
        "__stop_tags": _TEXT + 0x300,
        "late": _TEXT + 0x200,
        "early": _TEXT,
        "alias": _TEXT + 0x200,
        "next": _TEXT + 0x300,
    }
    kernel |= {"__per_cpu_end": 0x1000}
    return Names((_table(kernel), _table({}), _table({"probe": _MODULE}, "driver")))


def test_the_nearest_symbol_below_holds_an_address(names: Names) -> None:
    assert names.frame(_TEXT + 0x1FF, returned_to=False) == Frame(_TEXT + 0x1FF, "early", 0x1FF)
    assert names.frame(_TEXT + 0x200, returned_to=False) == Frame(_TEXT + 0x200, "late", 0)


def test_of_several_names_the_one_that_kallsyms_has_first_is_taken(names: Names) -> None:
    assert names.frame(_TEXT + 0x210, returned_to=False).function == "late"


def test_a_call_that_does_not_return_is_in_the_function_that_it_ends(names: Names) -> None:
    frame = names.frame(_TEXT + 0x300, returned_to=True)
    assert (frame.function, frame.offset) == ("late", 0x100)
    assert names.frame(_TEXT + 0x301, returned_to=True).function in {"__stop_tags", "next"}


def test_a_module_s_function_is_said_to_be_its(names: Names) -> None:
    frame = names.frame(_MODULE + 8, returned_to=True)
    assert frame == Frame(_MODULE + 8, "probe", 8, "driver")
    assert str(frame) == "probe+0x8 [driver]"


@pytest.mark.parametrize("pc", [0, 0x1234, 0x400000, _TEXT - 1, _MODULE + (1 << 24), 1 << 64, -1])
def test_an_address_that_is_in_no_code_has_no_name(names: Names, pc: int) -> None:
    assert names.frame(pc, returned_to=False) == Frame(pc)
    assert str(names.frame(pc, returned_to=False)) == f"{pc:#x}"


def test_a_variable_s_name_is_that_of_its_first_byte(names: Names) -> None:
    assert names.symbol(_TEXT + 0x300) == "next"
    assert names.symbol(_TEXT + 0x301) == ""
    assert names.symbol(0) == ""


def test_what_an_assembler_marks_in_a_module_names_nothing() -> None:
    module = {"$x": _MODULE, "probe": _MODULE, "$d": _MODULE + 8, ".LC1": _MODULE + 0x100}
    module |= {"lock": _MODULE + 0x100}
    names = Names((_table({"early": _TEXT}), _table(module, "driver")))

    assert names.frame(_MODULE + 0x10, returned_to=True) == Frame(
        _MODULE + 0x10, "probe", 0x10, "driver"
    )
    assert names.symbol(_MODULE + 0x100) == "lock"
    assert names.symbol(_MODULE + 8) == ""
