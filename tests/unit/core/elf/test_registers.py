"""NT_PRSTATUS: the registers of each architecture, on notes that are written word by word."""

from __future__ import annotations

import struct

import pytest

from tests.builders import dead_machines
from vmcorefs.core.elf.notes import ByteOrder, Note, walk_notes
from vmcorefs.core.elf.registers import REGISTER_SETS, decode_prstatus, encode_prstatus

# the first word is 1, the second 2 ...: what a line says is which word it came from
PLACES = {
    # arch/x86/include/asm/user_64.h, struct user_regs_struct
    62: """r15 1 r14 2 r13 3 r12 4 rbp 5 rbx 6 r11 7 r10 8 r9 9 r8 10 rax 11 rcx 12 rdx 13 rsi 14
        rdi 15 orig_rax 16 rip 17 cs 18 eflags 19 rsp 20 ss 21 fs_base 22 gs_base 23 ds 24 es 25
        fs 26 gs 27""",
    # arch/arm64/include/uapi/asm/ptrace.h, struct user_pt_regs
    183: """x0 1 x1 2 x2 3 x3 4 x4 5 x5 6 x6 7 x7 8 x8 9 x9 10 x10 11 x11 12 x12 13 x13 14 x14 15
        x15 16 x16 17 x17 18 x18 19 x19 20 x20 21 x21 22 x22 23 x23 24 x24 25 x25 26 x26 27 x27 28
        x28 29 x29 30 x30 31 sp 32 pc 33 pstate 34""",
    # arch/riscv/include/uapi/asm/ptrace.h, struct user_regs_struct
    243: """pc 1 ra 2 sp 3 gp 4 tp 5 t0 6 t1 7 t2 8 s0 9 s1 10 a0 11 a1 12 a2 13 a3 14 a4 15 a5 16
        a6 17 a7 18 s2 19 s3 20 s4 21 s5 22 s6 23 s7 24 s8 25 s9 26 s10 27 s11 28 t3 29 t4 30 t5 31
        t6 32""",
    # arch/powerpc/include/uapi/asm/ptrace.h, struct pt_regs
    21: """gpr0 1 gpr1 2 gpr2 3 gpr3 4 gpr4 5 gpr5 6 gpr6 7 gpr7 8 gpr8 9 gpr9 10 gpr10 11 gpr11 12
        gpr12 13 gpr13 14 gpr14 15 gpr15 16 gpr16 17 gpr17 18 gpr18 19 gpr19 20 gpr20 21 gpr21 22
        gpr22 23 gpr23 24 gpr24 25 gpr25 26 gpr26 27 gpr27 28 gpr28 29 gpr29 30 gpr30 31 gpr31 32
        nip 33 msr 34 orig_gpr3 35 ctr 36 link 37 xer 38 ccr 39 softe 40 trap 41 dar 42 dsisr 43
        result 44""",
    # arch/s390/include/uapi/asm/ptrace.h, s390_regs: access registers have 32 bits
    22: """pswm 1 pswa 2 r0 3 r1 4 r2 5 r3 6 r4 7 r5 8 r6 9 r7 10 r8 11 r9 12 r10 13 r11 14 r12 15
        r13 16 r14 17 r15 18 acr0 19 acr1 20 acr2 21 acr3 22 acr4 23 acr5 24 acr6 25 acr7 26
        acr8 27 acr9 28 acr10 29 acr11 30 acr12 31 acr13 32 acr14 33 acr15 34 orig_r2 35""",
}
WORDS = {62: "27Q", 183: "34Q", 243: "32Q", 21: "48Q", 22: "18Q16IQ"}  # elf_gregset_t
SIZES = {62: 336, 183: 392, 243: 376, 21: 504, 22: 336}  # sizeof(struct elf_prstatus)
NAMED = {62: 27 * 8, 183: 34 * 8, 243: 32 * 8, 21: 44 * 8, 22: 216}  # bytes of what has a name


def counted(machine: int, order: ByteOrder, pid: int) -> Note:
    """A note whose pid and whose words are as told; pr_pid is at 32 and pr_reg at 112."""
    desc = bytearray(b"\xee" * SIZES[machine])
    struct.pack_into(f"{order}i", desc, 32, pid)
    layout = struct.Struct(order + WORDS[machine])
    count = len(layout.unpack(bytes(layout.size)))
    layout.pack_into(desc, 112, *range(1, count + 1))
    return Note(b"CORE", 1, bytes(desc), 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("machine", PLACES)
def test_every_register_is_the_word_that_its_header_says(machine: int, order: ByteOrder) -> None:
    state = decode_prstatus(counted(machine, order, 4711), machine, order)
    assert state is not None
    told = PLACES[machine].split()
    assert state.pid == 4711
    assert list(state.registers.items()) == [
        (name, int(word)) for name, word in zip(told[::2], told[1::2], strict=True)
    ]


@pytest.mark.parametrize(
    ("machine", "ip", "sp"), [(62, 17, 20), (183, 33, 32), (243, 1, 3), (21, 33, 2), (22, 2, 18)]
)
def test_where_a_cpu_was_and_its_stack(machine: int, ip: int, sp: int) -> None:
    state = decode_prstatus(counted(machine, "<", 1), machine, "<")
    assert state is not None
    assert (state.ip, state.sp) == (ip, sp)


def test_these_architectures_are_known() -> None:
    assert REGISTER_SETS.keys() == PLACES.keys()


def test_the_text_has_a_register_a_line() -> None:
    (note,) = walk_notes(dead_machines.prstatus_note(-1, 0xFFFF_FFFF_8100_0000, 0x5678), "<").notes
    state = decode_prstatus(note, 62, "<")
    assert state is not None
    lines = state.format().split(b"\n")
    assert lines[0] == b"pid -1"
    assert lines[1] == b"r15 0x0000000000000000"
    assert lines[17] == b"rip 0xffffffff81000000"
    assert lines[20] == b"rsp 0x0000000000005678"
    assert lines[27:] == [b"gs 0x0000000000000000", b""]


@pytest.mark.parametrize(
    ("note", "machine"),
    [
        (Note(b"CORE", 2, bytes(336), 0), 62),
        (Note(b"CORE", 1, bytes(335), 0), 62),
        (Note(b"CORE", 1, bytes(336), 0), 3),
        (Note(b"Xen", 1, bytes(336), 0), 62),
    ],
)
def test_what_is_no_known_prstatus_has_no_registers(note: Note, machine: int) -> None:
    assert decode_prstatus(note, machine, "<") is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("machine", PLACES)
def test_what_is_encoded_is_where_the_header_says(machine: int, order: ByteOrder) -> None:
    told = PLACES[machine].split()
    registers = {name: int(word) for name, word in zip(told[::2], told[1::2], strict=True)}
    encoded = encode_prstatus(4711, registers, machine, order)
    by_hand = counted(machine, order, 4711).desc

    assert len(encoded) == len(by_hand)
    named = 112 + NAMED[machine]
    assert encoded[112:named] == by_hand[112:named]
    assert encoded[32:36] == by_hand[32:36]
    assert not any(encoded[:32] + encoded[36:112] + encoded[named:])


def test_a_register_that_is_not_given_is_zero() -> None:
    assert not any(encode_prstatus(0, {}, 62, "<"))
