"""What the kernel keeps of itself: its log, symbols, modules, unwind tables and banner."""

from __future__ import annotations

import struct

import numpy as np

from tests.builders.kallsyms import PER_CPU, SYMBOLS, TEXT, Kernel, write_kernel
from tests.builders.logs import (
    DESCS,
    INFOS,
    PRB,
    TEXT as LOG_TEXT,
    VARIABLES,
    Log,
    Record,
    make_plain,
    make_ring,
    make_structured,
    pack_record,
)
from tests.builders.modules import BASE, EXT4, HEAD, Machine
from tests.builders.orc import ENTRIES, ORC
from tests.fuzz.memory import pack, prefixed, split, unpack
from tests.fuzz.target import target
from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.frame_records import make_record_frame
from vmcorefs.core.debuginfo.orc import read_debug_frame
from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.core.structures.kallsyms import SymbolTable, read_symbols
from vmcorefs.core.structures.modules import iter_modules
from vmcorefs.core.structures.printk import names_log, read_log
from vmcorefs.core.structures.version import read_banner, read_uts
from vmcorefs.errors import FormatError

ZEROS = 1  # lie outside of the blocks; see tests.fuzz.memory

# --- the log -------------------------------------------------------------------------------------


def _packed(log: Log, outside: int = 0) -> bytes:
    return pack(log.info.text, log.blocks, outside)


def _patched(log: Log, vaddr: int, data: bytes, outside: int = 0) -> bytes:
    for start, block in log.blocks.items():
        if start <= vaddr < start + len(block):
            at = vaddr - start
            log.blocks[start] = block[:at] + data + block[at + len(data) :]
    return _packed(log, outside)


def _torn(log: Log) -> bytes:
    """The same without the second page of what is longer than two."""
    blocks = dict(log.blocks)
    for start, block in log.blocks.items():
        if len(block) > 2 * PAGE_SIZE:
            blocks[start] = block[:PAGE_SIZE]
            blocks[start + 2 * PAGE_SIZE] = block[2 * PAGE_SIZE :]
    return pack(log.info.text, blocks, 0)


def _read_log(data: bytes) -> None:
    vmcoreinfo, memory = unpack(data)
    if not names_log(vmcoreinfo):
        raise FormatError("no log")
    assert len(read_log(vmcoreinfo, memory).text) < 1 << 30


def _ring(records: int = 3) -> Log:
    return make_ring([Record(b"%d" % number * 20, number) for number in range(records)])


def _same_text() -> Log:
    """4096 records whose text is the same 64 KiB, more than the ring has in all."""
    log = make_ring([Record(b"a")] * 4096, count_bits=12, size_bits=16)
    log.blocks[DESCS] = b"".join(
        struct.pack("<QQQ", 2 << 62 | number, 0, 0xFFF8) for number in range(4096)
    )
    log.blocks[INFOS] = (bytes(16) + b"\xff\xff" + bytes(70)) * 4096
    return log


_COUNT_BITS, _SIZE_BITS = PRB + 16, PRB + 16 + 48

target(
    "printk-ring",
    valid=[
        _packed(_ring()),
        _packed(make_ring([Record(b"text")] * 40, size_bits=13)),
        _packed(make_ring([Record(b"x" * 200)] * 9)),
        _torn(make_ring([Record(b"x" * 70)] * 180, count_bits=8, size_bits=14)),
    ],
    nasty=[
        _packed(_same_text()),
        _patched(_ring(), _COUNT_BITS, b"\xff\xff\xff\xff", ZEROS),
        _patched(_ring(), _COUNT_BITS, struct.pack("<I", 19), ZEROS),
        _patched(_ring(), _COUNT_BITS, struct.pack("<IIQ", 19, 0, 1), 129),
        _patched(_ring(), _SIZE_BITS, struct.pack("<IIQ", 26, 0, 1), ZEROS),
        _patched(_ring(), _SIZE_BITS, struct.pack("<I", 0)),
        _patched(_ring(), PRB + 8, bytes(8)),
        pack(b"SYMBOL(prb)=1\n", {}, 255),
    ],
)(_read_log)

RECORDS = pack_record(0, b"one") + pack_record(5, b"two") + bytes(16)


def _overlapping() -> Log:
    """A record each 16 bytes, and the text of each has 64 KiB."""
    record = struct.pack("<QHHHBB", 0, 16, 0xFFFF, 0, 0, 0)
    return make_structured(record * (1 << 16), 0, 16 * 0xFFFF)


