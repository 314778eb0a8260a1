"""Run by the tests as ``drgn_report.py VMLINUX DUMP [running]``: what drgn sees in a dump."""

from __future__ import annotations

import sys

from drgn import Program
from drgn.helpers.linux.panic import panic_task
from drgn.helpers.linux.pid import for_each_task


def main(vmlinux: str, dump: str, state: str = "panicked") -> None:
    """Print the utsname, the tasks and, if it did, the stack of the task that panicked."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    name = program["init_uts_ns"].name
    for field in (name.sysname, name.nodename, name.release, name.version):
        print(field.string_().decode())  # noqa: T201  # it is what the script is for
    for task in for_each_task(program):
        print(task.pid.value_(), task.comm.string_().decode())  # noqa: T201
    if state == "panicked":
        print(program.stack_trace(panic_task(program)))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
