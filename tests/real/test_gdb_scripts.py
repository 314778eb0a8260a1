"""The kernel's own commands for gdb: as with the debug package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.lab.capture import Capture
from tests.real import tools
from tests.real.gdb_scripts import gdb_scripts
from tests.real.marks import REAL, only
from tests.real.trees import mounted

pytestmark = REAL

_START: Final = "the commands begin"
COMMANDS: Final = (
    *("lx-version", "lx-cmdline", "lx-ps", "lx-lsmod", "lx-mounts", "lx-iomem", "lx-ioports"),
    *("lx-cpus", "lx-device-list-bus", "lx-device-list-class", "lx-device-list-tree devices_kset"),
    *("lx-timerlist", "lx-genpd-summary", "lx-clk-summary", "lx-configdump /dev/null"),
    *("lx-fdtdump /dev/null", "lx-list-check modules"),
    *("lx-interruptlist", "lx-slabinfo", "lx-vmallocinfo", "lx-getmod-by-textaddr panic"),
    'p $lx_per_cpu("runqueues", 1).cpu',
    "p $lx_thread_info($lx_task_by_pid(1))",
    "p $lx_thread_info_by_pid(2)",
    'p $lx_module("virtio_blk").name',
    'p $container_of(init_task.tasks.next, "struct task_struct", "tasks").comm',
    'p $lx_device_find_by_bus_name("platform", "serial8250")',
    'p $lx_device_find_by_class_name("tty", "tty0")',
    *(f"p $lx_rb_{which}(&vmap_area_root)" for which in ("first", "last")),
    "p $lx_rb_next($lx_rb_first(&vmap_area_root))",
    "lx-dmesg",
)
"""All but lx-symbols, which loads what gdbinit has loaded, and at link addresses."""


@only("kexec")
def test_they_say_what_they_say_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path, tmp_path: Path
) -> None:
    scripts = gdb_scripts(capture.recipe.kernel)
    ours = _ask(tree / "gdbinit", scripts)
    with mounted(tmp_path, "--vmlinux", vmlinux, capture.config) as other:
        assert ours == _ask(other / "gdbinit", scripts)

    assert capture.text("version").strip() in ours
    assert '"virtio_blk"' in "\n".join(ours)
    assert any(re.fullmatch(r"0x[0-9a-f]+ +1 +init", line) for line in ours)
    # the script rounds times, the kernel does not
    said = {line.partition("] ")[2] for line in ours}
    logged = [line.partition("] ")[2] for line in (tree / "dmesg").read_text().splitlines()]
    assert [line for line in logged if line not in said] == []
    assert len(logged) > 300


def _ask(gdbinit: Path, scripts: Path) -> list[str]:
    said = tools.gdb_script(gdbinit, f"source {scripts}", f"echo {_START}\\n", *COMMANDS)
    # constants without a name of their own come behind kallsyms' tables, whose sizes nobody knows;
    # the debug package has local names between them
    said = re.sub(r" <kallsyms_\w+\+[0-9]+>", "", said)
    return said.partition(f"{_START}\n")[2].splitlines()
