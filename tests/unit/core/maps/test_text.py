"""Memory maps as text, in every spelling."""

from __future__ import annotations

import pytest

from tests.builders import maps
from tests.builders.maps import RAM, RESERVED, E820Dialect
from tests.matching import exactly
from vmcorefs.core.maps import text as map_text
from vmcorefs.core.maps.memory_map import MemoryMap, format_iomem
from vmcorefs.core.maps.text import parse_memory_map
from vmcorefs.errors import FormatError

ROWS = [
    (0, 0x1000, RESERVED),
    (0x1000, 0x9FC00, RAM),
    (0xF0000, 0x100000, RESERVED),
    (0x100000, 0x3FFDC000, RAM),
    (0x100000000, 0x140000000, RAM),
]
RAM_RANGES = [[0x1000, 0x9FC00], [0x100000, 0x3FFDC000], [0x100000000, 0x140000000]]
CRASH_KERNEL = (800 << 20, 992 << 20)


def parse(text: str) -> MemoryMap:
    return parse_memory_map(text.encode())


def test_proc_iomem_is_read_and_printed_back_the_same() -> None:
    text = maps.iomem_text(ROWS, [CRASH_KERNEL])
    memory_map = parse(text)
    assert memory_map.dialect == "/proc/iomem"
    assert memory_map.ram.tolist() == RAM_RANGES
    assert memory_map.crash_kernel.tolist() == [list(CRASH_KERNEL)]
    assert format_iomem(memory_map) == text


def test_proc_iomem_may_have_blank_lines_and_dos_line_ends() -> None:
    text = maps.iomem_text(ROWS).replace("\n", "\r\n") + "\r\n"
    assert parse(text).ram.tolist() == RAM_RANGES


def test_an_iomem_that_an_unprivileged_user_read_is_refused_and_says_why() -> None:
    text = "00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n"
    text += "  00000000-00000000 : Crash kernel\n"
    with pytest.raises(
        FormatError,
        match=exactly(
            "every address is 0: the kernel shows /proc/iomem like that without CAP_SYS_ADMIN"
            " (kernel/resource.c); read it as root"
        ),
    ):
        parse(text)


def test_a_line_that_is_not_iomems_is_refused_by_its_number() -> None:
    with pytest.raises(
        FormatError, match=exactly("line 2: 'and some noise' is not a line of /proc/iomem")
    ):
        parse("00001000-0009fbff : System RAM\nand some noise\n")


def test_overlapping_lines_of_iomem_are_refused_by_their_numbers() -> None:
    with pytest.raises(
        FormatError,
        match=exactly(
            "line 2: System RAM [0x9f000, 0x200000): overlaps line 1: System RAM [0x1000, 0x9fc00)"
        ),
    ):
        parse("00001000-0009fbff : System RAM\n0009f000-001fffff : System RAM\n")


def test_a_region_up_to_the_last_address_is_no_error() -> None:
    text = "00001000-0009fbff : System RAM\nfd00000000-ffffffffffffffff : Reserved\n"
    assert parse(text).ram.tolist() == [[0x1000, 0x9FC00]]


@pytest.mark.parametrize("spell", [maps.memmap_rows, maps.memmap_grep])
def test_the_firmwares_map_is_read_in_the_order_that_a_shell_lists_it(
    spell: maps.Speller,
) -> None:
    # twelve entries: a shell has 10 and 11 before 2
    rows = [(n << 36, (n << 36) + 0x1000, RESERVED) for n in range(8, 15)]
    memory_map = parse(spell(sorted(ROWS + rows)))
    assert memory_map.dialect == "/sys/firmware/memmap"
    assert memory_map.ram.tolist() == RAM_RANGES


def test_rows_of_the_firmwares_map_that_overlap_are_refused() -> None:
    with pytest.raises(
        FormatError,
        match=exactly(
            "line 1: System RAM [0x800, 0x2000): overlaps line 2: Reserved [0x0, 0x1000)"
        ),
    ):
        parse("0x800 0x1fff System RAM\n0x0 0xfff Reserved\n")


def test_noise_among_rows_of_the_firmwares_map_is_refused() -> None:
    with pytest.raises(
        FormatError, match=exactly("line 2: '0x1000' is not a line of /sys/firmware/memmap")
    ):
        parse("0x0 0xfff System RAM\n0x1000\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0/start:0x0\n0/end:0xfff\n",
            "entry 0: has ['end', 'start'], expected start, end and type",
        ),
        (
            "7/start:zero\n7/end:one\n7/type:System RAM\n",
            "entries of /sys/firmware/memmap without addresses: 'zero one System RAM'",
        ),
    ],
)
def test_an_entry_of_the_firmwares_map_that_is_not_whole_is_refused(
    text: str, message: str
) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        parse(text)


@pytest.mark.parametrize("stamp", [True, False])
@pytest.mark.parametrize("dialect", ["current", "old", "new"])
def test_e820_lines_of_every_age_are_read(dialect: E820Dialect, stamp: bool) -> None:
    text = maps.e820_text(ROWS, dialect, crash_kernel=[CRASH_KERNEL], stamp=stamp)
    memory_map = parse(text)
    assert memory_map.dialect == "e820 (BIOS-e820)"
    assert memory_map.ram.tolist() == RAM_RANGES
    assert memory_map.crash_kernel.tolist() == [list(CRASH_KERNEL)]


@pytest.mark.parametrize(
    "prefix",
    ["<6>[    0.000000] ", "Nov 22 23:18:16 host kernel: ", "[    0.0][    T0] ", "kernel: "],
)
def test_e820_lines_may_come_through_a_log(prefix: str) -> None:
    text = maps.e820_text(ROWS, stamp=False)
    assert parse("".join(prefix + line + "\n" for line in text.splitlines())).ram.tolist() == (
        RAM_RANGES
    )


