"""Tools that read dumps of one machine only, each of the one that it was built for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vmcorefs.core.consumers.objection import Objection
from vmcorefs.core.elf.dump_headers import DumpHeaders
from vmcorefs.core.elf.elf import EM_386, EM_X86_64
from vmcorefs.core.elf.machines import EM_NONE, long_bits, uname_of

_BUILT: Final = {
    "crash": (
        "crash-utility/crash:netdump.c is_netdump, machine_type_mismatch",
        "a crash built with make target=NAME",
    ),
    "gdb": ("seen: gdb 13.1 of Debian on x86-64 shows no registers of aarch64", "gdb-multiarch"),
    "makedumpfile": (
        "makedumpfile/makedumpfile:Makefile, makedumpfile.h (__x86_64__, __aarch64__ ...)",
        "makedumpfile built with make TARGET=NAME",
    ),
}
"""The tool, where it requires that, and how to get another."""


def must_be_built(tool: str, dump: DumpHeaders, host: int) -> Iterator[Objection]:
    """What a tool objects to that was built for another machine than the dump is of.

    Args:
        tool: Its name.
        dump: The dump; of one that names no machine nothing is said.
        host: ``e_machine`` of the machine that the tool runs on, and so is built for.
    """
    machine = dump.header.e_machine
    if tool not in _BUILT or machine in (host, EM_NONE):
        return
    if tool == "gdb" and (host, machine) == (EM_X86_64, EM_386):
        return  # an x86 gdb knows both
    source, remedy = _BUILT[tool]
    name = uname_of(machine, long_bits(dump.header, dump.vmcoreinfo), dump.header.byte_order)
    yield Objection(f"it must be built for {name or f'ELF machine {machine}'}", source, remedy)
