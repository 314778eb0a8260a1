"""What to make a capture of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from tests.lab.kernels import Role
from tests.lab.packages import NATIVE, Arch

Load = Literal["kexec", "file", "none"]

_UNITS: Final = {"M": 1 << 20, "G": 1 << 30}

_PARAMETERS: Final[dict[Arch, str]] = {
    # an emulated timer may be too late for the kernel, which panics: "IO-APIC + timer doesn't work"
    "amd64": "console=ttyS0 no_timer_check",
    "arm64": "console=ttyAMA0",
    "ppc64el": "console=hvc0",
    "riscv64": "console=ttyS0",
    "s390x": "console=ttysclp0",
}

_SECTIONS: Final = (
    "uname",
    "version",
    "tasks",
    "iomem",
    "crash_notes",
    "vmcoreinfo",
    "symbols",
    "kallsyms-sums",
    "btf-sum",
    "kcore-headers",
    "dmesg",
)


@dataclass(frozen=True)
class Recipe:
    """What to capture, and how.

    Args:
        memory: of the guest, such as ``1G`` or ``512M``.
        cpus: how many.
        crashkernel: the kernel's parameter of that name.
        load: the system call that loads the capture kernel: ``kexec`` is kexec_load, whose
            purgatory keeps a backup of low memory; ``file`` is kexec_file_load. With ``none`` no
            capture kernel is loaded and nothing panics: the running machine is stopped.
        kernel: which of the kernels that this machine's release of Debian has.
        append: more of the crashed kernel's command line, such as ``nokaslr no5lvl``.
        arch: the machine's; one that is not ``amd64`` can only be stopped.
        dumps: QEMU dumps the memory of the stopped machine too, and says its registers.

    Raises:
        ValueError: if ``memory`` is no size, ``cpus`` is not positive, or a foreign machine is to
            crash.
    """

    memory: str = "1G"
    cpus: int = 2
    crashkernel: str = "192M"
    load: Load = "kexec"
    kernel: Role = "stable"
    append: str = ""
    arch: Arch = NATIVE
    dumps: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-9][0-9]*[MG]", self.memory):
            raise ValueError(f"memory {self.memory!r} is not a size such as 512M or 1G")
        if self.cpus < 1:
            raise ValueError(f"{self.cpus} CPUs are too few")
        if self.crashes and self.arch != NATIVE:
            raise ValueError(f"load={self.load}: only {NATIVE} crashes here, not {self.arch}")

    @property
    def crashes(self) -> bool:
        """Whether the kernel panics, and another copies its vmcore out."""
        return self.load != "none"

    @property
    def memory_size(self) -> int:
        """The guest's memory in bytes."""
        return int(self.memory[:-1]) * _UNITS[self.memory[-1]]

    @property
    def cmdline(self) -> str:
        """The crashed kernel's command line."""
        fixed = f"{_PARAMETERS[self.arch]} oops=panic panic=1 rdinit=/init"
        chosen = f"crashkernel={self.crashkernel} lab.load={self.load} {self.append}"
        return f"{fixed} {chosen}".rstrip()

    @property
    def sections(self) -> tuple[str, ...]:
        """What the guest says of itself; each becomes a file."""
        native = ("firmware-memmap", "workload") if self.arch == NATIVE else ()
        return (*_SECTIONS, *native, *(("kexec",) if self.crashes else ()))
