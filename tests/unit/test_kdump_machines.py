"""kdump files of other machines than x86-64: their headers, their names, and ``--machine``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.dead_machines import (
    Flavour,
    load_phdr,
    pack_elf,
    stamped,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.dumps import MemoryOutput, Watch, small_dump
from tests.builders.elf_dumps import Load, pack_dump, save_dump
from tests.builders.kdumps import PAGE, Kdump, flatten
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import Capture, ConfigError, UnsupportedError
from vmcorefs.core.elf.elf import ELFCLASS32, ELFCLASS64
from vmcorefs.core.elf.machines import long_bits
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.headers import parse_main_header
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.command import make_order, save_image
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.save.saver import Console

HIGH = 0x180000
"""A page frame number at 6 GiB."""
LOW = (1, 2, 5)

MACHINES = [
    pytest.param(b"i686", 3, "<", True, id="i686"),
    pytest.param(b"armv7l", 40, "<", False, id="LPAE"),
    pytest.param(b"armv7b", 40, ">", False, id="LPAE-big-endian"),
    pytest.param(b"ppc", 20, ">", False, id="ppc"),
    pytest.param(b"mips", 8, ">", False, id="mips"),
]


def narrow(
    pages: tuple[int, ...], machine: bytes, order: str, *, packed: bool, split: bool = False
) -> list[bytes]:
    """A dump of a 32-bit machine, or its two parts."""
    notes = vmcoreinfo_note(vmcoreinfo_text(), order)
    parts = [(0, 2), (2, HIGH + 1)] if split else [None]
    return [
        Kdump(
            pages, machine=machine, order=order, bits=32, packed=packed, notes=notes, split=part
        ).pack()
        for part in parts
    ]


def assert_all_is_there(capture: Capture, machine: int) -> None:
    header = capture.image.plan.elfcorehdr.header
    assert (header.elf_class, header.e_machine) == (ELFCLASS64, machine)
    for pfn in (*LOW, HIGH):
        assert capture["oldmem"].pread(PAGE, pfn * PAGE) == stamped(pfn * PAGE, (pfn + 1) * PAGE)
    vmcore = capture["vmcore"]
    assert vmcore.pread(8, vmcore.size - 8) == stamped((HIGH + 1) * PAGE - 8, (HIGH + 1) * PAGE)
    assert not [line for line in capture.image.warnings if "machine" in line]


@pytest.mark.parametrize("layout", ["kernel", "universal"])
@pytest.mark.parametrize(("name", "machine", "order", "packed"), MACHINES)
def test_a_32_bit_machine_with_memory_above_4_gib_has_headers_of_64_bits(
    tmp_path: Path,
    open_capture: Opener,
    name: bytes,
    machine: int,
    order: str,
    packed: bool,
    layout: str,
) -> None:
    (data,) = narrow((*LOW, HIGH), name, order, packed=packed)
    capture = open_capture(save_dump(tmp_path, data), layout=layout)
    assert_all_is_there(capture, machine)


@pytest.mark.parametrize(("name", "machine", "order", "packed"), MACHINES)
def test_so_has_one_that_is_flattened_or_split(
    tmp_path: Path, open_capture: Opener, name: bytes, machine: int, order: str, packed: bool
) -> None:
    (data,) = narrow((*LOW, HIGH), name, order, packed=packed)
    assert_all_is_there(open_capture(save_dump(tmp_path, flatten([(0, data)]))), machine)
    paths = []
    for number, part in enumerate(narrow((*LOW, HIGH), name, order, packed=packed, split=True)):
        paths.append(tmp_path / f"part{number}")
        paths[-1].write_bytes(part)
    assert_all_is_there(open_capture(paths), machine)


@pytest.mark.parametrize(("name", "machine", "order", "packed"), MACHINES)
def test_without_memory_above_4_gib_the_headers_have_32_bits(
    tmp_path: Path, open_capture: Opener, name: bytes, machine: int, order: str, packed: bool
) -> None:
    (data,) = narrow(LOW, name, order, packed=packed)
    header = open_capture(save_dump(tmp_path, data)).image.plan.elfcorehdr.header
    assert (header.elf_class, header.e_machine) == (ELFCLASS32, machine)


@pytest.mark.parametrize("machine", ["i686", "armv7l"])
def test_raw_memory_of_such_a_machine_gets_headers_of_64_bits(
    tmp_path: Path, open_capture: Opener, machine: str
) -> None:
    for name, start in (("low", 0), ("high", HIGH * PAGE)):
        (tmp_path / name).write_bytes(stamped(start, start + PAGE))
    iomem = tmp_path / "iomem"
    iomem.write_text("00000000-00000fff : System RAM\n180000000-180000fff : System RAM\n")
    pieces = [f"{tmp_path}/low@0", f"{tmp_path}/high@6G"]
    capture = open_capture(pieces, memory_map=iomem, machine=machine)
    header = capture.image.plan.elfcorehdr.header
    assert (header.elf_class, long_bits(header)) == (ELFCLASS64, 32)
    vmcore = capture["vmcore"]
    assert vmcore.pread(PAGE, vmcore.size - PAGE) == stamped(HIGH * PAGE, (HIGH + 1) * PAGE)


@pytest.mark.parametrize(
    ("machine", "bits", "order", "name"),
    [
        (62, 64, "<", b"x86_64"),
        (3, 32, "<", b"i686"),
        (3, 64, "<", b"i686"),  # PAE
        (183, 64, "<", b"aarch64"),
        (183, 64, ">", b"aarch64_be"),
        (20, 32, ">", b"ppc"),
        (21, 64, "<", b"ppc64le"),
        (21, 64, ">", b"ppc64"),
        (22, 64, ">", b"s390x"),
        (22, 32, ">", b"s390"),
        (243, 64, "<", b"riscv64"),
        (243, 32, "<", b"riscv32"),
        (8, 64, ">", b"mips64"),
        (8, 32, "<", b"mips"),
        (258, 64, "<", b"loongarch64"),
        (43, 64, ">", b"sparc64"),
        (0x9026, 64, "<", b"alpha"),
        (15, 32, ">", b"parisc"),
        (15, 64, ">", b"parisc64"),
    ],
)
def test_what_is_written_of_a_machine_is_read_back(
    tmp_path: Path, open_capture: Opener, machine: int, bits: int, order: str, name: bytes
) -> None:
    output = MemoryOutput()
    dump = small_dump(flavour=Flavour(bits, order, machine))
    KdumpFormat(find_codec("zlib"), 1)(dump, [output], Watch())
    assert bytes(output.data[12 + 4 * 65 :]).partition(b"\0")[0] == name
    capture = open_capture(save_dump(tmp_path, bytes(output.data)))
    header = capture.image.plan.elfcorehdr.header
    assert (header.e_machine, header.byte_order) == (machine, order)
    assert long_bits(header) == (32 if machine == 3 else bits)
    assert capture["oldmem"].pread(PAGE, PAGE) == stamped(PAGE, 2 * PAGE)
    assert not [line for line in capture.image.warnings if "machine" in line]


@pytest.mark.parametrize(
    ("name", "machine", "order"), [(b"riscv32", 243, "<"), (b"mips", 8, ">")], ids=["riscv", "mips"]
)
def test_a_kernel_says_itself_that_it_has_32_bits_where_its_headers_have_64(
    tmp_path: Path, open_capture: Opener, name: bytes, machine: int, order: ByteOrder
) -> None:
    """One that may be either, with memory above 4 GiB: an ELF dump of it, and that as kdump."""
    text = vmcoreinfo_text() + b"OFFSET(list_head.prev)=4\n"
    notes = vmcoreinfo_note(text, order)
    loads = [Load(pfn * PAGE, (pfn + 1) * PAGE) for pfn in (*LOW, HIGH)]
    path = save_dump(tmp_path, pack_dump(loads, notes, Flavour(64, order, machine)))
    capture = open_capture(path)
    assert capture.image.kernel is not None
    assert capture.image.kernel.word_size == 4
    order_of = make_order(str(tmp_path / "kdump"), (0,), "kdump", "none")
    save_image(capture.image, order_of, 1, Console(bar=False, say=None, warn=lambda _: None))
    main = parse_main_header((tmp_path / "kdump").read_bytes()[:PAGE])
    assert (main.abi.bits, main.utsname.machine) == (32, name)
    again = open_capture(tmp_path / "kdump")
    assert again["oldmem"].pread(PAGE, HIGH * PAGE) == stamped(HIGH * PAGE, (HIGH + 1) * PAGE)


def test_a_machine_that_we_do_not_know_is_written_all_the_same(
    tmp_path: Path, open_capture: Opener
) -> None:
    output = MemoryOutput()
    KdumpFormat(find_codec("zlib"), 1)(
        small_dump(flavour=Flavour(64, "<", 54321)), [output], Watch()
    )
    capture = open_capture(save_dump(tmp_path, bytes(output.data)))
    assert [line for line in capture.image.warnings if "pass --machine" in line]
    assert capture["oldmem"].pread(PAGE, PAGE) == stamped(PAGE, 2 * PAGE)


def test_where_headers_of_32_bits_are_too_few_the_error_names_the_file(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = [load_phdr(0, 0xFFFFF000), load_phdr(0xFFFFF000, 0xFFFFFFFF)]
    headers = tmp_path / "elfcorehdr"
    headers.write_bytes(pack_elf(ram, Flavour(32, "<", 3)))
    image = tmp_path / "ram"
    image.touch()
    os.truncate(image, 0x100000000)
    with pytest.raises(
        UnsupportedError, match=rf"^{image}: p_offset 0x100000000 does not fit into ELF32$"
    ):
        open_capture(image, memory_map=headers)


@pytest.mark.parametrize("name", [b"", b"Unknown", b"quantum\x1b[1m"])
def test_a_machine_that_is_not_named_or_not_known_warns_and_can_be_given(
    tmp_path: Path, open_capture: Opener, name: bytes
) -> None:
    path = save_dump(tmp_path, Kdump(LOW, machine=name).pack())
    capture = open_capture(path)
    assert capture.image.plan.elfcorehdr.header.e_machine == 0
    said = f"{path}: it does not say which machine it is of ({name.decode()!r}): pass --machine"
    assert said in capture.image.warnings
    assert "\x1b" not in said
    capture = open_capture(path, machine="arm64")
    assert capture.image.plan.elfcorehdr.header.e_machine == 183
    assert capture["vmcore"].pread(2, 18) == b"\xb7\0"
    assert not [line for line in capture.image.warnings if "machine" in line]


def test_an_elf_dump_without_a_machine_takes_the_one_that_is_given(
    tmp_path: Path, open_capture: Opener
) -> None:
    data = bytearray(pack_dump([Load(0, PAGE)], vmcoreinfo_note(vmcoreinfo_text())))
    data[18:20] = b"\0\0"
    path = save_dump(tmp_path, bytes(data))
    assert open_capture(path, machine="s390x")["vmcore"].pread(2, 18) == b"\x16\0"


@pytest.mark.parametrize(
    ("name", "given"),
    [(b"x86_64", "amd64"), (b"i586", "i386"), (b"S390X", "s390x"), (b"arm64", "aarch64")],
)
def test_a_machine_by_another_of_its_names_is_no_contradiction(
    tmp_path: Path, open_capture: Opener, name: bytes, given: str
) -> None:
    open_capture(save_dump(tmp_path, Kdump(LOW, machine=name).pack()), machine=given)


def test_a_machine_that_the_dump_contradicts_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    path = save_dump(tmp_path, Kdump(LOW).pack())
    with pytest.raises(
        ConfigError, match=exactly(f"the machine is given as 183, but {path} says 62")
    ):
        open_capture(path, machine="arm64")
