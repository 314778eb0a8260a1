"""Per-CPU variables of a module: in its file, and in the debug package's."""

from __future__ import annotations

import faulthandler
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.lab.capture import debug_vmlinux
from tests.real import tools
from tests.real.debug_modules import debug_modules
from tests.real.extra_module import with_module
from tests.real.marks import REAL
from tests.real.trees import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.kernels import Role

pytestmark = REAL

MODULE: Final = "drop_monitor"
VARIABLE: Final = "dm_cpu_data"
CPUS: Final = 2

_CRASH: Final = (
    *(f"p {VARIABLE}", f"p {VARIABLE}:a", f"sym {VARIABLE}", f"whatis {VARIABLE}"),
    *(f"struct per_cpu_dm_data {VARIABLE}:1", "struct per_cpu_dm_data -o"),
)


class Machine(NamedTuple):
    """One that has loaded the module: its tree, and files of its kernel's debug package."""

    tree: Path
    vmlinux: Path
    module: Path


@pytest.fixture(scope="module", params=["stable"])
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    faulthandler.cancel_dump_traceback_later()  # it may have to be made
    role: Role = request.param
    ram = with_module(MODULE, role)
    with mounted(tmp_path_factory.mktemp("mount"), ram) as tree:
        yield Machine(tree, debug_vmlinux(role), debug_modules(role) / f"{MODULE}.ko")


def test_gdb_finds_the_variable_of_each_cpu(machine: Machine) -> None:
    """A queue that is empty leads to itself (include/linux/skbuff.h, ``__skb_queue_head_init``)."""
    commands = []
    for cpu in range(CPUS):
        at = f"((struct per_cpu_dm_data *)((char *)&{VARIABLE} + __per_cpu_offset[{cpu}]))"
        commands += [f"p/x (long)&{at}->drop_queue", f"p/x (long){at}->drop_queue.next"]
    said = tools.gdb_script(machine.tree / "gdbinit", f"whatis {VARIABLE}", *commands)

    assert "type = struct per_cpu_dm_data" in said
    values = re.findall(r"^\$\d+ = (0xff[0-9a-f]{14})$", said, re.MULTILINE)
    assert len(values) == 2 * CPUS
    assert values[::2] == values[1::2]
    assert len(set(values)) == CPUS


def test_drgn_says_what_it_says_with_the_debug_packages_module(machine: Machine) -> None:
    tree = machine.tree
    script = Path(__file__).with_name("drgn_per_cpu.py")
    ours, theirs = (
        tools.run([sys.executable, script, tree / "vmcore", VARIABLE, *files], tree)
        for files in ((tree / "vmlinux", _made(tree)), (machine.vmlinux, machine.module))
    )

    assert ours == theirs
    assert len(re.findall(r"^\d \S+ \(struct per_cpu_dm_data\)\{$", ours, re.MULTILINE)) == CPUS


def _made(tree: Path) -> Path:
    return tree / f"modules/{MODULE}.ko.debug"


def test_crash_says_what_it_says_with_the_debug_packages_module(machine: Machine) -> None:
    tree = machine.tree
    ours, theirs = (
        re.sub(
            r".*\.ko.*\n|^warning: Loadable section .*\n",
            "",
            tools.crash(tree / "vmlinux", tree / "vmcore", f"mod -s {MODULE} {file}", *_CRASH),
            flags=re.MULTILINE,
        )
        for file in (_made(tree), machine.module)
    )

    assert ours == theirs
    assert ours.count("drop_queue = {") == CPUS + 1
    assert re.search(rf"^[0-9a-f]+ \(\w\) {VARIABLE} \[{MODULE}\]", ours, re.MULTILINE), ours
