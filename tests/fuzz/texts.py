"""What people give: memory maps, capture descriptions, words of the command line; VMCOREINFO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.builders import dead_machines, maps
from tests.fuzz.target import target
from vmcorefs.config import load_capture_file
from vmcorefs.core.digests import ALGORITHMS, parse_sidecar, parse_sums
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.maps.memory_map import format_iomem
from vmcorefs.core.maps.text import parse_memory_map
from vmcorefs.core.space.units import parse_range, parse_size
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.options import parse_elfcorehdr_choice, parse_machine
from vmcorefs.piece import parse_piece

ROWS = [(0x1000, 0x9FC00, "System RAM"), (0x100000, 0x300000, "System RAM")]
A = TypeVar("A")
T = TypeVar("T")

LONG = b"".join(
    b"BIOS-e820: [mem 0x%x-0x%x] usable\n" % (start, start + 0x2FFF)
    for start in range(0, 20000 << 14, 1 << 14)
) + b"".join(
    b"e820: remove [mem 0x%x-0x%x] usable\n"
    b"crashkernel reserved: 0x%x - 0x%x\n" % (start, start + 0xFFF, start + 0x2000, start + 0x3000)
    for start in range(0, 20000 << 14, 1 << 14)
)
"""A map of 20,000 rows: nothing may take the square of that."""
HOSTILE = b"""\
SYMBOL(swapper_pg_dir)=0
NUMBER(VA_BITS)=-1
NUMBER(TCR_EL1_T1SZ)=64
NUMBER(kimage_voffset)=-9223372036854775808
NUMBER(va_kernel_pa_offset)=0
"""
CRASH = [(0x200000, 0x300000)]


@target(
    "map-text",
    valid=[
        maps.iomem_text(ROWS, CRASH).encode(),
        maps.memmap_rows(ROWS).encode(),
        maps.e820_text(ROWS, crash_kernel=CRASH).encode()
        + b"e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n",
        maps.e820_text(ROWS, "old", crash_kernel=CRASH).encode(),
        maps.e820_text(ROWS, "new", crash_kernel=CRASH).encode(),
        dead_machines.pack_elf(dead_machines.kexec_tools_phdrs()),
    ],
    nasty=[
        b"",
        b"00000000-ffffffffffffffffffff : System RAM\n",
        b"2000-1000 : System RAM\n",
        b"1000-1fff : System RAM\n" * 3,
        b"1000-8fff : System RAM\n" + b" " * 4000 + b"2000-2fff : Crash kernel\n",
        b"1000-1fff : System RAM\n  1000-1fff : Crash kernel\n\xff\xfe\n",
        b"BIOS-e820: [mem 0x0-0x0] usable\nReserving 999999999MB of memory at 9MB for crashkernel",
        LONG,
        b"e820: remove [mem 0x0-0xffffffffffffffff] usable\nBIOS-e820: [mem 0x0-0xffff] usable\n",
    ],
)
def _map_text(data: bytes) -> None:
    memory_map = parse_memory_map(data)
    assert memory_map.end == memory_map.ram[-1, 1]
    assert len(format_iomem(memory_map)) < 400 * (len(data) + 100)


@target(
    "memmap-files",
    valid=[maps.memmap_grep(ROWS).encode()],
    nasty=[
        b"0/start:0x0\n0/end:0xfff\n",
        b"0/start:\n0/end:\n0/type:System RAM\n",
        b"0/start:0x0\r0/end:0xffffffffffffffffffffff\n0/type:System RAM\n0/type:\n",
        b"999999999/start:0x0\n999999999/end:0xfff\n999999999/type:System RAM\n",
    ],
)
def _memmap_files(data: bytes) -> None:
    _map_text(data)


@target(
    "vmcoreinfo",
    valid=[
        dead_machines.vmcoreinfo_text(),
        b"NUMBER(phys_base)=-4096\nSYMBOL(swapper_pg_dir)=ffffffff82000000\n",
        b"NUMBER(VA_BITS)=48\nNUMBER(kimage_voffset)=0x1000\nSYMBOL(swapper_pg_dir)=1000\n",
    ],
    nasty=[
        b"\0" * 4096,
        b"=" * 4096,
        b"NUMBER(phys_base)=" + b"9" * 5000,
        b"PAGESIZE=" + b"9" * 5000 + b"\nCRASHTIME=99999999999\nOSRELEASE=999999999.\xff",
        HOSTILE,
    ],
)
def _vmcoreinfo(data: bytes) -> None:
    info = parse_vmcoreinfo(data)
    assert info.page_size >= 4096
    assert info.crash_time is None or info.crash_time > 0
    assert info.release_version is None or info.release is not None
    for key in list(info.values):
        kind, _, name = key.rstrip(")").partition("(")
        read = {"SYMBOL": info.symbol, "OFFSET": info.offset, "SIZE": info.size}.get(kind)
        _try(read or info.number, name)
    for machine in (62, 183, 243, 21):
        located = _try(lambda number: locate_page_tables(number, info), machine)
        assert located is None or 0 <= located[1] < 1 << 64


def _try(function: Callable[[A], T], argument: A) -> T | None:
    try:
        return function(argument)
    except VmcorefsError:
        return None


@target(
    "capture-toml",
    valid=[
        b'map = "iomem"\nelfcorehdr = "auto"\n[[image]]\npath = "ram"\npaddr = "4G"\nsize = 4096\n',
        b'map = "iomem"\n[[image]]\npath = "ram"\n[backup]\npath = "lowmem"\npaddr = 0x1000\n',
    ],
    nasty=[
        b"",
        b"image = []\n",
        b"[[image]]\npath = 1979-05-27\n",
        b"[[image]]\npath = 'ram'\npaddr = -1\nsize = 9223372036854775807\n",
        b"[[image]]\npath = 'ram\\u0000'\n",
        b"[" * 2000 + b"]" * 2000,
        b"a = " + b"[" * 2000,
        b"a." * 3000 + b"a = 1\n",
        b"map = 0x" + b"f" * 5000 + b"\n",
        b"[[image]]\npath = 'ram'\ncrash_kernel = ['0-1', '4G+" + b"9" * 5000 + b"']\n",
        b"\xff\xfe",
    ],
)
def _capture_toml(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="vmcorefs-fuzz.") as directory:
        path = Path(directory, "capture.toml")
        path.write_bytes(data)
        assert load_capture_file(str(path)).images


@target(
    "words",
    valid=[b"0x1000", b"4G", b"0x1000-0x2000", b"4G+192M", b"ram@4G:2G", b"x86_64", b"auto"],
    nasty=[b"", b"9" * 5000, b"0x", b"-", b"@:", b"ram@-1", b"\xff", b"1e9", "²".encode(), b"4GG"],
)
def _words(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    parsers: list[Callable[[str], object]] = [
        parse_size, parse_range, parse_piece, parse_machine, parse_elfcorehdr_choice,
    ]  # fmt: skip
    found = [_try(parse, text) for parse in parsers]
    if found == [None] * len(found):
        raise FormatError(f"{text!r} is no size, range, piece, machine or elfcorehdr")


SUM = b"d41d8cd98f00b204e9800998ecf8427e"


@target(
    "digests",
    valid=[
        SUM + b"  ram\n" + b"0" * 64 + b" *low mem\n# said\n\n",
        b"\\" + SUM + b"  a\\nb\\\\c\n",
        b"MD5 (ram) = " + SUM + b"\n",
        SUM,
    ],
    nasty=[b"", SUM[1:], SUM + b"  ", b"(" * 5000, b"0" * 129 + b"  ram", b"SHA1 (ram) = " + SUM,
           b"\xff" * 40, b"BLAKE2b (ram) = " + b"0" * 128, (b"A (" * 3000) + b") = " + SUM],
)  # fmt: skip
def _digests(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if len(text.split()) == 1:
        assert parse_sidecar(text, "md5").value == text.strip().lower()
        return
    for name, digest in parse_sums(text):
        assert name
        assert ALGORITHMS[digest.algorithm] == len(digest.value)
        assert int(digest.value, 16) >= 0
