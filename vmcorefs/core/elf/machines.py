"""Machines by their names: those that ``uname -m`` prints, and those of QEMU and of Debian.

A kdump file names its machine as the kernel's ``init_uts_ns`` does: by ``UTS_MACHINE``
(arch/*/Makefile), which arch/arm and arch/sh overwrite when they know the CPU. QEMU writes its own
word, such as ``S390X``, or ``Unknown`` (dump/dump.c, ``ELF_MACHINE_UNAME``). An ELF file has a
number instead (include/uapi/linux/elf-em.h).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from vmcorefs.core.elf.elf import (
    ELFCLASS32,
    EM_386,
    EM_AARCH64,
    EM_MIPS,
    EM_PPC64,
    EM_RISCV,
    EM_X86_64,
    ElfHeader,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo

EM_NONE, EM_ARM, EM_S390 = 0, 40, 22

_NARROW: Final = {
    EM_386: "i686 i386 i486 i586 x86 i86pc",
    EM_ARM: "armv7l armv7b arm armel armhf armeb",
    EM_MIPS: "mips mipsel mipsn32 mipsn32el",
    EM_RISCV: "riscv32",
    EM_S390: "s390",
    2: "sparc sparc32",
    4: "m68k",
    15: "parisc hppa",
    20: "ppc powerpc ppcle powerpcle",
    42: "sh4 sh sh4eb",
    46: "h8300",
    76: "cris",
    88: "m32r",
    92: "openrisc or1k",
    93: "arc700 arcompact",
    94: "xtensa xtensaeb",
    106: "blackfin",
    110: "unicore32",
    113: "nios2",
    140: "c6x",
    164: "hexagon",
    167: "nds32",
    174: "metag",
    185: "avr32",
    189: "microblaze microblazeel",
    195: "arc arceb arcv2",
    252: "csky",
    258: "loongarch32",
    0x5441: "frv",
}
"""``e_machine`` to its names where a ``long`` has 32 bits. The first one is what we write, but
the second one for a machine of ``_ORDERED`` that is big-endian."""

_WIDE: Final = {
    EM_X86_64: "x86_64 amd64 x86-64 x64",
    EM_AARCH64: "aarch64 aarch64_be arm64",
    EM_PPC64: "ppc64le ppc64 ppc64el powerpc64 powerpc64le",
    EM_RISCV: "riscv64 riscv",
    EM_S390: "s390x",
    EM_MIPS: "mips64 mips64el",
    15: "parisc64 hppa64",
    43: "sparc64 sparcv9",
    50: "ia64",
    191: "tilegx",
    258: "loongarch64 loongarch",
    0x9026: "alpha",
}
"""The same where a ``long`` has 64 bits."""

_ORDERED: Final = frozenset({EM_ARM, EM_AARCH64, EM_PPC64})

_PATTERNS: Final = ((re.compile("armv[3-9][a-z]*"), EM_ARM), (re.compile("sh[1-5][a-z]*"), 42))

_NUMBERS: Final = {
    name: machine
    for names in (_NARROW, _WIDE)
    for machine, words in names.items()
    for name in words.split()
}


def machine_number(name: str) -> int | None:
    """``e_machine`` of a machine by any of its names, in any case; None if it is not known."""
    name = name.lower()
    matching = (machine for pattern, machine in _PATTERNS if pattern.fullmatch(name))
    return _NUMBERS.get(name) or next(matching, None)


def uname_of(machine: int, bits: Literal[32, 64], byte_order: ByteOrder) -> str | None:
    """The name that ``uname -m`` prints on a machine; None if the machine is not known.

    Args:
        machine: ``e_machine``.
        bits: In a ``long``; what does not go with the machine is ignored.
        byte_order: ``<`` or ``>``.
    """
    first, other = (_NARROW, _WIDE) if bits == 32 else (_WIDE, _NARROW)
    names = first.get(machine) or other.get(machine)
    if names is None:
        return None
    return names.split()[machine in _ORDERED and byte_order == ">"]


def long_bits(header: ElfHeader, vmcoreinfo: Vmcoreinfo | None = None) -> Literal[32, 64]:
    """Bits in a ``long`` of the machine that ELF headers are of.

    The class of the headers decides only where a machine may be either and its kernel does not say:
    kexec-tools gives a 32-bit machine with memory above 4 GiB headers of 64 bits
    (kexec/arch/i386/crashdump-x86.c), and any machine those of 32 bits that asks for them.

    Args:
        header: The ELF header.
        vmcoreinfo: The kernel's, if it is known.
    """
    narrow, wide = header.e_machine in _NARROW, header.e_machine in _WIDE
    if narrow != wide:
        return 32 if narrow else 64
    told = vmcoreinfo.pointer_bits if vmcoreinfo is not None else None
    if told is not None:
        return told
    return 32 if header.elf_class == ELFCLASS32 else 64


def usual_byte_order(machine: int) -> ByteOrder:
    """The byte order of a machine of which nothing else says it: big-endian is s390 alone."""
    return ">" if machine == EM_S390 else "<"


def is_always_32_bit(machine: int) -> bool:
    """Whether a ``long`` has 32 bits on every machine of this ``e_machine``."""
    return machine in _NARROW and machine not in _WIDE
