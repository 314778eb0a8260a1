"""Page tables: whatever is mapped is found, and whatever the tables are, the walk ends."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from tests.builders.mappings import format_of, rows, walk_tables
from tests.builders.page_tables import TOP, Machine, Tables
from tests.property.strategies import machines, mapped_tables
from vmcorefs.core.paging.lookup import translate_pages
from vmcorefs.core.paging.walk import Limits, walk


@given(mapped_tables(), st.data())
def test_a_walk_finds_what_is_mapped(tables: Tables, data: st.DataObject) -> None:
    found = walk_tables(tables, whole=data.draw(st.booleans()))
    assert rows(found) == tables.runs()
    assert found.problems == ()
    assert not len(found.aliases)
    vaddr, paddr, size, _ = data.draw(st.sampled_from(tables.mapped))
    inside = data.draw(st.integers(0, size - 1))
    assert found.translate(vaddr + inside) == paddr + inside


@given(mapped_tables(), st.lists(st.tuples(st.integers(0, 99), st.floats(0, 0.99)), max_size=9))
def test_single_pages_are_found_where_they_are_mapped(
    tables: Tables, chosen: list[tuple[int, float]]
) -> None:
    page = tables.machine.page
    asked = [vaddr for vaddr, *_ in tables.mapped]
    asked += [(vaddr + size) % TOP for vaddr, _, size, _ in tables.mapped]
    asked += [vaddr ^ 1 << 62 for vaddr, *_ in tables.mapped]
    for number, share in chosen:
        vaddr, _, size, _ = tables.mapped[number % len(tables.mapped)]
        asked.append(vaddr + int(size * share) // page * page)
    expected = [
        next((p + at - v for v, p, size, _ in tables.mapped if v <= at < v + size), -1)
        for at in asked
    ]
    vaddrs = np.array(asked, dtype=np.uint64).astype(np.int64)
    found = translate_pages(format_of(tables.machine), tables.root, vaddrs, tables.read_tables)
    assert found.tolist() == expected


@given(mapped_tables(), st.data())
def test_tables_named_again_translate_as_in_their_first_place(
    tables: Tables, data: st.DataObject
) -> None:
    machine = tables.machine
    vaddr, paddr, _, _ = tables.mapped[0]
    span = machine.spans[0]
    entry = tables.get(tables.root, tables.index(0, vaddr))
    taken = {tables.index(0, row[0]) for row in tables.mapped}
    free = [n for n in range(machine.first, machine.entries[0]) if n not in taken]
    named = data.draw(st.lists(st.sampled_from(free), max_size=30, unique=True)) if free else []
    for index in named:
        tables.put(tables.root, index, entry)
    found = walk_tables(tables, limits=Limits(repeats=data.draw(st.integers(1, 9))))
    for index in named:
        again = machine.start + (index - machine.first) * span + vaddr % span
        assert found.translate(again) == paddr


@given(machines, st.integers(0, 2**32 - 1), st.integers(1, 24), st.floats(0, 1))
@settings(max_examples=150)
def test_random_tables_end_within_the_limits(
    machine: Machine, seed: int, count: int, local: float
) -> None:
    """Random entries, of which a share names tables that are there, so that loops are made."""
    tables = Tables(machine)
    for _ in range(count):
        tables.allocate()
    random = np.random.default_rng(seed)
    for table in range(count + 1):
        at = tables.base + table * machine.table_size
        for index in random.choice(machine.table_size // 8, 64, replace=False).tolist():
            entry = int(random.integers(0, TOP, dtype=np.uint64))
            if random.random() < local:
                target = tables.base + int(random.integers(0, count + 1)) * machine.table_size
                entry = machine.table(target)
            tables.put(at, index, entry)
    limits = Limits(tables=500, runs=300, repeats=3)
    found = walk(format_of(machine), tables.root, tables.read_tables, limits=limits, whole=True)
    assert found.tables <= 500
    assert len(found) <= 300
    assert (found.size > 0).all()
    assert (found.paddr >= 0).all()
    assert (found.vaddr[1:] >= (found.vaddr + found.size)[:-1]).all()
    for problem in found.problems:
        assert 1 <= len(problem.examples) <= 3
        assert str(problem)
    vaddrs = random.integers(0, TOP, 1000, dtype=np.uint64)
    fmt, some = format_of(machine), vaddrs.astype(np.int64)
    assert (translate_pages(fmt, tables.root, some, tables.read_tables) >= -1).all()
    assert (found.translate_many(vaddrs) >= -1).all()
