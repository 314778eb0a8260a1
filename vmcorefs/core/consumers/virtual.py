"""The rules of the tools that know kernels: crash, gdb, drgn, makedumpfile."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.consumers.objection import GIVE_VMCOREINFO, Objection
from vmcorefs.core.elf.dump_headers import DumpHeaders
from vmcorefs.core.elf.elf import EM_AARCH64, EM_PPC64, EM_RISCV, EM_X86_64, PT_LOAD, PT_NOTE
from vmcorefs.core.elf.notes import find_vmcoreinfo
from vmcorefs.core.space.units import KERNEL_HALF, format_size

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""__START_KERNEL_map of x86-64 (arch/x86/include/asm/page_64_types.h): text is above it."""

_UPPER_HALF = (EM_X86_64, EM_AARCH64, EM_RISCV, EM_PPC64)

_NOTE_TAIL = 32
"""makedumpfile reads a note's header and 15 bytes of its name whatever the note's size."""

_CRASH = "crash-utility/crash:netdump.c"
_DRGN = "osandov/drgn:libdrgn"
_MAKEDUMPFILE = "makedumpfile/makedumpfile:elf_info.c"


# --- crash ---------------------------------------------------------------------------------------


def _crash_wants_notes_first(dump: DumpHeaders) -> Iterator[Objection]:
    types = dump.phdrs["p_type"][:2].tolist()
    if types != [PT_NOTE, PT_LOAD]:
        yield Objection(
            "its first two program headers must be a PT_NOTE and a PT_LOAD",
            f"{_CRASH} is_netdump",
            fatal=True,
        )
        return
    first = dump.phdrs[1]
    if int(first["p_align"]) and not int(first["p_offset"]) % 4096:
        yield Objection(
            f"it takes a first PT_LOAD at a page boundary with p_align {int(first['p_align'])} for"
            " a netdump; p_align must be 0",
            f"{_CRASH} is_netdump",
            fatal=True,
        )
    if len(dump.note_phdrs) > 1:
        yield Objection(
            f"there are {len(dump.note_phdrs)} PT_NOTEs; it counts all but the first header as"
            " PT_LOADs",
            f"{_CRASH} is_netdump",
            fatal=True,
        )
    note = dump.phdrs[0]
    if int(note["p_offset"]) + int(note["p_filesz"]) > int(first["p_offset"]):
        yield Objection(
            "notes must lie before the first PT_LOAD's data", f"{_CRASH} is_netdump", fatal=True
        )


