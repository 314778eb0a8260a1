"""Whatever memory holds, decoding a log ends, with text or with one of our own errors."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, strategies as st

from tests.log_builder import Log, Record, make_plain, make_ring, make_structured, pack_record
from vmcorefs.core.printk import read_log
from vmcorefs.errors import VmcorefsError

texts = st.lists(st.binary(max_size=60), min_size=1, max_size=40)


@given(texts=texts, first_id=st.integers(0, (1 << 62) - 1))
def test_a_ring_gives_back_the_newest_records(texts: list[bytes], first_id: int) -> None:
    log = make_ring([Record(text) for text in texts], size_bits=13, first_id=first_id)
    printable = bytes(range(0x20, 0x7F))
    for line, text in zip(
        read_log(log.info, log.memory).split(b"\n[    0.000000] ")[::-1], texts[::-1], strict=False
    ):
        if all(code in printable for code in text):
            assert line.removeprefix(b"[    0.000000] ").rstrip(b"\n") == text


def mutated(log: Log, data: st.DataObject) -> Log:
    for start, block in list(log.blocks.items()):
        changed = bytearray(block)
        for position, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(block) - 1), st.integers(0, 255)), max_size=8)
        ):
            changed[position] = value
        log.blocks[start] = bytes(changed)
    return log


@given(data=st.data())
def test_a_damaged_log_ends_with_text_or_with_our_own_error(data: st.DataObject) -> None:
    records = pack_record(0, b"one") + pack_record(5, b"two") + bytes(16)
    log = mutated(
        data.draw(
            st.sampled_from(
                [
                    make_ring([Record(b"one"), Record(b"two" * 20), Record(b"three")]),
                    make_structured(records, 0, 48),
                    make_plain(b"abcdefgh", 9, 8),
                ]
            )
        ),
        data,
    )
    with suppress(VmcorefsError):
        read_log(log.info, log.memory)
