"""Run by the tests as ``drgn_helpers.py VMLINUX DUMP``: what drgn's helpers and commands answer.

Every function of ``drgn.helpers.linux`` is called whose parameters are known here by their names,
with what the dump has of each, up to a limit; so is every command that drgn has from crash. A JSON
object tells what came of each call, types without their qualifiers, and one of every task's stack.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, product
from typing import Any, Final

import drgn.commands._crash  # noqa: F401  # registers them
from drgn import FaultError, Object, Program, StackFrame, TypeKind, helpers
from drgn.commands._crash.common import CRASH_COMMAND_NAMESPACE
from drgn.helpers.linux import (
    block,
    cgroup,
    fs,
    hugetlb,
    irq,
    kernfs,
    mm,
    mmzone,
    module,
    net,
    pci,
    percpu,
    pid,
    sched,
    slab,
    swap,
)

CALLS: Final = 100
ITEMS: Final = 3000
_LEFT_OUT: Final = {"drgn", "exit", "q", "help", "sh"}  # of crash's: they are no questions
_MORE: Final = (
    *("ps -m", "ps -t", "kmem -i", "kmem -s", "kmem -S", "kmem -V", "kmem -n", "kmem -z"),
    *("kmem -v", "kmem -h", "bt -a", "foreach bt", "foreach files", "foreach vm", "foreach task"),
    *("net -a", "net -s", "dev -d", "dev -p", "irq -a", "irq -s", "irq -b", "bpf -p", "bpf -m"),
    *("sys -c", "sys -t", "timer -r", "runq -t", "runq -g", "ipcs -s", "mod -t", "log -t", "swap"),
    *(
        "p jiffies",
        "p saved_command_line",
        "whatis modules",
        "struct task_struct",
        "union thread_union",
    ),
    *("vtop modules", "sym modules", "list -H modules module.list -s module.name", "foreach sig"),
)


Samples = Callable[[Program], Iterable[Any]]


def variables(*names: str) -> Samples:
    """The addresses of global variables."""
    return lambda prog: [prog[name].address_of_() for name in names]


def tasks(prog: Program) -> list[Object]:
    """The idle task, and all that have a PID."""
    return [prog["init_task"].address_of_(), *pid.for_each_task(prog)]


def mms(prog: Program) -> list[Object]:
    """The memory of each task that has its own."""
    return [task.mm for task in tasks(prog) if task.mm]


def files(prog: Program) -> list[Object]:
    """All open files."""
    return [file for task in tasks(prog) for _, file in fs.for_each_file(task) if file]


def cgroups(prog: Program) -> list[Object]:
    """All of the default hierarchy."""
    root = prog["cgrp_dfl_root"].cgrp.self.address_of_()
    return [css.cgroup for css in cgroup.css_for_each_descendant_pre(root)]


def timers(prog: Program, name: str, member: str | None = None) -> list[Object]:
    """The bases of two CPUs' timers."""
    bases = [percpu.per_cpu(prog[name], cpu) for cpu in (0, 1)]
    return [
        (base.member_(member) if member else base)[number].address_of_()
        for base in bases
        for number in (0, 1)
    ]


