"""Run by the tests as ``drgn_per_cpu.py DUMP VARIABLE FILE...``: a per-CPU variable on each CPU."""

from __future__ import annotations

import sys

from drgn import Program
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.percpu import per_cpu


def main(dump: str, name: str, *files: str) -> None:
    """Print where it is and what it holds."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info(files)
    for cpu in for_each_online_cpu(program):
        variable = per_cpu(program.variable(name), cpu)
        print(f"{cpu} {variable.address_:#x} {variable}")  # noqa: T201  # it is what this is for


if __name__ == "__main__":
    main(*sys.argv[1:])
