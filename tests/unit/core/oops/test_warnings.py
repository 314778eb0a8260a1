"""WARN and WARN_ON, and the checks that come as warnings."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, title_of
from vmcorefs.core.oops.faults import Fault


def warning(place: str, function: str) -> str:
    return (
        f"WARNING: CPU: 1 PID: 7 at {place}:12 {function}+0x1/0x2\n"
        f"Modules linked in:\nRIP: 0010:{function}+0x1/0x2\nCode: 0f 0b\n{STACK}"
    )


@pytest.mark.parametrize(
    ("place", "function", "title", "fault"),
    [
        ("drivers/frob.c", "frob_check", "WARNING in frob_check", Fault.WARNING),
        ("lib/refcount.c", "refcount_warn_saturate", "WARNING: refcount bug in", Fault.REFCOUNT),
        ("lib/debugobjects.c", "debug_print_object", "WARNING: ODEBUG bug in", Fault.WARNING),
        ("lib/kobject.c", "kobject_put", "WARNING: kobject bug in", Fault.WARNING),
        ("mm/usercopy.c", "usercopy_warn", "WARNING: bad usercopy in", Fault.WARNING),
        ("fs/proc/generic.c", "proc_register", "WARNING: proc registration bug in", Fault.WARNING),
        ("mm/util.c", "kvmalloc_node", "WARNING: kmalloc bug in", Fault.WARNING),
    ],
)
def test_a_warning(place: str, function: str, title: str, fault: Fault) -> None:
    found = title_of(warning(place, function))
    expected = title if title.endswith(function) else f"{title} frob_write"
    assert (found.title, found.fault) == (expected, fault)
    assert not found.mangled


@pytest.mark.parametrize(
    "head",
    [
        "WARNING: drivers/frob.c:12 at frob_check+0x1/0x2, CPU#1: frob/7",
        "WARNING: [p != NULL] drivers/frob.c:12 at frob_check+0x1/0x2, CPU#1: frob/7",
        "WARNING: drivers/frob.c:12 at 0x0, CPU#1: frob/7",
        "WARNING: at drivers/frob.c:12 frob_check+0x1/0x2()",
        "WARNING: CPU: 1 PID: 7 at drivers/frob.c:12 frob_check+0x1/0x2 [frob]",
    ],
)
def test_a_warnings_head_has_had_many_forms(head: str) -> None:
    assert title_of(f"{head}\nRIP: 0010:frob_check+0x1/0x2\n{STACK}").title == (
        "WARNING in frob_check"
    )


def test_an_old_kernel_prints_the_stack_first() -> None:
    text = (
        "WARNING: CPU: 1 PID: 7 at drivers/frob.c:12 frob_check+0x1/0x2()\n"
        "Call Trace:\n [<ffffffff81000001>] dump_stack+0x1/0x2\n"
        " [<ffffffff81000002>] warn_slowpath_null+0x1/0x2\n"
        " [<ffffffff81000003>] frob_check+0x1/0x2\n"
    )
    assert title_of(text).title == "WARNING in frob_check"


def test_powerpc_tells_where_it_was_between_two_stacks() -> None:
    text = (
        "WARNING: CPU: 1 PID: 7 at drivers/frob.c:12 frob_check+0x1/0x2\n"
        "Call Trace:\n[c0000000] [c0000001] __warn+0x1/0x2 (unreliable)\n"
        "--- interrupt: 700 at frob_check+0x1/0x2\n"
        "[c0000000] [c0000001] frob_write+0x1/0x2\n"
    )
    assert title_of(text).title == "WARNING in frob_check"


def test_a_drivers_urb() -> None:
    found = title_of(warning("drivers/usb/core/urb.c", "usb_submit_urb"))
    assert found.title == "WARNING in frob_write/usb_submit_urb"


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("regs at 00abcdef01 in frob:7 has bad 'bp' value 00", "regs has bad 'bp' value"),
        ("regs at (null) in frob:7 has bad 'bp' value (null)", "regs has bad value"),
        ("frame pointer at 00abcdef01 in frob:7 has bad value 00", "frame pointer has bad value"),
        ("frame pointer at (null) in frob:7 has bad value", "regs has bad value"),
    ],
)
def test_the_unwinders_own(head: str, title: str) -> None:
    found = title_of(f"WARNING: kernel stack {head}")
    assert found.title == f"WARNING: kernel stack {title}"
    assert (found.fault, found.mangled) == (Fault.UNKNOWN, "")


def test_memory_of_no_size() -> None:
    text = warning("mm/vmalloc.c", "frob_x").replace("frob_x", "__vmalloc_node_range", 1)
    assert title_of(text).title == "WARNING: zero-size vmalloc in frob_x"


def test_a_warning_that_no_rule_knows_is_its_own_title() -> None:
    found = title_of("frob: WARNING: the frob at 12:34:56 has 12345 errors")
    assert found.title == "WARNING: the frob at NUM:NUM:NUM has NUM errors"
    assert found.fault == Fault.WARNING
