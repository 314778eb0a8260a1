"""A log that is written is read back; for whatever else memory may hold see tests/fuzz."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tests.builders.logs import Record, make_ring
from vmcorefs.core.structures.printk import read_log

texts = st.lists(st.binary(max_size=60), min_size=1, max_size=40)


@given(texts=texts, first_id=st.integers(0, (1 << 62) - 1))
def test_a_ring_gives_back_the_newest_records(texts: list[bytes], first_id: int) -> None:
    log = make_ring([Record(text) for text in texts], size_bits=13, first_id=first_id)
    printable = bytes(range(0x20, 0x7F))
    for line, text in zip(
        read_log(log.info, log.memory).text.split(b"\n[    0.000000] ")[::-1],
        texts[::-1],
        strict=False,
    ):
        if all(code in printable for code in text):
            assert line.removeprefix(b"[    0.000000] ").rstrip(b"\n") == text
