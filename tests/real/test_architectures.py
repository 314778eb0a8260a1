"""Machines of other architectures under QEMU, each kernel found from its memory alone.

What is true comes from the guest: its /proc/iomem, /proc/kallsyms, /sys/kernel/btf and dmesg; and
from QEMU, which dumped the stopped machine, and said what the registers of its CPUs were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import drgn
import numpy as np
import pytest
from drgn.helpers.linux.pid import find_task, for_each_task

from tests.matching import same_bytes
from tests.real.marks import REAL, stopped
from tests.real.sums import kallsyms_sums, md5, sum_of
from tests.real.tools import assert_in_order, gdb_script
from tests.real.trees import compare, mounted, vmcorefs
from tests.real.truth import crashed_ram, segments, spans
from tests.real.walked import MACHINES, Walked, walked
from vmcorefs import open as open_capture
from vmcorefs.core.elf.elf import parse_ehdr
from vmcorefs.core.elf.machines import usual_byte_order
from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import intersect, make_ranges, total_size
from vmcorefs.core.structures.kallsyms import read_symbols
from vmcorefs.core.structures.printk import read_log
from vmcorefs.kernel.symbols import find_btf, find_symbols

if TYPE_CHECKING:
    from tests.lab.capture import Snapshot

pytestmark = REAL


@dataclass(frozen=True)
class Facts:
    """What is to be seen of an architecture.

    Args:
        fmt: its page tables.
        linear_map: how far it is above physical addresses.
        stack: where a kernel thread waits, by drgn, the innermost function first; empty if drgn
            does not unwind its stacks.
        warns: what ``mount`` says of its memory, as a pattern.
        registers: of QEMU's words, each pattern with the names of its groups.
    """

    fmt: str
    linear_map: int
    stack: tuple[str, ...]
    warns: str
    registers: tuple[tuple[str, str], ...]


_RISCV: Final = (
    "ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
_WAITING: Final = ("__switch_to", "__schedule", "schedule", "kthreadd")
FACTS: Final = {
    "ppc64el": Facts(
        "ppc64 radix, 4 KiB pages",
        0xC000_0000_0000_0000,
        _WAITING,
        "",
        (
            (r"^NIP (\w+) +LR (\w+) CTR (\w+) XER (\w+)", "nip link ctr xer"),
            *(
                (rf"^GPR{n:02} (\w+) (\w+) (\w+) (\w+)", f"gpr{n} gpr{n + 1} gpr{n + 2} gpr{n + 3}")
                for n in range(0, 32, 4)
            ),
        ),
    ),
    "riscv64": Facts(
        "riscv64, Sv57",
        0xFF60_0000_0000_0000 - 0x8000_0000,
        (),
        "",
        (
            (r"^ pc +(\w+)", "pc"),
            *((rf" x{n}/{name} +(\w+)", name) for n, name in enumerate(_RISCV.split(), 1)),
        ),
    ),
    "s390x": Facts(
        "s390x, 3 levels",
        0,
        _WAITING[1:],
        "vmcorefs: warning: no CPU's crash notes: kallsyms: no crash_notes\n",  # without kexec
        (
            (r"^PSW=mask (\w+) addr (\w+)", "pswm pswa"),
            *((rf"R{n:02}=(\w+)", f"r{n}") for n in range(16)),
        ),
    ),
}

each = stopped("ppc64le", "riscv64", "s390x")


@pytest.fixture(scope="module")
def facts(snapshot: Snapshot) -> Facts:
    return FACTS[snapshot.recipe.arch]


@pytest.fixture(scope="module")
def machine(snapshot: Snapshot) -> Iterator[Walked]:
    with walked(snapshot) as found:
        yield found


@pytest.fixture(scope="module")
def alone(
    snapshot: Snapshot, facts: Facts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The mount of its memory, with nothing else given."""
    where = tmp_path_factory.mktemp("mount")
    with mounted(where, snapshot.ram, warns=facts.warns) as path:
        yield path


