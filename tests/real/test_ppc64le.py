"""ppc64le: radix page tables, symbols and the log of a kernel under QEMU, from its memory alone.

What is true comes from the guest: its /proc/iomem, /proc/kallsyms, /sys/kernel/btf and dmesg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import drgn
import numpy as np
import pytest
from drgn.helpers.linux.pid import find_task, for_each_task

from tests.matching import same_bytes
from tests.real.marks import REAL, stopped
from tests.real.sums import kallsyms_sums, md5, sum_of
from tests.real.trees import mounted
from tests.real.truth import segments, spans
from tests.real.walked import Walked, walked
from vmcorefs.core.elf.elf import EM_PPC64, parse_ehdr
from vmcorefs.core.structures.kallsyms import read_symbols
from vmcorefs.core.structures.printk import read_log
from vmcorefs.kernel.symbols import find_btf, find_symbols

if TYPE_CHECKING:
    from tests.lab.capture import Snapshot

pytestmark = REAL

each = stopped("ppc64le")

LINEAR_MAP = 0xC000_0000_0000_0000


@pytest.fixture(scope="module")
def machine(snapshot: Snapshot) -> Iterator[Walked]:
    with walked(snapshot) as found:
        yield found


@pytest.fixture(scope="module")
def alone(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mount of its memory, with nothing else given."""
    with mounted(tmp_path_factory.mktemp("mount"), snapshot.ram) as path:
        yield path


@each
def test_the_linear_map_covers_all_ram(snapshot: Snapshot, machine: Walked) -> None:
    mappings = machine.mappings
    assert mappings.fmt.name == "ppc64 radix, 4 KiB pages"
    assert mappings.problems == ()
    for start, end in spans(snapshot, "System RAM"):
        wanted = np.arange(start, end, 4096)
        found = mappings.translate_many(np.uint64(LINEAR_MAP) + wanted.astype(np.uint64))
        assert np.array_equal(found, wanted)


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
def test_everything_is_found_from_memory_alone(snapshot: Snapshot, alone: Path) -> None:
    assert (alone / "iomem").read_text() == snapshot.text("iomem")
    with (alone / "vmcore").open("rb") as vmcore:
        assert parse_ehdr(vmcore.read(64)).e_machine == EM_PPC64
    loads = segments(alone / "vmcore").loads
    assert {load["p_vaddr"] - load["p_paddr"] for load in loads} == {LINEAR_MAP}
    with (alone / "oldmem").open("rb") as ours, snapshot.ram.open("rb") as theirs:
        while wanted := theirs.read(1 << 24):
            same_bytes(ours.read(1 << 24), wanted)


@each
def test_drgn_finds_tasks_and_stacks_with_the_vmlinux_made_of_memory(
    snapshot: Snapshot, alone: Path
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
    frames = [frame.name for frame in program.stack_trace(find_task(program, 2))]
    assert frames[:4] == ["__switch_to", "__schedule", "schedule", "kthreadd"]
