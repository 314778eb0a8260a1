"""``gdbinit``: gdb's commands to open ``kcore`` with symbols and the names of its threads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.arch.known import find_architecture
from vmcorefs.kernel.cpu_slots import panicked_slot
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.kernel.debug.debug_vmlinux import kernel_offset
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.tree.debug.modules import iter_gdb_commands, quote
from vmcorefs.tree.debug.threads import Threads, list_threads
from vmcorefs.tree.live import mounted_name


def make_gdbinit(
    image: MemoryImage,
    kernel: Kernel,
    location: str,
    vmlinux: str | None,
    scripts: str | None,
    modules: Callable[[], DebugModules] | None = None,
) -> bytes:
    """The text of ``gdbinit``.

    Args:
        image: The dead machine.
        kernel: Its kernel.
        location: The directory that the tree is mounted at.
        vmlinux: The file with symbols, if not the one in the tree.
        scripts: The kernel's own commands for gdb, ``vmlinux-gdb.py``, if they are here.
        modules: Finds the modules, if the tree has files of them.

    Raises:
        FormatError: if a path has a line end in it.
    """
    threads = list_threads(image)
    offset = kernel_offset(kernel)
    symbol_file = vmlinux if vmlinux is not None else os.path.join(location, "vmlinux")
    lines = [
        f"# gdb -x {os.path.join(location, 'gdbinit')}",
        "set pagination off",
        "set print thread-events off",
        f"add-symbol-file {quote(symbol_file)} -o {offset:#x}{_place_per_cpu(kernel)}",
        # gdb takes the rest of this line as it is, quotes and all
        f"core-file {os.path.join(location, mounted_name(image, 'kcore'))}",
        *_iter_silent(threads),
    ]
    slot = None
    with suppress(VmcorefsError):
        slot = panicked_slot(kernel, image.notes.cpu_slots)
    number = _thread_number(threads, slot)
    if number is not None:
        lines += ["# the CPU that panicked", f"thread {number}"]
    if modules is not None:
        lines += iter_gdb_commands(modules, location)
    # a gdb without Python, as in Debian's gdb-minimal, reads no further
    lines += _iter_names(threads)
    if scripts is not None:
        lines += ["# the kernel's own commands, lx-...", f"source {scripts}"]
    if any("\n" in line for line in lines):
        names = ", ".join(map(repr, filter(None, (location, vmlinux, scripts))))
        raise FormatError(f"gdbinit: gdb cannot take a name with a line end, as in {names}")
    return os.fsencode("".join(f"{line}\n" for line in lines))


def _place_per_cpu(kernel: Kernel) -> str:
    """KASLR does not move per-CPU variables where they are linked at 0: x86-64 before 6.15.

    Elsewhere they move with the rest; gdb would cut an address of the kernel's to 32 bits here, as
    it has not seen yet of which machine the file is.
    """
    with suppress(VmcorefsError):
        start = kernel.symbol("__per_cpu_start")
        if start < find_architecture(kernel.machine).linked_from:
            return f" -s .data..percpu {start:#x}"
    return ""


def _iter_silent(threads: Threads) -> Iterator[str]:
    """Say which CPUs have no thread."""
    for task in threads.silent:
        where = "a CPU" if task.cpu is None else f"CPU {task.cpu}"
        name = task.name.replace("\\", "\\\\")
        yield f"echo {where} was running {name} (pid {task.pid}); it saved no registers.\\n"


def _iter_names(threads: Threads) -> Iterator[str]:
    """Name the threads: a core file has no place for that, but gdb's Python has."""
    if not threads.names:
        return
    yield from (
        "python",
        f"names = {json.dumps({str(lwp): name for lwp, name in threads.names.items()})}",
        "for thread in gdb.selected_inferior().threads():",
        "    thread.name = names.get(str(thread.ptid[1]))",
        "end",
    )


def _thread_number(threads: Threads, panicked: NoteSlot | None) -> int | None:
    """Which of gdb's threads a CPU is: it makes one of each note, in their order."""
    numbers = (n for n, cpu in enumerate(threads.cpus, 1) if cpu.slot is panicked)
    return next(numbers, None)
