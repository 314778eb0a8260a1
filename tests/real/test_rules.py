"""The tools themselves on hand-made dumps that break one rule each, and what is said of them.

No kernel is needed: 32 MiB, one note of a CPU, and a VMCOREINFO. Each case names the tools that
open it otherwise than the good dump, and what they do then.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.builders.dead_machines import (
    DIRECT_MAP,
    EM_PPC64,
    TEXT_VADDR,
    X86_64,
    Flavour,
    Phdr,
    note_phdr,
    pack_elf,
    pack_note,
    prstatus_note,
    vmcoreinfo_note,
)
from tests.real import tools
from vmcorefs.core.consumers.verdicts import Answer, judge
from vmcorefs.core.elf.dump_headers import read_dump_headers
from vmcorefs.core.elf.elf import EM_X86_64

MIB: Final = 1 << 20
NO_PADDR: Final = 2**64 - 1
NOTES_AT: Final = 0x8000
DATA_AT: Final = 0x9000
INFO: Final = (
    b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff81000000\n"
    b"SYMBOL(swapper_pg_dir)=ffffffff81010000\nNUMBER(phys_base)=0\nKERNELOFFSET=0\n"
)
TEXT: Final = Phdr(1, DATA_AT + MIB, MIB, NO_PADDR, TEXT_VADDR, p_filesz=MIB - 1)


def ram(paddr: int, size: int, *, offset: int, **fields: int) -> Phdr:
    return Phdr(1, offset, size, paddr, DIRECT_MAP + paddr)._replace(**fields)


GOOD: Final = (
    ram(0x1000, 0x9F000, offset=DATA_AT),
    ram(0x100000, 24 * MIB, offset=DATA_AT + 0x9F000),
    TEXT,
)


@dataclass(frozen=True)
class Case:
    """A dump that is good but for what is given.

    Attributes:
        wanted: Tools that do not open it like a good one, and their answers.
    """

    wanted: dict[str, str]
    loads: tuple[Phdr, ...] = GOOD
    info: bytes | None = INFO
    notes_last: bool = False
    e_phoff: int = 64
    size: int = 32 * MIB
    twice: bool = False
    registers: bytes = prstatus_note(1, 2, 3)
    flavour: Flavour = X86_64

    def write(self, path: Path) -> None:
        order = self.flavour.order
        info = vmcoreinfo_note(self.info, order) if self.info is not None else b""
        notes = self.registers + info
        note = note_phdr(NOTES_AT, len(notes))
        phdrs = [*self.loads, note] if self.notes_last else [note, *self.loads]
        if self.twice:  # another PT_NOTE, with the registers alone
            phdrs.append(note_phdr(NOTES_AT, len(self.registers)))
        head = pack_elf(phdrs, self.flavour, e_phoff=self.e_phoff)
        at = self.e_phoff
        with path.open("wb") as file:
            file.write(head[:64].ljust(at, b"\0") + head[64:])
            file.seek(NOTES_AT)
            file.write(notes)
            file.truncate(self.size)


def many(count: int) -> tuple[Phdr, ...]:
    return tuple(ram(n << 13, 0x1000, offset=DATA_AT + (n << 12)) for n in range(1, count + 1))


TEXT_FIRST: Final = (
    Phdr(1, DATA_AT, MIB, MIB, TEXT_VADDR),
    ram(0x1000, 0x9F000, offset=DATA_AT + MIB),
    ram(0x100000, 24 * MIB, offset=DATA_AT + 2 * MIB),
)

CASES: Final = {
    "good": Case({}),
    "text first": Case({"volatility3": "yes, but", "MemProcFS": "no"}, TEXT_FIRST),
    "p_align of a page": Case({"crash": "no"}, tuple(p._replace(p_align=4096) for p in GOOD)),
    "notes last": Case({"crash": "no"}, notes_last=True),
    "e_phoff 128": Case({"makedumpfile": "no"}, e_phoff=128),
    "145 headers": Case({}, many(144)),
    "146 headers": Case({"MemProcFS": "no"}, many(145)),
    "512 headers": Case({"MemProcFS": "no"}, many(511)),
    "no VMCOREINFO": Case(
        {
            "crash": "no",
            "drgn": "no",
            "makedumpfile": "yes, but",
            "libkdumpfile": "yes, but",
        },
        info=None,
    ),
    "two PT_NOTEs": Case({"crash": "no", "makedumpfile": "yes, but"}, twice=True),
    "no PAGESIZE": Case({"drgn": "no"}, info=INFO.replace(b"PAGESIZE=4096\n", b"")),
    "no swapper_pg_dir": Case({"drgn": "no"}, info=INFO.replace(b"SYMBOL(swapper", b"X(swapper")),
    "p_vaddr 0": Case({"drgn": "yes, but"}, (GOOD[0]._replace(p_vaddr=0), *GOOD[1:])),
    "below 16 MiB": Case(
        {"MemProcFS": "no"},
        (GOOD[0], ram(0x100000, 8 * MIB, offset=DATA_AT + 0x9F000), TEXT),
        size=16 * MIB - 4096,
    ),
    "short registers": Case({"libkdumpfile": "no"}, registers=pack_note(b"CORE", 1, bytes(300))),
    "nothing whole": Case(
        {"volatility3": "no", "MemProcFS": "no"},
        tuple(load._replace(p_filesz=load.p_memsz - 1) for load in GOOD),
    ),
}


def _crash(dump: Path) -> str:
    said = tools.attempt(["crash", "--osrelease", dump]).stdout
    return "yes" if said == "6.1.0\n" else "no"


def _drgn(dump: Path) -> str:
    script = (
        "import drgn, sys\n"
        "p = drgn.Program()\n"
        "p.set_core_dump(sys.argv[1])\n"
        "assert p.flags & drgn.ProgramFlags.IS_LINUX_KERNEL\n"
        "try:\n p.read(0, 8)\n print('yes, but')\n"
        "except drgn.FaultError:\n print('yes')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, dump], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else "no"


def _makedumpfile(dump: Path) -> str:
    said = tools.attempt(["makedumpfile", "-d", "1", "-f", dump, dump.with_name("out")]).stdout
    if "get_elf_info: " in said:
        return "no"
    # with a VMCOREINFO it goes on to a kernel's symbols, which this dump has not
    return "yes, but" if "makedumpfile Completed." in said else "yes"


def _libkdumpfile(dump: Path) -> str:
    said = tools.physical("libkdumpfile", dump, [0x2000])
    if not said["opened"] or not said["pages"]["8192"]:
        return "no"
    return "yes, but" if said["release"] is None else "yes"


def _volatility3(dump: Path) -> str:
    said = tools.physical("volatility3", dump, [])
    if not said["opened"]:
        return "no"
    return "yes" if said["minimum"] <= 0x2000 else "yes, but"


def _memprocfs(dump: Path) -> str:
    return "yes, but" if tools.physical("leechcore", dump, [])["opened"] else "no"


PROBES: Final = {
    "crash": _crash,
    "drgn": _drgn,
    "makedumpfile": _makedumpfile,
    "libkdumpfile": _libkdumpfile,
    "volatility3": _volatility3,
    "MemProcFS": _memprocfs,
}
ALL_GOOD: Final = dict.fromkeys(PROBES, "yes") | {"MemProcFS": "yes, but"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rules_are_the_tools(case: Case, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    case.write(dump)
    with dump.open("rb") as file:

        def read(size: int, offset: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        verdicts = judge(read_dump_headers(read, dump.stat().st_size), EM_X86_64)
    said = {each.tool: each.answer.value for each in verdicts}
    assert said.pop("gdb") == Answer.BUT
    assert said == ALL_GOOD | case.wanted
    assert {tool: probe(dump) for tool, probe in PROBES.items()} == said


def test_leechcore_takes_a_big_endian_core_for_raw_memory(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    Case({}, flavour=Flavour(64, ">", EM_PPC64)).write(dump)
    assert tools.physical("leechcore", dump, [])["ranges"] == [[0, 32 * MIB]]
    assert not tools.physical("volatility3", dump, [])["opened"]
