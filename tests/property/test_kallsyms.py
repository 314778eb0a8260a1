"""Symbols that are written are read back; for whatever else memory may hold see tests/fuzz."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given, strategies as st

from tests.builders.kallsyms import TEXT, listed, write_kernel
from vmcorefs.core.debuginfo.orc import ENTRY_DTYPE as ORC_ENTRY, make_debug_frame
from vmcorefs.core.structures.kallsyms import expand_names
from vmcorefs.errors import VmcorefsError

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
SCHEMES = st.sampled_from(["relative", "percpu", "place", "addresses"])


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.sampled_from("TtDdBbWV"), NAMES)), SCHEMES)
def test_a_written_table_is_read_back(rows: list[tuple[int, str, str]], scheme: str) -> None:
    symbols = [(TEXT, "T", "_stext"), *((TEXT + at, kind, name) for at, kind, name in rows)]

    assert listed(write_kernel(symbols, scheme).read()) == symbols


@given(st.binary(max_size=300), st.integers(1, 100), st.lists(st.binary(max_size=9)))
def test_arbitrary_names(data: bytes, count: int, some: list[bytes]) -> None:
    tokens = [some[code % len(some)] if some else b"x" for code in range(256)]
    with suppress(VmcorefsError):
        types, names = expand_names(data, count, tokens)
        assert len(types) == len(names) == count
        assert all(names)


@given(st.lists(st.tuples(st.integers(0, 1 << 33), st.binary(min_size=6, max_size=6)), min_size=2))
def test_arbitrary_orc_entries(rows: list[tuple[int, bytes]]) -> None:
    where = np.sort(np.array([at for at, _ in rows], dtype=np.uint64))
    table = np.frombuffer(b"".join(entry for _, entry in rows), dtype=ORC_ENTRY)
    with suppress(VmcorefsError):
        data = make_debug_frame(where, table)
        assert len(data) % 8 == 0