SAMPLES: Final[dict[str, Samples]] = {
    "prog": lambda prog: [prog],
    "task": tasks,
    "mm": mms,
    "vma": lambda prog: [vma for one in mms(prog) for vma in mm.for_each_vma(one)],
    "inode": lambda prog: [file.f_inode for file in files(prog)],
    "dentry": lambda prog: [file.f_path.dentry for file in files(prog)],
    "mnt": fs.for_each_mount,
    "path": lambda _: ["/", "/dev", "kernel", "class/net", "nowhere"],
    "net": net.for_each_net,
    "netdev": lambda prog: [
        dev for one in net.for_each_net(prog) for dev in net.for_each_netdev(one)
    ],
    "disk": block.for_each_disk,
    "part": block.for_each_partition,
    "bdev": block.for_each_partition,
    "cgrp": cgroups,
    "css": lambda prog: [cgrp.self.address_of_() for cgrp in cgroups(prog)],
    "cpu": lambda _: [0, 1],
    "pfn": lambda prog: range(0, prog["max_pfn"].value_(), 4999),
    "page": lambda prog: [
        mm.pfn_to_page(prog, pfn) for pfn in range(0, prog["max_pfn"].value_(), 4999)
    ],
    "addr": lambda prog: [
        *(task.value_() for task in tasks(prog)[:9]),
        *(cache.value_() for cache in islice(slab.for_each_slab_cache(prog), 9)),
        *(prog[name].address_ for name in ("modules", "linux_banner")),
    ],
    "zone": lambda prog: [
        node.node_zones[number].address_of_()
        for node in mmzone.for_each_online_pgdat(prog)
        for number in range(node.nr_zones)
    ],
    "nr": lambda _: range(12),
    "section": lambda prog: [mmzone.nr_to_section(prog, number) for number in range(9)],
    "nid": lambda _: [0],
    "desc": lambda prog: [desc for _, desc in irq.for_each_irq_desc(prog)],
    "irq": lambda _: range(32),
    "slab_cache": slab.for_each_slab_cache,
    "module": module.for_each_module,
    "mod": module.for_each_module,
    "name": lambda _: ["task_struct", "dentry", "virtio", "virtio_blk", "lo", "nowhere"],
    "rq": lambda prog: [sched.cpu_rq(prog, cpu) for cpu in (0, 1)],
    "tg": variables("root_task_group"),
    "si": swap.for_each_swap_info,
    "kn": lambda prog: [prog["sysfs_root_kn"], *kernfs.kernfs_children(prog["sysfs_root_kn"])],
    "class_": variables("block_class"),
    "kobj": lambda prog: [prog[name].kobj.address_of_() for name in ("module_kset", "bus_kset")],
    "head": variables("modules", "slab_caches", "net_namespace_list", "pci_root_buses"),
    "idr": variables("prog_idr", "map_idr", "btf_idr", "link_idr"),
    "mask": variables("__cpu_online_mask", "__cpu_possible_mask", "__cpu_present_mask"),
    "fbc": variables("vm_committed_as"),
    "table": variables("arp_tbl"),
    "hstate": hugetlb.for_each_hstate,
    "item": lambda _: range(9),
    "id": lambda _: range(9),
    "uid": lambda _: [0, 1000],
    "clock_base": lambda prog: timers(prog, "hrtimer_bases", "clock_base"),
    "base": lambda prog: timers(prog, "timer_bases"),
    "gate": lambda prog: [prog["idt_table"][number].address_of_() for number in range(32)],
    "sigaction": lambda prog: [tasks(prog)[1].sighand.action[number].sa for number in range(9)],
    "mapping": lambda prog: [file.f_inode.i_mapping for file in files(prog)],
    "xa": lambda prog: [file.f_inode.i_mapping.i_pages.address_of_() for file in files(prog)],
    "mt": lambda prog: [one.mm_mt.address_of_() for one in mms(prog)],
    "cfs_rq": lambda prog: [sched.cpu_rq(prog, cpu).cfs.address_of_() for cpu in (0, 1)],
    "pending": lambda prog: [task.pending.address_of_() for task in tasks(prog)],
    "bpf_attach_type": lambda _: range(3),
    "state": lambda _: range(6),
}
"""By the parameter's name."""

OTHERS: Final[dict[tuple[str, str], Samples]] = {
    ("dev", "net"): SAMPLES["netdev"],
    ("ns", "mount"): lambda prog: [prog["init_task"].nsproxy.mnt_ns],
    ("ns", "sysv"): variables("init_ipc_ns"),
    ("ns", "pid"): variables("init_pid_ns"),
    ("root", "resource"): variables("iomem_resource", "ioport_resource"),
    ("bus", "pci"): pci.for_each_pci_root_bus,
    ("bus", "device"): variables("pci_bus_type", "memory_subsys"),
    ("sb", "super_block"): lambda prog: [mnt.mnt.mnt_sb for mnt in fs.for_each_mount(prog)],
    ("wq", "waitqueue"): lambda prog: [
        task.signal.wait_chldexit.address_of_() for task in tasks(prog)[1:]
    ],
}
"""By the parameter's name and a word in the helper's, where one name means several things."""


