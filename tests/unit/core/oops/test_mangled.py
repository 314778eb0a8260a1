"""Logs that have lost something, or got into one another."""

from __future__ import annotations

from tests.unit.core.oops.logs import STACK, title_of

HEAD = "BUG: kernel NULL pointer dereference, address: 8\nRIP: 0010:frob_read+0x1/0x2\n"


def test_a_whole_one() -> None:
    assert title_of(HEAD + STACK).mangled == ""


def test_no_stack() -> None:
    assert title_of(HEAD + "Code: 90\n" * 5).mangled == "there is no stack"


def test_the_log_ends_where_the_stack_begins() -> None:
    assert title_of(HEAD + "Call Trace:\n").mangled == "the log ends where a stack begins"


def test_a_stack_without_entries() -> None:
    assert title_of(HEAD + "Call Trace:\n" + "RAX: 0\n" * 20).mangled == "a stack has no entries"


def test_a_stack_that_another_follows_at_once() -> None:
    text = f"{HEAD}Allocated by task 7:\nFreed by task 7:\n frob_free+0x1/0x2\n{STACK}"
    assert title_of(text).mangled == "a stack has no entries"


def test_kasan_may_have_no_stack_of_an_allocation() -> None:
    text = f"{HEAD}Allocated by task 7:\n(stack is not available)\n{STACK}"
    assert title_of(text).mangled == ""


def test_riscv_prints_a_stack_behind_registers() -> None:
    status = f"status: {'0' * 16} badaddr: {'0' * 16} cause: {'0' * 16}\n"
    assert title_of(f"{HEAD}{status}[<ffffffff80>] frob_a+0x1/0x2\n[<ff>] b+0x1/0x2").mangled == ""


def test_a_time_in_the_title() -> None:
    found = title_of(f"BUG: KCSAN: data-race in frob_a [   12.345678] frob_b\n{STACK}")
    assert "run into one another" in found.mangled


def test_a_console_that_hung_up() -> None:
    found = title_of(f"{HEAD}{STACK}\nserialport: VM disconnected.\n")
    assert found.mangled == "the console was cut off"
    assert found.title.endswith("in frob_read")
