"""Lists of waiters."""

from __future__ import annotations

import struct

import drgn
import pytest

from vmcorefs.reports.report.walk.rings import Rings

_HEAD, *_WAITERS = range(0x1000, 0x1050, 0x10)


def _memory(links: dict[int, tuple[int, int]]) -> drgn.Program:
    """Memory that has list_heads, whose ``next`` and ``prev`` are these."""
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    data = bytearray(0x100)
    for place, (after, before) in links.items():
        struct.pack_into("<2Q", data, place - 0x1000, after, before)
    program.add_memory_segment(0x1000, len(data), lambda _a, n, o, _p: bytes(data[o : o + n]))
    return program


def _ring(*elements: int) -> dict[int, tuple[int, int]]:
    around = (elements[-1], *elements, elements[0])
    return {
        one: (after, before)
        for before, one, after in zip(around, elements, around[2:], strict=False)
    }


def _first(program: drgn.Program, place: int) -> drgn.Object:
    link: drgn.Type = program.struct_type(
        "list_head",
        16,
        (
            drgn.TypeMember(lambda: program.pointer_type(link), "next"),
            drgn.TypeMember(lambda: program.pointer_type(link), "prev", 64),
        ),
    )
    return drgn.Object(program, program.pointer_type(link), place)


@pytest.mark.parametrize("first", _WAITERS)
def test_the_element_that_is_no_waiter_s_is_the_head(first: int) -> None:
    program = _memory(_ring(_HEAD, *_WAITERS))
    head = Rings().head_of(_first(program, first), lambda element: int(element) != _HEAD)
    assert head is not None
    assert int(head) == _HEAD


def test_nobody_is_gone_past_twice() -> None:
    program = _memory(_ring(_HEAD, *_WAITERS))
    rings, asked = Rings(), []

    def is_waiter(element: drgn.Object) -> bool:
        asked.append(int(element))
        return int(element) != _HEAD

    for first in reversed(_WAITERS):
        head = rings.head_of(_first(program, first), is_waiter)
        assert head is not None
        assert int(head) == _HEAD
    assert asked == [_HEAD]


def test_what_is_no_ring_has_no_head() -> None:
    waiters_alone = _memory(_ring(*_WAITERS))
    assert Rings().head_of(_first(waiters_alone, _WAITERS[0]), lambda _: True) is None
    torn = _memory({**_ring(_HEAD, *_WAITERS), _WAITERS[2]: (_WAITERS[0], _WAITERS[0])})
    assert Rings().head_of(_first(torn, _WAITERS[0]), lambda _: True) is None