target(
    "printk-structured",
    valid=[
        _packed(make_structured(RECORDS, 0, 48)),
        _packed(make_structured(RECORDS, 0, 0)),
        _torn(make_structured(pack_record(5, b"two") * 600, 0, 500 * 24)),
        _torn(make_structured(pack_record(0, b"one") * 600, 300 * 24, 299 * 24)),
    ],
    nasty=[
        _packed(_overlapping()),
        _packed(make_structured(RECORDS, 0, 47)),
        _packed(make_structured(bytes(4096), 0, 4095)),
        _packed(make_structured(RECORDS, 0xFFFFFFFF, 0xFFFFFFFE)),
        pack(
            make_structured(RECORDS, 0, 1).info.text,
            {VARIABLES: struct.pack("<QIII", 1, 64 << 20, 0, 1)},
            ZEROS,
        ),
        pack(
            make_structured(RECORDS, 0, 1).info.text,
            {VARIABLES: struct.pack("<QIII", 1, 64 << 20, 0, 1)},
            ord(" ") + 1,
        ),
    ],
)(_read_log)

target(
    "printk-plain",
    valid=[_packed(make_plain(b"abcdefgh", 9, 8)), _packed(make_plain(b"abcdefgh", 3, 3))],
    nasty=[
        _packed(make_plain(b"abcdefg", 9, 8)),
        _packed(make_plain(b"abcdefgh", 0xFFFFFFFF, 0xFFFFFFFF)),
        pack(
            make_plain(b"", 0, 0).info.text,
            {VARIABLES: struct.pack("<QIII", LOG_TEXT, 64 << 20, 7, 0xFFFFFFFF)},
            255,
        ),
    ],
)(_read_log)

# --- symbols -------------------------------------------------------------------------------------


def _kernel(kernel: Kernel, outside: int = 0) -> bytes:
    return pack(kernel.vmcoreinfo.text, {kernel.base: kernel.image}, outside)


WRITTEN = write_kernel(SYMBOLS)
ELSEWHERE = {"kallsyms_names": "0", "kallsyms_token_table": "1ffffff"}
BACKWARDS = {"kallsyms_token_table": "ffffffffffffffff"}


def _claimed(count: int) -> Kernel:
    return WRITTEN.patched("kallsyms_num_syms", struct.pack("<I", count))


@target(
    "kallsyms",
    valid=[
        _kernel(WRITTEN),
        _kernel(write_kernel([*PER_CPU, *SYMBOLS], "percpu")),
        _kernel(write_kernel(SYMBOLS, "place")),
        _kernel(write_kernel(SYMBOLS, "addresses")),
        _kernel(write_kernel([*SYMBOLS, (TEXT, "t", "x" * 200)], offsets_first=True)),
    ],
    nasty=[
        _kernel(_claimed(0xFFFFFFFF), ZEROS),
        _kernel(_claimed(1 << 21), ZEROS),
        _kernel(_claimed(1 << 20).told(**ELSEWHERE), 2),
        _kernel(_claimed(1 << 20).told(**ELSEWHERE), 0x82),
        _kernel(WRITTEN.patched("kallsyms_token_index", b"\xff" * 512), 255),
        _kernel(WRITTEN.told(**BACKWARDS), ZEROS),
        _kernel(WRITTEN.told(_stext="0", kallsyms_relative_base="")),
    ],
)
def _kallsyms(data: bytes) -> None:
    vmcoreinfo, memory = unpack(data)
    table = read_symbols(vmcoreinfo, memory)
    assert table.format().count(b"\n") == len(table)
    made = make_vmlinux(table, Contents(btf=b"", debug_frame=b""), machine=62, byte_order="<")
    assert made.startswith(b"\x7fELF")
    assert len(make_record_frame(table, 1)) < 200 + 100 * len(table)


# --- modules -------------------------------------------------------------------------------------


def _machine() -> Machine:
    machine = Machine()
    machine.add("ext4", EXT4, {"ext4_exported": EXT4[2][0]})
    machine.add("jbd2", [(BASE + 0xA000, "t", "jbd2_start")], {})
    return machine


def _modules_seed(machine: Machine, outside: int = 0) -> bytes:
    blocks = {HEAD: bytes(machine.image[:16]), BASE: bytes(machine.image[:4096])}
    return prefixed(machine.btf(), pack(b"", blocks, outside))


def _changed(at: int, layout: str, *values: int) -> Machine:
    machine = _machine()
    machine.put(at, layout, *values)
    return machine


