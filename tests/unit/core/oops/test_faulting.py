"""Faults of the processor, in the words of each architecture."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, title_of
from vmcorefs.core.oops.faults import Fault

PAGING = "BUG: unable to handle kernel paging request in {}"
NULL = "BUG: unable to handle kernel NULL pointer dereference in {}"

X86 = "RIP: 0010:frob_read+0x12/0x34"
OLD_X86 = "IP: [<ffffffff81234567>] frob_read+0x12/0x34"
POWERPC = "NIP [c000000000123456] frob_read+0x12/0x34\nLR [c000000000654321] frob_up+0x1/0x2"
ARM = "PC is at frob_read+0x12/0x34\nLR is at frob_up+0x1/0x2"
ARM64 = "pc : frob_read+0x12/0x34\nlr : frob_up+0x1/0x2"
RISCV = "epc : frob_read+0x12/0x34\n ra : frob_up+0x1/0x2"
MIPS = "epc   : 8012345c frob_read+0x12/0x34\nra    : 80123000 frob_up+0x1/0x2"
LOONGARCH = " ERA: 9000000000223d8c frob_read+0x12/0x34"
S390 = "Krnl PSW : 0704c00180000000 00000000001120aa (frob_read+0x12/0x34)"


@pytest.mark.parametrize(
    ("head", "where", "title", "fault"),
    [
        ("BUG: unable to handle page fault for address: ffe", X86, PAGING, "MEMORY_SAFETY_BUG"),
        ("BUG: unable to handle kernel paging request at f", OLD_X86, PAGING, "MEMORY_SAFETY_BUG"),
        ("BUG: Unable to handle kernel data access at 0x7", POWERPC, PAGING, "MEMORY_SAFETY_BUG"),
        ("BUG: kernel NULL pointer dereference, address: 8", X86, NULL, "NULL-POINTER-DEREFERENCE"),
        (
            "BUG: Kernel NULL pointer dereference on read at 0x00000000",
            POWERPC,
            NULL,
            "NULL-POINTER-DEREFERENCE",
        ),
        (
            "Unable to handle kernel NULL pointer dereference at virtual address 00000008",
            ARM,
            NULL,
            "NULL-POINTER-DEREFERENCE",
        ),
        (
            "Unable to handle kernel paging request at virtual address dfff800000000000",
            ARM64,
            PAGING,
            "MEMORY_SAFETY_BUG",
        ),
        (
            "Unable to handle kernel access to user memory without uaccess routines at virtual",
            RISCV,
            "BUG: unable to handle kernel access to user memory in {}",
            "",
        ),
        (
            "CPU 0 Unable to handle kernel paging request at virtual address 00000008, epc == 8",
            MIPS,
            PAGING,
            "MEMORY_SAFETY_BUG",
        ),
        (
            "CPU 1 Unable to handle kernel paging request at virtual address 0000000000000008, e",
            LOONGARCH,
            PAGING,
            "MEMORY_SAFETY_BUG",
        ),
        (
            "Unable to handle kernel pointer dereference in virtual kernel address space",
            S390,
            PAGING,
            "MEMORY_SAFETY_BUG",
        ),
        (
            "Oops: general protection fault, probably for non-canonical address 0xdf: 0000 [#1]",
            X86,
            "general protection fault in {}",
            "DoS",
        ),
        ("stack segment: 0000 [#1] SMP", X86, "stack segment fault in {}", "DoS"),
        ("divide error: 0000 [#1] SMP", X86, "divide error in {}", "DoS"),
        ("Oops: divide_error: 0000 [#1] SMP", X86, "divide error in {}", "DoS"),
        ("invalid opcode: 0000 [#1] SMP", X86, "invalid opcode in {}", "DoS"),
        ("traps: PANIC: double fault, error_code: 0x0", X86, "PANIC: double fault in {}", "DoS"),
        ("Internal error: Oops - BUG: 0 [#1] SMP", ARM64, "Internal error in {}", "DoS"),
        ("Unhandled fault: page domain fault (0x81b)", ARM, "Unhandled fault in {}", "DoS"),
        ("Alignment trap: not handling instruction", ARM, "Alignment trap in {}", "DoS"),
    ],
)
def test_the_function_is_the_one_the_processor_was_in(
    head: str, where: str, title: str, fault: str
) -> None:
    found = title_of(f"{head}\n{where}\n{STACK}")
    assert (found.title, found.fault) == (title.format("frob_read"), fault)
    assert found.function == "frob_read"
    assert not found.mangled


@pytest.mark.parametrize(
    "where",
    [
        "RIP: 0010:memcpy+0x12/0x34",
        "RIP: 0010:0x0",
        "RIP: 0010:[<0000000000000000>]  [<          (null)>]           (null)",
        "pc : __memset+0x12/0x34",
    ],
)
def test_who_called_is_to_blame_for_a_wild_call_and_for_what_copies(where: str) -> None:
    found = title_of(f"BUG: kernel NULL pointer dereference, address: 0\n{where}\n{STACK}")
    assert found.title == NULL.format("frob_write")


def test_a_systems_call_is_called_alike_wherever_it_was_entered() -> None:
    head = "general protection fault: 0000 [#1]\nRIP: 0010:__se_sys_frob+0x1/0x2\n"
    found = title_of(head + STACK)
    assert found.title == "general protection fault in frob"
    assert found.alternatives == (
        "bad-access in __se_sys_frob",
        "bad-access in frob",
        "bad-access in sys_frob",
        "general protection fault in __se_sys_frob",
        "general protection fault in sys_frob",
    )


def test_the_stack_that_ran_over_is_named_for_what_was_asked_for() -> None:
    found = title_of(
        "BUG: TASK stack guard page was hit at ffffc900012 (stack is ffffc900..ffffc901)\n"
        "RIP: 0010:frob_deep+0x1/0x2\n"
        "Call Trace:\n frob_deep+0x1/0x2\n frob_deeper+0x1/0x2\n frob_ioctl+0x1/0x2\n"
        " vfs_ioctl+0x1/0x2\n"
    )
    assert found.title == "BUG: stack guard page was hit in frob_ioctl"
    assert found.alternatives == ("stack-overflow in frob_ioctl",)


def test_a_programs_protection_fault_is_no_crash() -> None:
    text = "traps: a.out[7] general protection fault ip:401136 sp:7ffd error:0 in a.out[401000]\n"
    fatal = f"divide error: 0000 [#1]\n{X86}\n{STACK}"
    assert title_of(text + fatal).title == "divide error in frob_read"


def test_the_second_half_of_the_head_is_lost() -> None:
    found = title_of(f"BUG: unable to handle kernel\n{X86}\n{STACK}")
    assert found.title == "BUG: unable to handle kernel"
    assert found.mangled
    assert found.fault == Fault.UNKNOWN