def _crash_wants_vmcoreinfo(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.vmcoreinfo is None:
        yield Objection(
            "without VMCOREINFO it knows neither phys_base nor the KASLR offset",
            "crash-utility/crash:x86_64.c x86_64_calc_phys_base, symbols.c derive_kaslr_offset",
            f"{GIVE_VMCOREINFO}; or crash --kaslr=OFFSET -m phys_base=ADDRESS",
            fatal=True,
        )
        return
    if dump.header.e_machine != EM_X86_64 or "NUMBER(phys_base)" in dump.vmcoreinfo.values:
        return
    loads = dump.loads
    text = loads[loads["p_vaddr"] >= START_KERNEL_MAP]
    if len(text) and int(text[0]["p_paddr"]) == dump.no_address:
        yield Objection(
            "VMCOREINFO has no NUMBER(phys_base), so it takes p_paddr of the kernel's text, which"
            " is -1",
            "crash-utility/crash:x86_64.c x86_64_calc_phys_base",
            "--layout kernel",
            fatal=True,
        )


def _crash_wants_all_of_the_file(dump: DumpHeaders) -> Iterator[Objection]:
    loads = dump.loads
    # Python's integers do not wrap
    ends = [int(load["p_offset"]) + int(load["p_filesz"]) for load in loads]
    if max(ends, default=0) > dump.size:
        yield Objection(
            f'it warns that the file "may be truncated": PT_LOADs end at {max(ends)}, the file at'
            f" {dump.size}",
            f"{_CRASH} check_dumpfile_size",
        )


def _crash_must_know_the_kernel(dump: DumpHeaders) -> Iterator[Objection]:
    release = _release(dump)
    if release >= (7, 0):
        yield Objection(
            "crash 9.0.2 does not know Linux 7.0, and 8.0.6 (Debian 13) ends at once on 7.3, seen",
            "crash-utility/crash#232",
            "a later crash",
        )
    elif release >= (6, 12):
        yield Objection(
            "crash 8.0.2 (Debian 12) ends at once on Linux 6.12",
            "seen, with a vmlinux of the same build; crash-utility/crash#194",
            "crash 8.0.6 (Debian 13)",
        )


# --- gdb -----------------------------------------------------------------------------------------


def _gdb_reads_virtual_addresses(dump: DumpHeaders) -> Iterator[Objection]:
    loads = dump.loads
    if not ((loads["p_vaddr"] != 0) & (loads["p_vaddr"] != dump.no_address)).any():
        yield Objection(
            "it reads by virtual address, and no PT_LOAD has one",
            "bminor/binutils-gdb:bfd/elf.c bfd_section_from_phdr",
            GIVE_VMCOREINFO,
        )
    else:
        kcore = "kcore, with gdb -x gdbinit"
        bare = int(loads["p_memsz"][loads["p_vaddr"] == 0].sum())
        if bare:
            yield Objection(
                f"it reads by virtual address, and PT_LOADs of {format_size(bare)} have none",
                "bminor/binutils-gdb:bfd/elf.c bfd_section_from_phdr",
                kcore if dump.vmcoreinfo is not None else GIVE_VMCOREINFO,
            )
        yield Objection(
            "it cannot follow stacks and modules, which are in vmalloc space",
            'seen: "Cannot access memory at address ..."',
            kcore if dump.vmcoreinfo is not None else f"{GIVE_VMCOREINFO}, and {kcore}",
        )
    if not any(note.is_prstatus for segment in dump.notes for note in segment):
        yield Objection(
            "no NT_PRSTATUS note: it has no registers of any CPU",
            "bminor/binutils-gdb:gdb/corelow.c",
        )


# --- drgn ----------------------------------------------------------------------------------------


def _drgn_wants_vmcoreinfo(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.vmcoreinfo is None:
        yield Objection(
            "without VMCOREINFO it takes the dump for that of a process",
            f"{_DRGN}/program.c drgn_program_set_core_dump",
            GIVE_VMCOREINFO,
            fatal=True,
        )
        return
    keys = ("OSRELEASE", "PAGESIZE", "SYMBOL(swapper_pg_dir)")
    lacking = [key for key in keys if key not in dump.vmcoreinfo.values]
    if lacking:
        yield Objection(
            f"VMCOREINFO has no {', '.join(lacking)}",
            f"{_DRGN}/linux_kernel.c parse_vmcoreinfo",
            GIVE_VMCOREINFO,
            fatal=True,
        )


def _drgn_wants_address_bits(dump: DumpHeaders) -> Iterator[Objection]:
    keys = ("NUMBER(TCR_EL1_T1SZ)", "NUMBER(VA_BITS)")
    if dump.header.e_machine != EM_AARCH64 or dump.vmcoreinfo is None:
        return
    if not any(key in dump.vmcoreinfo.values for key in keys):
        yield Objection(
            f"VMCOREINFO has neither {' nor '.join(keys)}: it cannot follow page tables",
            f"{_DRGN}/arch_aarch64.c",
            GIVE_VMCOREINFO,
        )


def _drgn_believes_p_vaddr(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.vmcoreinfo is None:
        return
    source = f"{_DRGN}/program.c drgn_program_set_core_dump; osandov/drgn#461"
    remedy = "DRGN_PREFER_PGTABLE_READER=1 in its environment"
    vaddrs = dump.loads["p_vaddr"]
    if (vaddrs == 0).any():
        rule = "it trusts p_vaddr 0, and so reads memory near address 0, where there is none"
        yield Objection(rule, source, remedy)
    wrong = vaddrs[(vaddrs > 0) & (vaddrs < KERNEL_HALF)]
    if len(wrong) and dump.header.e_machine in _UPPER_HALF:
        rule = f"it trusts p_vaddr {int(wrong[0]):#x}, which is no address of a kernel"
        yield Objection(rule, source, remedy)


# --- makedumpfile --------------------------------------------------------------------------------


def _makedumpfile_ignores_e_phoff(dump: DumpHeaders) -> Iterator[Objection]:
    header = dump.header
    if header.e_phoff != header.ehdr_size:
        yield Objection(
            f"it looks for program headers at {header.ehdr_size}; e_phoff is {header.e_phoff}",
            f"{_MAKEDUMPFILE} get_elf64_phdr",
            fatal=True,
        )


def _makedumpfile_wants_notes(dump: DumpHeaders) -> Iterator[Objection]:
    segments = dump.note_phdrs
    if not len(segments) or not int(segments[-1]["p_filesz"]):
        yield Objection(
            "there is no PT_NOTE, or nothing in it",
            f"{_MAKEDUMPFILE} get_elf_info",
            GIVE_VMCOREINFO,
            fatal=True,
        )
        return
    if find_vmcoreinfo(dump.notes[-1]) is None:
        why = (
            "without VMCOREINFO"
            if dump.vmcoreinfo is None
            else "of several PT_NOTEs it reads only the last, which has no VMCOREINFO: so"
        )
        yield Objection(
            f"{why} it leaves out zero pages (-d 1) and no others, and finds no log",
            f"{_MAKEDUMPFILE} get_pt_note_info",
            f"{GIVE_VMCOREINFO}; or makedumpfile -x VMLINUX",
        )
    tail = dump.size - int(segments[-1]["p_offset"]) - int(segments[-1]["p_filesz"])
    if tail < _NOTE_TAIL:
        yield Objection(
            f"it reads up to {_NOTE_TAIL} bytes past the last note; the file ends after {tail}",
            f"{_MAKEDUMPFILE} get_pt_note_info",
            fatal=True,
        )


def _makedumpfile_must_know_the_kernel(dump: DumpHeaders) -> Iterator[Objection]:
    release = _release(dump)
    if release >= (7, 0):
        yield Objection(
            "1.7.8 with -d 8 or more leaves out kernel pages of Linux 7.3, seen: drgn finds some"
            " excluded; it looks for page.compound_head, which is compound_info there",
            "makedumpfile:makedumpfile.c",
            "vmcorefs save, or a later makedumpfile",
        )
    elif release >= (6, 12):
        yield Objection(
            "1.7.2 (Debian 12) with -d 8 or more leaves out kernel pages of Linux 6.12, seen: drgn"
            " finds task_structs excluded; 1.7.6 (Debian 13) takes free pages for used ones",
            "makedumpfile/makedumpfile#16, sonic-net/sonic-buildimage#25899",
            "makedumpfile 1.7.7 or later for free pages of Linux 6.12 and later",
        )


# --- what they have in common --------------------------------------------------------------------


def _release(dump: DumpHeaders) -> tuple[int, int]:
    release = dump.vmcoreinfo.release_version if dump.vmcoreinfo is not None else None
    return release or (0, 0)


CRASH = (
    _crash_wants_notes_first,
    _crash_wants_vmcoreinfo,
    _crash_wants_all_of_the_file,
    _crash_must_know_the_kernel,
)
GDB = (_gdb_reads_virtual_addresses,)
DRGN = (_drgn_wants_vmcoreinfo, _drgn_wants_address_bits, _drgn_believes_p_vaddr)
MAKEDUMPFILE = (
    _makedumpfile_ignores_e_phoff,
    _makedumpfile_wants_notes,
    _makedumpfile_must_know_the_kernel,
)
