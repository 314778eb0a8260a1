"""Whatever stands where headers should be: an error of ours or seven verdicts, and soon."""

from __future__ import annotations

from hypothesis import example, given, strategies as st

from tests.builders.dead_machines import Flavour, Phdr, load_phdr, note_phdr, pack_elf
from vmcorefs.core.consumers.verdicts import RULES, judge
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.errors import FormatError

_U64 = st.one_of(
    st.integers(0, 2**16),
    st.integers(0, 2**64 - 1),
    st.sampled_from([2**64 - 1, 2**63, 0xFFFF888000000000, 0xFFFFFFFF81000000]),
)
_PHDRS = st.lists(
    st.builds(
        Phdr,
        p_type=st.sampled_from([1, 1, 4, 6]),
        p_offset=_U64,
        p_memsz=_U64,
        p_paddr=_U64,
        p_vaddr=_U64,
        p_flags=st.just(7),
        p_align=st.sampled_from([0, 4, 4096]),
        p_filesz=_U64,
    ),
    max_size=8,
)


def _judge(data: bytes, size: int) -> None:
    read = 0

    def pread(count: int, offset: int) -> bytes:
        nonlocal read
        got = data[offset : offset + count]
        read += len(got)
        return got

    try:
        verdicts = judge(read_dump_headers(pread, size), EM_X86_64)
    except FormatError:
        return
    assert [verdict.tool for verdict in verdicts] == list(RULES)
    assert all(verdict.answer for verdict in verdicts)
    assert read <= len(data) * (2 + len(data) // 32)  # each PT_NOTE may ask for the same bytes


@given(st.binary(max_size=300), st.integers(0, 2**63))
@example(pack_elf([load_phdr(0, 1)], Flavour(64, ">", 21)), 1 << 40)
def test_any_bytes(data: bytes, size: int) -> None:
    _judge(data, size)


@given(
    _PHDRS,
    st.binary(max_size=200),
    st.integers(0, 2**40),
    st.integers(0, 2**16 - 1),
    st.sampled_from([64, 64, 0, 120, 2**63]),
)
@example([note_phdr(0, 100)] * 8, b"", 0, 8, 64)
def test_headers_that_lie(
    phdrs: list[Phdr], tail: bytes, size: int, count: int, offset: int
) -> None:
    _judge(pack_elf(phdrs) + tail, size)
    _judge(pack_elf(phdrs, e_phnum=count, e_phoff=offset, e_shoff=64) + tail, size)
