"""Inverted program headers against a model that knows each byte."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tests.builders.dead_machines import PT_LOAD, Phdr, pack_elf
from tests.property.strategies import model_of
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.elf.dump_memory import DumpMemory, read_dump_memory
from vmcorefs.core.space.extents import Kind

SPACE = 48

Row = tuple[int, int, int, int]
"""Physical address, offset in the file, bytes in the file, bytes in memory."""


@st.composite
def load_rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        memsz = draw(st.integers(1, 12))
        filesz = draw(st.sampled_from([memsz, memsz, draw(st.integers(0, memsz))]))
        rows.append((draw(st.integers(1, SPACE)), draw(st.integers(0, 60)), filesz, memsz))
    return rows


def invert(rows: list[Row], size: int) -> DumpMemory:
    phdrs = [
        Phdr(PT_LOAD, offset, memsz, p_paddr=paddr, p_vaddr=n, p_filesz=filesz)
        for n, (paddr, offset, filesz, memsz) in enumerate(rows)
    ]
    head = pack_elf(phdrs)
    return read_dump_memory(
        read_dump_headers(lambda count, offset: head[offset : offset + count], size)
    )


@given(load_rows(), st.integers(0, 80))
def test_each_byte_is_one_that_a_program_header_names(rows: list[Row], size: int) -> None:
    found = invert(rows, size)
    model = model_of(found.held)
    named: dict[int, set[int]] = {}
    left_out: set[int] = set()
    for paddr, offset, filesz, memsz in rows:
        for step in range(memsz):
            if step >= filesz:
                left_out.add(paddr + step)
            elif offset + step < size:
                named.setdefault(paddr + step, set()).add(offset + step)
    for paddr, (kind, source, offset) in model.items():
        if kind == Kind.DATA:
            assert source == 0
            assert offset in named[paddr]
        else:
            assert kind == Kind.EXCLUDED
            assert paddr in left_out
            assert paddr not in named
    assert model.keys() == named.keys() | left_out
    missing = {p for start, end in found.missing.tolist() for p in range(start, end)}
    everything = {paddr + n for paddr, _, _, memsz in rows for n in range(memsz)}
    assert missing == everything - model.keys()


@given(load_rows())
def test_the_plan_has_all_of_the_memory(rows: list[Row]) -> None:
    plan = invert(rows, 80).plan
    inside = {p for start, end in plan.ram.tolist() for p in range(start, end)}
    assert inside == {paddr + n for paddr, _, _, memsz in rows for n in range(memsz)}
    assert (plan.phdrs["p_offset"] == plan.phdrs["p_paddr"]).all()
