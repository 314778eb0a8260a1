"""Machines by name: as kernels print them, as QEMU spells them, and back."""

from __future__ import annotations

import pytest

from vmcorefs.core.elf.elf import make_ehdr
from vmcorefs.core.elf.machines import is_always_32_bit, long_bits, machine_number, uname_of

# include/uapi/linux/elf-em.h; arch/*/Makefile, UTS_MACHINE; arch/arm/mm/proc-*.S, arch_name
NUMBERS = {
    62: "x86_64 amd64 X86_64",
    3: "i386 i486 i586 i686",
    40: "armv4l armv4tl armv5tel armv5tejl armv6l armv7l armv7b armv7ml armv8l arm armeb",
    183: "aarch64 aarch64_be arm64",
    20: "ppc",
    21: "ppc64 ppc64le",
    22: "s390 s390x S390X",
    243: "riscv32 riscv64",
    8: "mips mips64 mipsel mips64el",
    258: "loongarch32 loongarch64",
    2: "sparc",
    43: "sparc64",
    0x9026: "alpha",
    15: "parisc parisc64 hppa",
    50: "ia64",
    4: "m68k",
    42: "sh sh2 sh3 sh4 sh4a sh4eb",
    189: "microblaze",
    113: "nios2",
    92: "openrisc or1k",
    94: "xtensa",
    195: "arc",
    252: "csky",
    164: "hexagon",
}
BITS = {
    32: "i686 armv7l armv7b ppc s390 riscv32 mips loongarch32 sparc parisc m68k sh4 microblaze"
    " nios2 openrisc xtensa arc csky hexagon",
    64: "x86_64 aarch64 aarch64_be ppc64 ppc64le s390x riscv64 mips64 loongarch64 sparc64 alpha"
    " parisc64 ia64",
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for number, names in NUMBERS.items() for name in names.split()],
)
def test_every_name_of_a_machine_is_known(name: str, number: int) -> None:
    assert machine_number(name) == number
    assert machine_number(name.upper()) == number


@pytest.mark.parametrize(
    "name", ["", "Unknown", "unknown", "vax", "arm63", "i386x", "shell", "x86_6"]
)
def test_what_is_no_name_of_a_machine_is_not_known(name: str) -> None:
    assert machine_number(name) is None


@pytest.mark.parametrize(
    ("name", "bits"), [(name, bits) for bits, names in BITS.items() for name in names.split()]
)
def test_a_machine_is_written_by_the_name_that_its_kernel_prints(name: str, bits: int) -> None:
    number = machine_number(name)
    assert number is not None
    order = ">" if name in {"armv7b", "aarch64_be", "ppc64"} else "<"
    assert uname_of(number, 32 if bits == 32 else 64, order) == name  # type: ignore[arg-type]


def test_an_unknown_machine_has_no_name() -> None:
    assert uname_of(0, 64, "<") is None
    assert uname_of(54321, 32, ">") is None


@pytest.mark.parametrize(
    ("machine", "elf_class", "bits"),
    [
        (3, 2, 32),  # PAE: kexec-tools, crashdump-x86.c
        (3, 1, 32),
        (40, 2, 32),
        (62, 1, 64),  # --elf32-core-headers
        (183, 1, 64),
        (8, 1, 32),
        (8, 2, 64),
        (22, 1, 32),
        (243, 2, 64),
        (0, 1, 32),
        (0, 2, 64),
    ],
)
def test_the_class_of_the_headers_decides_only_where_a_machine_may_be_either(
    machine: int, elf_class: int, bits: int
) -> None:
    assert long_bits(make_ehdr(e_machine=machine, elf_class=elf_class)) == bits


def test_some_machines_always_have_32_bits() -> None:
    assert [m for m in (0, 2, 3, 8, 20, 21, 22, 40, 62, 243) if is_always_32_bit(m)] == [
        2,
        3,
        20,
        40,
    ]
