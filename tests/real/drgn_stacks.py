"""Run by the tests as ``drgn_stacks.py VMLINUX DUMP [MODULE.ko...]``: stacks of all sleeping tasks.

A module's file may be of another build of the same source. Functions that the compiler has put into
others are left out, as nothing but a debug package names them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from drgn import Program, StackFrame
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import idle_task

KERNEL = 1 << 63
"""Lower addresses are those of user space, which drgn goes on to."""


def main(vmlinux: str, dump: str, *modules: str) -> None:
    """Print a JSON object a task: ``pid``, ``comm``, ``frames``: address and name of each."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    files = {Path(path).stem: path for path in modules}
    for module, _ in program.loaded_modules():
        if module.name in files:
            module.try_file(files.pop(module.name), force=True)
    assert not files
    idle = [idle_task(program, cpu) for cpu in for_each_possible_cpu(program)]
    for task in [*for_each_task(program), *idle]:
        if task.on_cpu.value_():
            continue
        frames = [frame for frame in program.stack_trace(task) if not frame.is_inline]
        report = {
            "pid": task.pid.value_(),
            "comm": task.comm.string_().decode(),
            "frames": [(f.pc, _name(program, f)) for f in frames if f.pc >= KERNEL],
        }
        print(json.dumps(report))  # noqa: T201  # it is what the script is for


def _name(program: Program, frame: StackFrame) -> str:
    """The function; a task that has never run yet is to begin at the first byte of one."""
    try:
        symbol = frame.symbol()
    except LookupError:
        symbol = program.symbol(frame.pc)
    return str(symbol.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