def functions() -> Iterator[tuple[str, Callable[..., Any], list[str]]]:
    """Name, function and the parameters that must be given, of each helper."""
    for info in pkgutil.iter_modules(helpers.linux.__path__):
        code = importlib.import_module(f"drgn.helpers.linux.{info.name}")
        for name in getattr(code, "__all__", ()):
            found = getattr(code, name)
            if inspect.isclass(found) or not callable(found):
                continue
            try:
                parameters = inspect.signature(found).parameters.values()
            except ValueError:  # written in C: the first is the object
                yield f"{info.name}.{name}", found, ["task"]
                continue
            needed = [
                p.name for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL
            ]
            yield f"{info.name}.{name}", found, needed


def arguments(prog: Program, name: str, parameters: list[str]) -> Iterator[tuple[Any, ...]]:
    """What to call a helper with; nothing if a parameter is not known here."""
    columns: list[Iterable[Any]] = []
    for parameter in parameters:
        kinds = (
            found for (one, word), found in OTHERS.items() if one == parameter and word in name
        )
        samples = next(kinds, SAMPLES.get(parameter))
        columns.append(islice(samples(prog), CALLS) if samples is not None else ())
    yield from islice(product(*columns), CALLS)


def answer(call: Callable[[], Any]) -> Any:
    """What a call returned, printed, or failed with."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            returned = tell(call())
    except Exception as error:  # noqa: BLE001  # it is compared
        return [type(error).__name__, str(error)]
    return [returned, printed.getvalue()] if printed.getvalue() else returned


def tell(value: Any) -> Any:
    """A value as JSON."""
    if isinstance(value, Object):
        return tell_object(value)
    if isinstance(value, dict):
        value = value.items()
    if isinstance(value, Iterable) and not isinstance(value, (bytes, str)):
        # what is printed of frames is compared, and main tells of all stacks
        return [tell(one) for one in islice(value, ITEMS) if not isinstance(one, StackFrame)]
    return re.sub(r"\b(const|volatile) | at 0x\w+", "", str(value))


def tell_object(value: Object) -> str:
    """Its type without qualifiers, and where it is, or what."""
    name = re.sub(r"\b(const|volatile) ", "", value.type_.type_name())
    if value.address_ is not None and value.type_.kind in (TypeKind.STRUCT, TypeKind.UNION):
        return f"{name} at {value.address_:#x}"
    try:
        return f"{name} {value.value_()}"
    except FaultError as error:
        return f"{name} {error}"


def stack(program: Program, task: Object) -> list[tuple[str, int]]:
    """The function and the address of each frame, without functions that were inlined."""
    frames = program.stack_trace(task)
    return [(frame.name, frame.pc) for frame in frames if not frame.is_inline]


def main(vmlinux: str, dump: str) -> None:
    """Print the object."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    answers: dict[str, Any] = {}
    for name, function, parameters in functions():
        try:
            for number, given in enumerate(arguments(program, name, parameters)):
                answers[f"{name} {number}"] = answer(partial(function, *given))
        except Exception as error:  # noqa: BLE001  # there are no such samples
            answers[name] = [type(error).__name__, str(error)]
    commands = [name for name, _ in CRASH_COMMAND_NAMESPACE.enabled(program)]
    for line in [*(name for name in commands if name not in _LEFT_OUT), *_MORE]:
        run = partial(CRASH_COMMAND_NAMESPACE.run, program, line, globals={"prog": program})
        answers[f"%crash {line}"] = answer(run)
    stacks = {
        name: answer(partial(stack, program, task))
        for name, task in [
            *((f"idle {cpu}", sched.idle_task(program, cpu)) for cpu in (0, 1)),
            *((f"{task.pid.value_()}", task) for task in pid.for_each_task(program)),
        ]
    }
    json.dump({"answers": answers, "stacks": stacks}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
