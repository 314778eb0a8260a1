"""Each tool's rules, one by one, on headers that break just that one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from tests.builders.dead_machines import (
    DIRECT_MAP,
    EM_PPC64,
    TEXT_VADDR,
    X86_64,
    Flavour,
    Phdr,
    load_phdr,
    note_phdr,
    pack_elf,
    prstatus_note,
    vmcoreinfo_note,
)
from vmcorefs.core.consumers.verdicts import RULES, Answer, Verdict, judge
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.elf.elf import EM_386, EM_AARCH64, EM_X86_64

NO_PADDR = 2**64 - 1
INFO = (
    b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82a10000\n"
    b"NUMBER(phys_base)=0\n"
)
MIB = 1 << 20


def ram(offset: int, paddr: int, size: int, **fields: int) -> Phdr:
    vaddr = fields.pop("p_vaddr", DIRECT_MAP + paddr)
    return Phdr(1, offset, size, p_paddr=paddr, p_vaddr=vaddr, **fields)


@dataclass
class Dump:
    """A dump that every tool opens, 32 MiB, and what may be otherwise."""

    loads: list[Phdr] = field(
        default_factory=lambda: [
            ram(0x4000, 0x1000, 0x9F000),
            ram(0xA3000, 0x100000, 16 * MIB),
            ram(0xA3000 + 0x40000, NO_PADDR, 0x21000, p_vaddr=TEXT_VADDR, p_filesz=0x20FFF),
        ]
    )
    info: bytes | None = INFO
    cpus: int = 1
    size: int = 32 * MIB
    flavour: Flavour = X86_64
    note_offset: int = 0x3000
    host: int = EM_X86_64

    @property
    def notes(self) -> bytes:
        order = self.flavour.order
        registers = prstatus_note(1, 2, 3, order) * self.cpus
        return registers + (vmcoreinfo_note(self.info, order) if self.info is not None else b"")

    @property
    def note(self) -> Phdr:
        return note_phdr(self.note_offset, len(self.notes))

    def pack(self, phdrs: list[Phdr] | None = None, **fields: int) -> bytes:
        chosen = [self.note, *self.loads] if phdrs is None else phdrs
        head = pack_elf(chosen, self.flavour, **fields)
        return head.ljust(self.note_offset, b"\0") + self.notes + bytes(64)

    def verdicts(self, phdrs: list[Phdr] | None = None, **fields: int) -> dict[str, Verdict]:
        data = self.pack(phdrs, **fields)

        def pread(size: int, offset: int) -> bytes:
            return data[offset : offset + size]

        return {each.tool: each for each in judge(read_dump_headers(pread, self.size), self.host)}


def answers(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {tool: verdict.answer.value for tool, verdict in verdicts.items()}


def rules(verdict: Verdict) -> list[str]:
    return [each.rule for each in verdict.objections]


GOOD = {
    "crash": "yes",
    "gdb": "yes, but",
    "drgn": "yes",
    "makedumpfile": "yes",
    "libkdumpfile": "yes",
    "volatility3": "yes",
    "MemProcFS": "yes, but",
}
"""Of a dump that breaks no rule: gdb follows no stack, and MemProcFS knows no Linux."""


def changed(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """The answers that are not those of a good dump."""
    return {tool: said for tool, said in answers(verdicts).items() if said != GOOD[tool]}


def test_a_good_dump_is_opened_by_all_of_the_seven() -> None:
    verdicts = Dump().verdicts()
    assert answers(verdicts) == GOOD
    assert list(RULES) == list(GOOD)
    assert rules(verdicts["gdb"]) == [
        "it cannot follow stacks and modules, which are in vmalloc space"
    ]
    assert verdicts["gdb"].objections[0].remedy == "kcore, with gdb -x gdbinit"
    assert rules(verdicts["MemProcFS"]) == [
        "it shows physical memory and analyses Windows: it has nothing for Linux"
    ]


def test_every_objection_says_where_the_rule_stands() -> None:
    bad = Dump(
        loads=[ram(0x4000, 0x100000, 0x1800, p_align=4096), ram(0x4000, 0x1000, 0x1000)],
        info=None,
        cpus=0,
        size=0x4000,
    )
    for verdict in bad.verdicts([*bad.loads, bad.note], e_phoff=64).values():
        assert verdict.objections
        assert all(each.source and each.rule for each in verdict.objections)


def test_no_vmcoreinfo() -> None:
    verdicts = Dump(info=None).verdicts()
    assert changed(verdicts) == {
        "crash": "no",
        "drgn": "no",
        "makedumpfile": "yes, but",
        "libkdumpfile": "yes, but",
    }
    assert (
        verdicts["gdb"].objections[0].remedy == "--vmcoreinfo FILE, and kcore, with gdb -x gdbinit"
    )
    for tool in ("crash", "drgn", "makedumpfile", "libkdumpfile"):
        assert verdicts[tool].objections[0].remedy.startswith("--vmcoreinfo FILE"), tool
    assert rules(verdicts["makedumpfile"]) == [
        "without VMCOREINFO it leaves out zero pages (-d 1) and no others, and finds no log"
    ]


def test_no_notes_at_all() -> None:
    verdicts = Dump(info=None, cpus=0).verdicts()
    assert rules(verdicts["makedumpfile"]) == ["there is no PT_NOTE, or nothing in it"]
    assert rules(verdicts["gdb"])[1:] == ["no NT_PRSTATUS note: it has no registers of any CPU"]


@pytest.mark.parametrize("key", [b"OSRELEASE", b"PAGESIZE", b"SYMBOL(swapper_pg_dir)"])
def test_drgn_needs_three_lines_of_vmcoreinfo(key: bytes) -> None:
    lines = [line for line in INFO.splitlines(keepends=True) if not line.startswith(key)]
    verdicts = Dump(info=b"".join(lines)).verdicts()
    assert changed(verdicts) == {"drgn": "no"}
    assert rules(verdicts["drgn"]) == [f"VMCOREINFO has no {key.decode()}"]


def test_crash_takes_phys_base_from_text_that_has_no_address() -> None:
    dump = Dump(info=INFO.replace(b"NUMBER(phys_base)=0\n", b""))
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"crash": "no"}
    assert verdicts["crash"].objections[0].remedy == "--layout kernel"
    dump.loads[-1] = ram(0x4000, 0x140000, 0x1000, p_vaddr=TEXT_VADDR)
    assert dump.verdicts()["crash"].answer is Answer.YES


def test_p_align_of_a_page_is_a_netdump_to_crash() -> None:
    dump = Dump()
    dump.loads[0] = dump.loads[0]._replace(p_align=4096)
    assert changed(dump.verdicts()) == {"crash": "no"}
    # ... unless it is not at a page boundary
    dump.loads[0] = dump.loads[0]._replace(p_offset=0x4400)
    assert dump.verdicts()["crash"].answer is Answer.YES


def test_notes_behind_the_memory_are_not_seen_by_crash() -> None:
    dump = Dump()
    last = dump.verdicts([*dump.loads, dump.note])
    assert changed(last) == {"crash": "no"}
    assert rules(last["crash"]) == ["its first two program headers must be a PT_NOTE and a PT_LOAD"]
    dump.loads[0] = dump.loads[0]._replace(p_offset=0x3000)
    assert rules(dump.verdicts()["crash"]) == ["notes must lie before the first PT_LOAD's data"]


def test_a_file_that_ends_early_is_a_warning_of_crash() -> None:
    verdicts = Dump(size=16 * MIB).verdicts()
    assert changed(verdicts) == {"crash": "yes, but"}
    assert rules(verdicts["crash"])[0].endswith(
        f"PT_LOADs end at {0xA3000 + 16 * MIB}, the file at {16 * MIB}"
    )


@pytest.mark.parametrize(
    ("release", "remedy"),
    [
        (b"6.11.9", None),
        (b"6.12.1", "makedumpfile 1.7.7 or later for free pages of Linux 6.12 and later"),
        (b"7.0.0", "vmcorefs save, or a later makedumpfile"),
    ],
)
def test_new_kernels_need_new_tools(release: bytes, remedy: str | None) -> None:
    verdicts = Dump(info=INFO.replace(b"6.1.0", release)).verdicts()
    new = ("crash", "makedumpfile") if remedy else ()
    assert changed(verdicts) == dict.fromkeys(new, "yes, but")
    if remedy:
        assert verdicts["makedumpfile"].objections[0].remedy == remedy


def test_no_virtual_addresses() -> None:
    dump = Dump(loads=[ram(0x4000, 0x1000, 32 << 12, p_vaddr=0)])
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"drgn": "yes, but"}
    assert rules(verdicts["gdb"]) == ["it reads by virtual address, and no PT_LOAD has one"]
    assert verdicts["gdb"].objections[0].remedy == "--vmcoreinfo FILE"


def test_a_virtual_address_that_no_kernel_has() -> None:
    dump = Dump()
    dump.loads[1] = ram(0xA3000, 0x100000, 16 * MIB, p_vaddr=0x47400000)
    assert changed(dump.verdicts()) == {"drgn": "yes, but"}
    (rule,) = rules(dump.verdicts()["drgn"])
    assert rule == "it trusts p_vaddr 0x47400000, which is no address of a kernel"


def test_memory_without_virtual_addresses_beside_the_image() -> None:
    dump = Dump()
    dump.loads[1] = ram(0xA3000, 0x100000, 16 * MIB, p_vaddr=0)
    assert changed(dump.verdicts()) == {"drgn": "yes, but"}
    assert rules(dump.verdicts()["gdb"])[0] == (
        "it reads by virtual address, and PT_LOADs of 16 MiB have none"
    )


def test_program_headers_that_do_not_follow_the_elf_header() -> None:
    dump = Dump()
    packed = dump.pack()
    phdrs = packed[64 : 64 + 4 * 56]
    data = packed[:32] + (128).to_bytes(8, "little") + packed[40:64].ljust(88, b"\0") + phdrs
    data = data.ljust(dump.note_offset, b"\0") + packed[dump.note_offset :]

    def pread(size: int, offset: int) -> bytes:
        return data[offset : offset + size]

    verdicts = {each.tool: each for each in judge(read_dump_headers(pread, dump.size), EM_X86_64)}
    assert changed(verdicts) == {"makedumpfile": "no"}
    assert rules(verdicts["makedumpfile"]) == ["it looks for program headers at 64; e_phoff is 128"]


def test_of_two_note_segments_makedumpfile_reads_the_last() -> None:
    dump = Dump()
    other = note_phdr(dump.note_offset, len(prstatus_note(1, 2, 3)))
    verdicts = dump.verdicts([dump.note, *dump.loads, other])
    assert changed(verdicts) == {"crash": "no", "makedumpfile": "yes, but"}
    assert rules(verdicts["makedumpfile"])[0].startswith(
        "of several PT_NOTEs it reads only the last, which has no VMCOREINFO"
    )
    assert rules(verdicts["crash"]) == [
        "there are 2 PT_NOTEs; it counts all but the first header as PT_LOADs"
    ]


def test_a_file_that_ends_with_its_notes_is_too_short_for_makedumpfile() -> None:
    dump = Dump()
    dump.size = dump.note_offset + len(dump.notes) + 31
    assert "it reads up to 32 bytes past the last note; the file ends after 31" in rules(
        dump.verdicts()["makedumpfile"]
    )
    dump.size += 1
    assert rules(dump.verdicts()["makedumpfile"]) == []


@pytest.mark.parametrize(
    ("flavour", "what"),
    [
        (Flavour(64, ">", EM_PPC64), "big-endian ELF64"),
        (Flavour(32, "<", 3), "little-endian ELF32"),
    ],
)
def test_volatility3_reads_little_endian_elf64_alone(flavour: Flavour, what: str) -> None:
    dump = Dump(loads=[load_phdr(0x4000, 0x5000, vaddr=0xC0004000)], flavour=flavour)
    verdict = dump.verdicts()["volatility3"]
    assert verdict.answer is Answer.NO
    assert rules(verdict) == [f"it reads only little-endian ELF64; this is {what}"]


def test_text_first_confuses_volatility3_and_stops_leechcore() -> None:
    dump = Dump()
    text = ram(0x4000, 0x140000, 0x21000, p_vaddr=TEXT_VADDR)
    dump.loads = [text, ram(0x25000, 0x1000, 0x9F000), ram(0xC4000, 0x100000, 16 * MIB)]
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"volatility3": "yes, but", "MemProcFS": "no"}
    assert rules(verdicts["volatility3"])[0] == (
        "PT_LOADs are not in order of address: it takes [0x140000, 0x1100000) for all of memory,"
        " scans nothing else, and looks addresses up by binary search"
    )
    assert rules(verdicts["MemProcFS"])[0] == (
        "PT_LOADs must be in order of address, and not overlap"
    )
    for tool in ("volatility3", "MemProcFS"):
        assert verdicts[tool].objections[0].remedy == "--layout universal"


def test_segments_that_are_longer_in_memory_are_not_seen() -> None:
    dump = Dump(loads=[ram(0x4000, 0x1000, 17 * MIB, p_filesz=16 * MIB)])
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"volatility3": "no", "MemProcFS": "no"}
    assert rules(verdicts["volatility3"]) == ["no PT_LOAD has p_filesz equal to p_memsz"]
    assert rules(verdicts["MemProcFS"])[0] == "it accepts none of the PT_LOADs"


def test_leechcore_leaves_out_what_is_no_whole_page() -> None:
    dump = Dump()
    dump.loads[0] = ram(0x4000, 0x1000, 0x9EC00)
    verdict = dump.verdicts()["MemProcFS"]
    assert verdict.answer is Answer.BUT
    assert rules(verdict)[0] == (
        "it leaves out PT_LOADs that are not whole pages of 4 KiB: 1, the first of them"
        " [0x1000, 0x9fc00)"
    )


def test_leechcore_reads_145_program_headers() -> None:
    loads = [ram(0x4000 + (n << 12), n << 13, 0x1000) for n in range(1, 146)]
    dump = Dump(loads=loads[:144])
    assert changed(dump.verdicts()) == {}
    dump = Dump(loads=loads)
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"MemProcFS": "no"}
    first = verdicts["MemProcFS"].objections[0]
    assert first.rule == "146 program headers; it reads at most 145, those in the first 8 KiB"
    # in order of address already: another layout would have as many
    assert first.remedy == ""


def test_leechcore_opens_no_file_below_16_mib() -> None:
    dump = Dump(loads=[ram(0x4000, 0x1000, 0x1000)], size=16 * MIB - 1)
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"MemProcFS": "no"}
    dump.size += 1
    assert changed(dump.verdicts()) == {}


def test_volatility3_counts_to_65535() -> None:
    loads = [ram(0x400000, n << 13, 0x1000) for n in range(65535)]
    dump = Dump(loads=loads, note_offset=0x390000, size=1 << 40)
    section = b"".join(
        [bytes(44), (65536).to_bytes(4, "little"), bytes(16)]
    )  # sh_info, at 44 of 64
    head = pack_elf([dump.note, *loads], e_phnum=0xFFFF, e_shoff=64 + 65536 * 56, e_shnum=1)
    data = (head + section).ljust(dump.note_offset, b"\0") + dump.notes

    def pread(size: int, offset: int) -> bytes:
        return data[offset : offset + size]

    verdicts = {each.tool: each for each in judge(read_dump_headers(pread, dump.size), EM_X86_64)}
    assert rules(verdicts["volatility3"]) == [
        "it knows no extended e_phnum: of 65536 program headers it reads the first 65535"
    ]


def test_volatility3_walks_four_levels_of_x86() -> None:
    dump = Dump(info=INFO + b"NUMBER(pgtable_l5_enabled)=0\n")
    assert changed(dump.verdicts()) == {}
    dump.info = INFO + b"NUMBER(pgtable_l5_enabled)=1\n"
    verdicts = dump.verdicts()
    assert changed(verdicts) == {"volatility3": "yes, but"}
    (objection,) = verdicts["volatility3"].objections
    assert objection.rule == (
        "it walks page tables of 4 levels, and this kernel's have 5: it finds no tasks"
    )
    assert "#1938" in objection.source
    dump = Dump(flavour=Flavour(64, "<", EM_AARCH64), host=EM_AARCH64)
    assert rules(dump.verdicts()["volatility3"]) == [
        "of Linux it walks page tables of x86 alone: it finds no tasks"
    ]


def test_a_tool_of_the_dumps_own_machine_need_not_be_built() -> None:
    dump = Dump(flavour=Flavour(64, "<", EM_AARCH64), cpus=0, host=EM_AARCH64)
    dump.info = INFO + b"NUMBER(VA_BITS)=48\n"
    assert changed(dump.verdicts()) == {"volatility3": "yes, but"}
    assert not any("built" in rule for each in dump.verdicts().values() for rule in rules(each))


def test_a_dump_of_x86_needs_tools_for_it_on_another_machine() -> None:
    verdicts = Dump(host=EM_AARCH64).verdicts()
    assert changed(verdicts) == {"crash": "yes, but", "makedumpfile": "yes, but"}
    for tool in ("crash", "gdb", "makedumpfile"):
        assert rules(verdicts[tool])[-1] == "it must be built for x86_64", tool


def test_gdb_of_x86_64_reads_a_dump_of_a_32_bit_x86() -> None:
    verdicts = Dump(flavour=Flavour(32, "<", EM_386), cpus=0, loads=[]).verdicts()
    assert "it must be built for i686" in rules(verdicts["crash"])
    assert not any("built" in rule for rule in rules(verdicts["gdb"]))


def test_a_dump_that_names_no_machine_needs_none_in_particular() -> None:
    verdicts = Dump(flavour=Flavour(64, "<", 0), cpus=0).verdicts()
    assert not any("built" in rule for each in verdicts.values() for rule in rules(each))


def test_no_address_of_some_other_machine_is_quoted() -> None:
    for verdict in Dump().verdicts().values():
        for each in verdict.objections:
            assert not re.search("0x[0-9a-f]{9,}", each.rule + each.source)


def test_tools_for_one_machine_must_be_built_for_the_dumps() -> None:
    dump = Dump(flavour=Flavour(64, "<", 183), cpus=0)
    verdicts = dump.verdicts()
    assert changed(verdicts) == {
        "crash": "yes, but",
        "makedumpfile": "yes, but",
        "drgn": "yes, but",
        "volatility3": "yes, but",
    }
    for tool in ("crash", "gdb", "makedumpfile"):
        assert rules(verdicts[tool])[-1] == "it must be built for aarch64", tool
    assert rules(verdicts["drgn"]) == [
        (
            "VMCOREINFO has neither NUMBER(TCR_EL1_T1SZ) nor NUMBER(VA_BITS): it cannot follow page"
            " tables"
        )
    ]
    dump.info = INFO + b"NUMBER(VA_BITS)=48\n"
    assert dump.verdicts()["drgn"].answer is Answer.YES


def test_libkdumpfile_knows_how_long_registers_are() -> None:
    # those of x86-64 in a dump of aarch64
    verdict = Dump(flavour=Flavour(64, "<", 183)).verdicts()["libkdumpfile"]
    assert verdict.answer is Answer.NO
    assert rules(verdict) == ["an NT_PRSTATUS of this machine has 392 bytes, not 336"]


def test_leechcore_takes_a_big_endian_core_for_raw_memory() -> None:
    verdict = Dump(flavour=Flavour(64, ">", EM_PPC64)).verdicts()["MemProcFS"]
    assert verdict.answer is Answer.NO
    assert rules(verdict)[0] == (
        "it reads only little-endian cores, and takes this for raw memory from address 0 on"
    )