@target(
    "modules",
    valid=[_modules_seed(Machine()), _modules_seed(_machine())],
    nasty=[
        _modules_seed(_machine(), ZEROS),
        _modules_seed(_machine(), 129),
        _modules_seed(_changed(0, "Q", BASE), ZEROS),
        _modules_seed(_changed(16 + 8, "Q", BASE + 16 + 8)),  # a module that is its own next
        _modules_seed(_changed(16 + 88, "I", 1 << 20), 2),
        _modules_seed(_changed(16 + 88, "I", 0xFFFFFFFF), ZEROS),
    ],
)
def _modules(data: bytes) -> None:
    btf, packed = split(data)
    _, memory = unpack(packed)
    kernel = SymbolTable(np.array([HEAD], dtype=np.uint64), "D", ("modules",))
    for table in iter_modules(memory, kernel, btf):
        assert table.format().count(b"\n") == len(table)


# --- unwind tables -------------------------------------------------------------------------------


def _orc(entries: list[tuple[int, int, int, int]], count: int | None = None) -> bytes:
    ips = b"".join(
        struct.pack("<i", TEXT + at - (ORC + 4 * row)) for row, (at, *_) in enumerate(entries)
    )
    rows = b"".join(struct.pack("<hhH", *entry[1:]) for entry in entries)
    claimed = len(entries) if count is None else count
    told = b"SYMBOL(start)=%x\nSYMBOL(stop)=%x\nSYMBOL(entries)=%x\nSYMBOL(crash)=%x\n" % (
        ORC, ORC + 4 * claimed, ORC + len(ips), TEXT + 0x10,
    )  # fmt: skip
    code = b"\xf3\x0f\x1e\xfa\x55\x41\x57\x48\x83\xec\x28".rjust(0x1B, b"\0")
    return pack(told, {TEXT: code.ljust(0x60, b"\x90"), ORC: ips + rows})


@target(
    "orc",
    valid=[_orc(ENTRIES)],
    nasty=[
        _orc([(0, -32768, -32768, 0xFFFF), (1, 32767, 32767, 0x7777)] * 2),
        _orc([(row, row % 32768, 8, 5 | 2 << 8) for row in range(20000)]),  # all differ
        _orc(ENTRIES, count=1 << 20)[:-4] + b"\0\0\0\0",
        _orc(ENTRIES, count=0),
        pack(b"SYMBOL(start)=1000\nSYMBOL(stop)=401000\nSYMBOL(entries)=1000\n", {}, 1),
        pack(b"SYMBOL(start)=1000\nSYMBOL(stop)=401000\nSYMBOL(entries)=1000\n", {}, 2),
    ],
)
def _unwind(data: bytes) -> None:
    vmcoreinfo, memory = unpack(data)
    names = {
        "start": "__start_orc_unwind_ip",
        "stop": "__stop_orc_unwind_ip",
        "entries": "__start_orc_unwind",
        "crash": "__crash_kexec",
    }
    told = {
        names[key[7:-1]]: vmcoreinfo.symbol(key[7:-1])
        for key in vmcoreinfo.values
        if key[7:-1] in names
    }
    addresses = np.array([at % (1 << 64) for at in told.values()], dtype=np.uint64)
    kernel = SymbolTable(addresses, "R" * len(told), tuple(told))
    made = read_debug_frame(kernel, memory)
    assert len(made) % 8 == 0
    assert len(made) < 1 << 28


# --- the banner ----------------------------------------------------------------------------------

UTS = b"SYMBOL(init_uts_ns)=%x\nOFFSET(uts_namespace.name)=4\n" % TEXT
BANNER = b"Linux version 6.1.0-test (me@here) (gcc 12.2.0, GNU ld 2.40) #1 SMP 2026-11-16\n"
NAMES = b"".join(name.ljust(65, b"\0") for name in (b"Linux", b"dead", b"6.1.0", b"#1 SMP"))


@target(
    "version",
    valid=[pack(UTS, {TEXT: bytes(4) + NAMES}), pack(b"", {TEXT: BANNER.ljust(256, b"\0")})],
    nasty=[
        pack(b"", {TEXT: b"Linux version 6"}, ord("6") + 1),
        pack(b"", {TEXT: b"Linux version \x1b[2J\n".ljust(256)}),
        pack(UTS, {TEXT: b"\xff" * 300}),
        pack(UTS, {}, ZEROS),
    ],
)
def _version(data: bytes) -> None:
    vmcoreinfo, memory = unpack(data)
    if "SYMBOL(init_uts_ns)" in vmcoreinfo.values:
        text = read_uts(vmcoreinfo, memory)
    else:
        text = read_banner(memory, TEXT)
        assert text.startswith(b"Linux version ")
    assert text.decode("ascii").splitlines() == [text[:-1].decode()]