def test_the_old_dialects_end_is_exclusive() -> None:
    text = " BIOS-e820: 0000000000100000 - 000000003ffdc000 (usable)\n"
    assert parse(text).ram.tolist() == [[0x100000, 0x3FFDC000]]


def test_the_last_table_that_the_kernel_prints_counts() -> None:
    text = maps.e820_text(ROWS) + (
        "[    0.000000] user: [mem 0x0000000000001000-0x0000000000001fff] usable\n"
        "[    0.000000] user: [mem 0x0000000000002000-0x0000000000002fff] reserved\n"
    )
    memory_map = parse(text)
    assert memory_map.dialect == "e820 (user)"
    assert memory_map.ram.tolist() == [[0x1000, 0x2000]]
    assert memory_map.regions[0].line == 8


def test_what_the_kernel_takes_from_ram_after_the_table_is_no_ram() -> None:
    # RAM  |0 ............ 9fc00|      |100000 .......... 200000|
    # take |0..1000|                         |180000 .. 181000|
    text = (
        "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n"
        "BIOS-e820: [mem 0x00000000000f0000-0x00000000000fffff] reserved\n"
        "BIOS-e820: [mem 0x0000000000100000-0x00000000001fffff] usable\n"
        "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n"
        "e820: remove [mem 0x000a0000-0x000fffff] usable\n"
        "e820: remove [mem 0x00180000-0x00180fff] usable\n"
    )
    memory_map = parse(text)
    assert memory_map.ram.tolist() == [
        [0x1000, 0x9FC00],
        [0x100000, 0x180000],
        [0x181000, 0x200000],
    ]
    assert [r.name for r in memory_map.regions].count(RESERVED.lower()) == 1


@pytest.mark.parametrize(
    "change",
    [
        "e820: update [mem 0x00001000-0x00001fff] usable ==> usable",
        "e820: update [mem 0x00001000-0x00001fff] reserved ==> usable",
        "e820: remove [mem 0x00001000-0x00001fff] reserved",
    ],
)
def test_changes_that_do_not_take_ram_take_none(change: str) -> None:
    text = f"BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n{change}\n"
    assert parse(text).ram.tolist() == [[0, 0x9FC00]]


def test_changes_in_front_of_the_table_are_in_it_already() -> None:
    text = (
        "e820: remove [mem 0x00001000-0x00001fff] usable\n"
        "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n"
    )
    assert parse(text).ram.tolist() == [[0, 0x9FC00]]


@pytest.mark.parametrize(
    ("line", "start", "end"),
    [
        ("Reserving 192MB of memory at 800MB for crashkernel (System RAM: 9MB)", 800, 992),
        (
            "Reserving 192MB of low memory at 800MB for crashkernel (low RAM limit: 4096MB)",
            800,
            992,
        ),
        ("crashkernel reserved: 0x0000000032000000 - 0x000000003e000000 (192 MB)", 800, 992),
        ("crashkernel low memory reserved: 0x32000000 - 0x3e000000 (192 MB)", 800, 992),
    ],
)
def test_every_spelling_of_the_crash_kernels_reservation_is_read(
    line: str, start: int, end: int
) -> None:
    memory_map = parse(maps.e820_text(ROWS) + f"[    0.1] {line}\n")
    assert memory_map.crash_kernel.tolist() == [[start << 20, end << 20]]


def test_a_reservation_outside_the_map_is_refused() -> None:
    text = maps.e820_text(ROWS, crash_kernel=[(4 << 40, 5 << 40)])
    with pytest.raises(
        FormatError,
        match=exactly(
            "Crash kernel [0x40000000000, 0x50000000000): not inside one region of the map"
        ),
    ):
        parse(text)


@pytest.mark.parametrize("digits", [20, 5000])
def test_a_reservation_of_an_absurd_size_is_not_one(digits: int) -> None:
    line = f"Reserving {'9' * digits}MB of memory at {'9' * digits}MB for crashkernel\n"
    assert parse(maps.e820_text(ROWS) + line).crash_kernel.tolist() == []


def test_an_entry_number_with_more_digits_than_python_converts_is_refused() -> None:
    with pytest.raises(FormatError):
        parse(f"{'9' * 5000}/start:0x0\n")


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x00\xff" * 40, "café\n".encode("latin-1")])
def test_what_is_no_map_is_refused_with_what_it_starts_with(data: bytes) -> None:
    with pytest.raises(
        FormatError,
        match=exactly(
            f"not a memory map: starts with {data[:16]!r}; expected the text of /proc/iomem or"
            " /sys/firmware/memmap, e820 lines of dmesg, or an elfcorehdr"
        ),
    ):
        parse_memory_map(data)


@pytest.mark.parametrize(
    "spell", [maps.memmap_grep, maps.e820_text, lambda rows: maps.e820_text(rows, "old")]
)
def test_more_entries_than_firmware_can_have_are_refused(
    monkeypatch: pytest.MonkeyPatch, spell: maps.Speller
) -> None:
    several = [(n << 20, (n << 20) + 0x1000, RAM) for n in range(21)]
    monkeypatch.setattr(map_text, "MAX_OF_FIRMWARE", 20)
    assert len(parse(spell(several[:20])).ram) == 20
    with pytest.raises(FormatError, match=exactly("more than 20 entries of a firmware's map")):
        parse(spell(several))


def test_a_firmwares_map_as_rows_may_be_as_long_as_iomem() -> None:
    rows = [(n << 20, (n << 20) + 0x1000, RAM) for n in range(100_000)]
    assert len(parse(maps.memmap_rows(rows)).ram) == 100_000