@pytest.fixture(scope="module")
def dumped(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mount of QEMU's own dump of the same moment."""
    with mounted(tmp_path_factory.mktemp("mount"), snapshot.guest) as path:
        yield path


@each
def test_the_linear_map_covers_all_ram(snapshot: Snapshot, machine: Walked, facts: Facts) -> None:
    mappings = machine.mappings
    assert mappings.fmt.name == facts.fmt
    assert mappings.problems == ()
    for start, end in spans(snapshot, "System RAM"):
        wanted = np.arange(start, end, 4096)
        vaddrs = np.uint64(facts.linear_map) + wanted.astype(np.uint64)
        assert np.array_equal(mappings.translate_many(vaddrs), wanted)


@each
def test_symbols_and_types_are_the_guests_to_the_byte(snapshot: Snapshot, machine: Walked) -> None:
    kernel = read_symbols(machine.vmcoreinfo, machine.kernel)
    found = find_symbols(kernel, find_btf(kernel, machine.kernel), machine.kernel)
    assert sum_of(kernel.format()) == kallsyms_sums(snapshot)["kernel"]
    assert sum_of(found.format()) == kallsyms_sums(snapshot)["all"]
    assert found.btf is not None
    assert md5(found.btf) == snapshot.text("btf-sum").split()[0]


@each
def test_the_log_is_what_dmesg_printed(snapshot: Snapshot, machine: Walked) -> None:
    log = read_log(machine.vmcoreinfo, machine.kernel)
    assert log.text.decode().startswith(snapshot.text("dmesg"))


@each
def test_everything_is_found_from_memory_alone(
    snapshot: Snapshot, alone: Path, facts: Facts
) -> None:
    assert (alone / "iomem").read_text() == snapshot.text("iomem")
    with (alone / "vmcore").open("rb") as vmcore:
        header = parse_ehdr(vmcore.read(64))
    assert header.e_machine == MACHINES[snapshot.recipe.arch]
    assert header.byte_order == usual_byte_order(header.e_machine)
    image, *loads = segments(alone / "vmcore").loads
    assert image["p_vaddr"] - image["p_paddr"] == _image_distance(snapshot, facts)
    assert {load["p_vaddr"] - load["p_paddr"] for load in loads} == {facts.linear_map}
    _is_memory(snapshot, alone)


@each
def test_qemus_own_dump_of_the_moment_has_the_same_memory(
    snapshot: Snapshot, alone: Path, dumped: Path
) -> None:
    for name in ("iomem", "kallsyms", "dmesg", "vmcoreinfo", "version"):
        assert (dumped / name).read_bytes() == (alone / name).read_bytes(), name
    assert segments(dumped / "vmcore").loads[1:] != ()
    _is_memory(snapshot, dumped)


@each
def test_its_registers_are_those_that_qemus_monitor_says(
    snapshot: Snapshot, dumped: Path, facts: Facts
) -> None:
    said = re.split(r"^CPU#\d+\s*$", snapshot.text("registers"), flags=re.MULTILINE)[1:]
    assert len(said) == snapshot.recipe.cpus
    for cpu, text in enumerate(said):
        wanted = _registers(text, facts)
        lines = (dumped / f"cpu/{cpu}/registers").read_text().splitlines()[1:]
        found = {name: int(value, 16) for name, value in map(str.split, lines)}
        assert {name: found[name] for name in wanted} == wanted


@each
@pytest.mark.parametrize("level", [1, 31])
def test_what_is_saved_is_the_kernel(
    snapshot: Snapshot, alone: Path, scratch: Path, level: int
) -> None:
    """With level 1 all of RAM can be read; with 31 what is there is as it was."""
    vmcorefs("save", "--quiet", "-d", str(level), "-o", scratch / "dump", snapshot.ram)
    (piece,) = snapshot.pieces
    with open_capture(scratch / "dump") as saved, snapshot.ram.open("rb") as file:
        for name in ("kallsyms", "dmesg", "vmcoreinfo", "version"):
            assert bytes(saved[name].pread(saved[name].size, 0)) == (alone / name).read_bytes()
        ram = make_ranges(crashed_ram(snapshot))
        kept = intersect(ram, saved.image.memory.only(Kind.DATA, Kind.ZERO).ranges)
        for start, end in kept.tolist():
            file.seek(piece.offset_of(start))
            same_bytes(saved["oldmem"].pread(end - start, start), file.read(end - start))
    left_out = total_size(ram) - total_size(kept)
    assert (left_out > total_size(ram) // 4) == (level == 31)  # much of it is free
    assert left_out == 0 or level == 31


@each
def test_gdb_goes_through_the_stacks_of_cpus_and_tasks(dumped: Path) -> None:
    switch = 'next(t for t in gdb.selected_inferior().threads() if t.name == "kthreadd").switch()'
    commands = ("bt", f"python {switch}", "bt", "print init_task.comm")
    said = gdb_script(dumped / "gdbinit", *commands, program="gdb-multiarch")
    assert_in_order(said, ["#1 ", "in __schedule ", "in schedule ", '"swapper/0'])


@each
def test_drgn_finds_tasks_and_stacks_with_the_vmlinux_made_of_memory(
    snapshot: Snapshot, alone: Path, facts: Facts
) -> None:
    program = drgn.Program()
    program.set_core_dump(alone / "vmcore")
    program.load_debug_info([alone / "vmlinux"])
    names = {task.pid.value_(): task.comm.string_().decode() for task in for_each_task(program)}
    assert {"kthreadd", "lab-sleeper", "lab-waiter", "lab-keeper"} <= set(names.values())
    rows = (line.partition(" ") for line in snapshot.text("tasks").splitlines())
    # what boot has started but workers, which take the names of what they work at; 15 characters
    said = {int(pid): name[:15] for pid, _, name in rows if not name.startswith("kworker")}
    assert {pid: names.get(pid) for pid in said if pid < 64} == {
        pid: name for pid, name in said.items() if pid < 64
    }
    if facts.stack:
        frames = [frame.name for frame in program.stack_trace(find_task(program, 2))]
        assert tuple(frames[: len(facts.stack)]) == facts.stack


def _image_distance(snapshot: Snapshot, facts: Facts) -> int:
    """How far the kernel's image is above physical addresses, by what the guest says of it."""
    code = spans(snapshot, "Kernel code")
    if not code:  # pSeries says nothing of it: it is in the linear map
        return facts.linear_map
    (text,) = re.findall(r"^(\w+) . _text$", snapshot.text("symbols"), re.MULTILINE)
    return int(text, 16) - code[0][0]


def _is_memory(snapshot: Snapshot, tree: Path) -> None:
    """Whether all of RAM is in ``oldmem`` as QEMU kept it."""
    (piece,) = snapshot.pieces
    for start, end in spans(snapshot, "System RAM"):
        there = piece.offset_of(start)
        assert compare(tree / "oldmem", start, snapshot.ram, there, end - start) == (0, None)


def _registers(text: str, facts: Facts) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for pattern, names in facts.registers:
        match = re.search(pattern, text, re.MULTILINE)
        assert match is not None, pattern
        found |= {
            name: int(value, 16) for name, value in zip(names.split(), match.groups(), strict=True)
        }
    return found
