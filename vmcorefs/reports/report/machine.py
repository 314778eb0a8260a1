"""Which machine died, when, and whether it panicked: what its image and its log say."""

from __future__ import annotations

import re
from collections import deque
from functools import reduce
from operator import or_
from typing import Final

from vmcorefs.errors import FormatError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.facts import find_facts
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.schema import Died, Taint

_NO_CPU: Final = 0xFFFFFFFF  # PANIC_CPU_INVALID (include/linux/panic.h)
_MAX_COMMAND_LINE: Final = 4096  # COMMAND_LINE_SIZE is 2048 at most
_MAX_CPUS: Final = 8192  # NR_CPUS of x86-64 with CONFIG_MAXSMP
_SECONDS: Final = 1 << 33  # more since 1970, or since boot, is no time

_HARDWARE: Final = re.compile(r"(?:DMI: (?!Memory slots)|Hardware name: |Machine model: )(.+)")
_STAMP: Final = re.compile(r"^\[ *(\d+\.\d+)\]", re.MULTILINE)

TAINTS: Final = (
    ("P", "a proprietary module was loaded"),
    ("F", "a module was loaded by force"),
    ("S", "the kernel ran on hardware that it is not made for"),
    ("R", "a module was unloaded by force"),
    ("M", "the hardware reported a machine check"),
    ("B", "a bad page was seen"),
    ("U", "user space asked for this mark"),
    ("D", "the kernel had died before: an oops or a BUG"),
    ("A", "an ACPI table was overridden"),
    ("W", "the kernel had warned"),
    ("C", "a module from staging was loaded"),
    ("I", "a workaround for firmware was used"),
    ("O", "a module from outside the kernel's tree was loaded"),
    ("E", "an unsigned module was loaded"),
    ("L", "a soft lockup had happened"),
    ("K", "the kernel was patched while it ran"),
    ("X", "the distribution's own mark"),
    ("T", "the kernel was built with structures in random order"),
    ("N", "a test of the kernel itself had run"),
    ("J", "user space used a debug interface of fwctl"),
)
"""By bit of ``tainted_mask`` (Documentation/admin-guide/tainted-kernels.rst)."""


UNKNOWN_MACHINE: Final = Died(*[None] * len(Died.__struct_fields__))


def describe_machine(asked: Asked, image: MemoryImage, kernel: Kernel, log: str) -> Died:
    """Which machine it was, and when it died."""
    names = find_facts(kernel.memory, image.plan.elfcorehdr, kernel.vmcoreinfo).utsname

    def known(field: str, name: bytes) -> str | None:
        if name and name != b"unknown":
            return name.decode("utf-8", "backslashreplace")
        asked.miss(f"died.{field}", "the kernel's own names (init_uts_ns) cannot be read")
        return None

    return Died(
        host=known("host", names.nodename),
        release=known("release", names.release),
        version=known("version", names.version),
        machine=known("machine", names.machine),
        hardware=asked.get("died.hardware", lambda: _find_last(_HARDWARE, log, 1)),
        command_line=asked.get("died.command_line", lambda: _command_line(kernel)),
        time=asked.get("died.time", lambda: _time(kernel)),
        uptime=asked.get("died.uptime", lambda: _uptime(kernel, log)),
        cpus=asked.get("died.cpus", lambda: _count_cpus(kernel)),
        memory=asked.get("died.memory", lambda: _memory(kernel)),
    )


def panicked_cpu(kernel: Kernel) -> int | None:
    """The CPU that ended the machine (kernel/panic.c, ``panic_cpu``); None if it did not panic.

    Raises:
        VmcorefsError: if that cannot be told.
    """
    cpu = kernel.image.integer(kernel.symbol("panic_cpu"), 4)
    if cpu != _NO_CPU and cpu >= _MAX_CPUS:
        raise FormatError(f"panic_cpu is {cpu}, expected less than {_MAX_CPUS}")
    return None if cpu == _NO_CPU else cpu


def read_taints(kernel: Kernel) -> list[Taint]:
    """What the kernel was marked with.

    Raises:
        VmcorefsError: if that cannot be read.
    """
    mask = kernel.image.pointer(kernel.symbol("tainted_mask"))
    return [Taint(*taint) for bit, taint in enumerate(TAINTS) if mask >> bit & 1]


def _find_last(pattern: re.Pattern[str], log: str, group: int) -> str:
    """A group of the last match in the log.

    Raises:
        FormatError: if nothing matches.
    """
    last = next(iter(deque(pattern.finditer(log), maxlen=1)), None)
    if last is None:
        raise FormatError("no line of the log says it" if log else "there is no log")
    return last[group].strip()


def _command_line(kernel: Kernel) -> str:
    address = kernel.image.pointer(kernel.symbol("saved_command_line"))
    return kernel.virtual.string(address, _MAX_COMMAND_LINE).decode("utf-8", "backslashreplace")


def _count_cpus(kernel: Kernel) -> int:
    """Those in use: one that a panic has stopped is no longer online, but still active.

    arch/x86/kernel/process.c, stop_this_cpu; arch/arm64/kernel/smp.c, local_cpu_stop.
    """
    count = kernel.image.integer(kernel.symbol("nr_cpu_ids"), 4)
    if not 0 < count <= _MAX_CPUS:
        raise FormatError(f"nr_cpu_ids is {count}, expected 1 to {_MAX_CPUS}")
    masks = (
        kernel.image.read(kernel.symbol(name), (count + 7) // 8)
        for name in ("__cpu_online_mask", "__cpu_active_mask")
    )
    return reduce(or_, map(int.from_bytes, masks)).bit_count()


def _memory(kernel: Kernel) -> int:
    pages = kernel.image.pointer(kernel.symbol("_totalram_pages"))
    return pages * kernel.vmcoreinfo.page_size


def _time(kernel: Kernel) -> float:
    crash_time = kernel.vmcoreinfo.crash_time
    return float(crash_time if crash_time is not None else clock(kernel, "xtime_sec"))


def _uptime(kernel: Kernel, log: str) -> float:
    """Seconds since boot: when the log ends, if the machine panicked; else by its clock."""
    if panicked_cpu(kernel) is not None and (stamp := _STAMP.findall(log)):
        return float(stamp[-1])
    return float(clock(kernel, "ktime_sec"))


def clock(kernel: Kernel, field: str) -> int:
    """A field of ``struct timekeeper`` in seconds: ``xtime_sec`` (1970), ``ktime_sec`` (boot).

    Source: kernel/time/timekeeping.c.

    Before 6.13, ``tk_core`` had no type of its own, but there was a copy with one, made at each
    tick.
    """
    symbols = kernel.symbols
    timekeeper = kernel.structs("timekeeper")["timekeeper"]
    place, inside = symbols.lookup("timekeeper_data"), 0  # an array since 6.17
    if place is None:
        place = symbols.lookup("tk_core")
    try:
        inside = kernel.structs("tk_data")["tk_data"].offset("timekeeper")
    except FormatError:
        place = symbols.lookup("shadow_timekeeper")
    if place is None:
        raise FormatError("kallsyms: no timekeeper")
    seconds = kernel.image.integer(place + inside + timekeeper.offset(field), 8)
    if not 0 < seconds < _SECONDS:
        raise FormatError(f"the kernel's {field} is {seconds}")
    return seconds
