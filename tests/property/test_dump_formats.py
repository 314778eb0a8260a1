"""kdump-compressed dumps and flattened streams against models that know each page and byte."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from tests.builders.kdumps import CODECS, PAGE, Kdump, flatten, stamped_page
from tests.fuzz.dumps import BytesFile
from vmcorefs.core.space.extents import Kind
from vmcorefs.reader import Reader
from vmcorefs.sources.dumps.diskdump import open_diskdump
from vmcorefs.sources.dumps.flattened import Unflattened

pfns = st.sets(st.integers(0, 90), max_size=60)


@settings(max_examples=60)
@given(pfns, pfns, pfns, st.sampled_from(sorted(CODECS)), st.integers(1, 89), st.integers(1, 89))
def test_each_page_is_what_was_stored_or_is_known_not_to_be(
    stored: set[int], ram: set[int], lost: set[int], codec: str, cut: int, other: int
) -> None:
    stored |= {90}
    lost &= stored
    spans = [(0, min(cut, other)), (min(cut, other), max(cut, other)), (max(cut, other), 91)]
    parts = [
        Kdump(stored, ram, lost=lost, codec=codec, status=8, split=span).pack()
        for span in spans
        if span[0] < span[1]
    ]
    dump = open_diskdump([BytesFile(f"part {n}", part) for n, part in enumerate(parts)])
    memory = Reader("memory", dump.memory, dump.sources)
    held = {
        p for a, b in (dump.memory.only(Kind.DATA).ranges // PAGE).tolist() for p in range(a, b)
    }
    excluded = {
        p for a, b in (dump.memory.only(Kind.EXCLUDED).ranges // PAGE).tolist() for p in range(a, b)
    }
    missing = {p for a, b in (dump.missing // PAGE).tolist() for p in range(a, b)}
    assert held == stored - lost
    assert missing == lost
    assert excluded == ram - stored
    for pfn in held:
        assert memory.pread(PAGE, pfn * PAGE) == stamped_page(pfn)
    dump.close()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)), max_size=12),
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_of_records_that_overlap_the_later_is_believed(
    records: list[tuple[int, bytes]], start: int, size: int
) -> None:
    model = bytearray(max((at + len(data) for at, data in records), default=0))
    for at, data in records:
        model[at : at + len(data)] = data
    dump = Unflattened(BytesFile("dump", flatten(records)))
    assert dump.size == len(model)
    start = min(start, len(model))
    buffer = bytearray(min(size, len(model) - start))
    dump.pread_into(start, memoryview(buffer))
    assert buffer == model[start : start + len(buffer)]
