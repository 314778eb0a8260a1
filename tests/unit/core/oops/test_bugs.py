"""BUG(), panics, and what subsystems say of themselves."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, title_of
from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.title import read_title

BUG = "kernel BUG at {}:12!\nOops: invalid opcode: 0000 [#1] SMP\nRIP: 0010:{}+0x1/0x2\n" + STACK
PANIC = "Kernel panic - not syncing: "


@pytest.mark.parametrize(
    ("place", "function", "title", "fault"),
    [
        ("drivers/frob.c", "frob_check", "kernel BUG in frob_check", Fault.BUG),
        ("net/core/skbuff.c", "skb_panic", "kernel BUG in frob_write", Fault.BUG),
        ("mm/usercopy.c", "usercopy_abort", "BUG: bad usercopy in frob_write", Fault.BUG),
        (
            "lib/list_debug.c",
            "__list_add_valid_or_report",
            "BUG: corrupted list in frob_write",
            Fault.MEMORY_SAFETY_BUG,
        ),
    ],
)
def test_bug_on(place: str, function: str, title: str, fault: Fault) -> None:
    found = title_of(BUG.format(place, function))
    assert (found.title, found.fault) == (title, fault)
    assert not found.mangled


@pytest.mark.parametrize(
    ("text", "title", "fault"),
    [
        (
            "BUG: scheduling while atomic: frob/7/0x00000002\n",
            "BUG: scheduling while atomic in frob_write",
            Fault.ATOMIC_SLEEP,
        ),
        (
            "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585\n",
            "BUG: sleeping function called from invalid context in frob_write",
            Fault.ATOMIC_SLEEP,
        ),
        (
            "BUG: using smp_processor_id() in preemptible [00000000] code: frob/7\n",
            "BUG: using smp_processor_id() in preemptible code in frob_write",
            Fault.LOCKDEP,
        ),
        (
            (
                "BUG: workqueue leaked lock or atomic: kworker/0:1/0x00000001/7\n"
                "     last function: frob_work\n"
            ),
            "BUG: workqueue leaked lock or atomic in frob_work",
            Fault.UNKNOWN,
        ),
        (
            "BUG: Bad rss-counter state mm:00000000abcdef01 type:MM_ANONPAGES val:1\n",
            "BUG: Bad rss-counter state",
            Fault.UNKNOWN,
        ),
        (
            "BUG: non-zero pgtables_bytes on freeing mm: 4096\n",
            "BUG: non-zero pgtables_bytes on freeing mm: NUM",
            Fault.UNKNOWN,
        ),
        ("BUG: Bad page map in process frob  pte:1 pmd:2\n", "BUG: Bad page map", Fault.UNKNOWN),
        (
            (
                "BUG: Bad page state in process frob  pfn:12345\n"
                "page last allocated via order 0, migratetype Unmovable\n"
                " post_alloc_hook+0x1/0x2\n get_page_from_freelist+0x1/0x2\n frob_fill+0x1/0x2\n"
            ),
            "BUG: Bad page state in frob_fill",
            Fault.UNKNOWN,
        ),
        (
            "BUG: Dentry 00000000abcdef01{i=7,n=/}  still in use (1) [unmount of frobfs sda1]\n",
            "BUG: Dentry still in use in unmount",
            Fault.UNKNOWN,
        ),
        (
            "BUG kmalloc-64 (Not tainted): Object already free\n",
            "BUG: Object already free",
            Fault.DOS,
        ),
        (
            "unregister_netdevice: waiting for eth0 to become free. Usage count = 2\n",
            "unregister_netdevice: waiting for DEV to become free",
            Fault.DOS,
        ),
        (
            "VFS: Close: file count is 0 (f_op=frob_fops)\n",
            "VFS: Close: file count is zero (use-after-free)",
            Fault.DOS,
        ),
        (
            "VFS: Busy inodes after unmount of sda1 (ext4)\n",
            "VFS: Busy inodes after unmount (use-after-free)",
            Fault.DOS,
        ),
        (
            f"{PANIC}stack-protector: Kernel stack is corrupted in: frob_read+0x1/0x2\n",
            "kernel panic: stack is corrupted in frob_read",
            Fault.DOS,
        ),
        (
            f"{PANIC}stack-protector: Kernel stack is corrupted in: ffffffff81234567\n",
            "kernel panic: stack is corrupted in frob_write",
            Fault.DOS,
        ),
        (
            f"{PANIC}corrupted stack end detected inside scheduler\n",
            "kernel panic: corrupted stack end in frob_write",
            Fault.DOS,
        ),
        (
            f"{PANIC}kernel stack overflow\n",
            "kernel stack overflow in frob_write",
            Fault.DOS,
        ),
        (
            f"{PANIC}Attempted to kill init! exitcode=0x00000009\n",
            "kernel panic: Attempted to kill init!",
            Fault.DOS,
        ),
        (
            f"{PANIC}Couldn't open N_TTY ldisc for ttyS0 --- error -5.\n",
            "kernel panic: Couldn't open N_TTY ldisc",
            Fault.DOS,
        ),
        (f"{PANIC}sysrq triggered crash\n", "kernel panic: sysrq triggered crash", Fault.DOS),
        (
            f"{PANIC}System is deadlocked on memory\n",
            "kernel panic: System is deadlocked on memory",
            Fault.DOS,
        ),
        ("Booting the kernel.\n", "unexpected kernel reboot", Fault.REBOOT),
        (
            "trusty: panic (caller 0xffffffff): DEBUG ASSERT FAILED at (lib/a.c:12): frob_is_on\n",
            "trusty: ASSERT FAILED: frob_is_on",
            Fault.DOS,
        ),
        ("trusty: panic (caller 0xff): frob\n", "trusty: panic: frob", Fault.DOS),
        ("Kernel BUG frob_free\n", "kernel BUG frob_free", Fault.BUG),
        ("fatal error: unexpected signal\n", "go runtime error", Fault.DOS),
        ("panic: runtime error: frob\n", "panic: runtime error: frob", Fault.DOS),
        ("SYZFATAL: frob failed\n", "SYZFATAL: frob failed", Fault.SYZ_FAILURE),
        ("SYZFAIL: frob failed\n", "SYZFAIL: frob failed", Fault.SYZ_FAILURE),
    ],
)
def test_a_message(text: str, title: str, fault: Fault) -> None:
    found = title_of(text + STACK)
    assert (found.title, found.fault) == (title, fault)
    assert not found.mangled


@pytest.mark.parametrize("reason", ["Fatal exception", "panic_on_warn set ..."])
def test_a_panic_whose_reason_is_lost_is_mangled(reason: str) -> None:
    found = title_of(f"{PANIC}{reason}\n{STACK}")
    assert found.title == f"kernel panic: {reason.removesuffix(' ...')}"
    assert found.mangled


@pytest.mark.parametrize("word", ["BUG", "WARNING", "INFO"])
def test_nothing_but_a_word_is_mangled(word: str) -> None:
    found = title_of(f"{word}: \n{STACK}")
    assert (found.title, bool(found.mangled)) == (f"{word}: corrupted", True)


def test_rusts_panic_says_what_is_wrong_in_the_next_line() -> None:
    text = (
        "rust_kernel: panicked at drivers/frob/node.rs:12:3:\nattempt to subtract with overflow\n"
        "kernel BUG at rust/helpers/bug.c:7!\nRIP: 0010:rust_helper_BUG+0x1/0x2\nCall Trace:\n"
        " _RNvCscSpY9Juk0HT_7___rustc17rust_begin_unwind+0x1/0x2\n"
        " _RNvNtCs9jEwPDbx20M_4core9panicking9panic_fmt+0x1/0x2\n"
        " _RNvMNtC4frob4nodeNtB2_4Node4take+0x1/0x2\n"
    )
    found = title_of(text)
    assert found.title == "attempt to subtract with overflow in <frob::node::Node>::take"
    assert found.function == "<frob::node::Node>::take"


def test_an_assertion_of_trusty_that_was_cut_is_mangled() -> None:
    found = title_of("trusty: panic (caller 0xff: ASSERT FAILED: frob")
    assert (found.title, bool(found.mangled)) == ("trusty: ASSERT FAILED: frob", True)


def test_a_machine_check_prints_no_stack() -> None:
    found = read_title(f"{PANIC}Fatal local machine check\n".encode())
    assert found is not None
    assert (found.title, found.fault) == ("kernel panic: Fatal local machine check", Fault.DOS)
    assert not found.mangled
