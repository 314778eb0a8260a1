"""Functions in a line: entries of stacks, and where the processor was."""

from __future__ import annotations

import pytest

from vmcorefs.core.oops.frames import INSTRUCTION, begins_stack, entries


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        (" frob_write+0x1/0x2", ["frob_write"]),
        (" frob_write+0x1/0x2 [frob]", ["frob_write"]),
        (" frob_write.isra.0+0x1/0x2", ["frob_write"]),
        (" [<ffffffff81234567>] frob_write+0x1/0x2", ["frob_write"]),
        ("[c00000000123] [c00000000124] frob_write+0x1/0x2", ["frob_write"]),
        (" [<00000000001120aa>] frob_write+0x1/0x2", ["frob_write"]),
        ("([<00000000001120aa>] frob_write+0x1/0x2)", ["frob_write"]),
        (
            "[<80101234>] (frob_write) from [<80105678>] (frob_ioctl+0x1/0x2)",
            ["frob_write", "frob_ioctl"],
        ),
        (" ? frob_write+0x1/0x2", []),
        (" <TASK>", []),
        ("RIP: 0010:frob_write+0x1/0x2", []),
        ("Call Trace:", []),
    ],
)
def test_entries(text: str, functions: list[str]) -> None:
    assert entries(text) == functions


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("Call Trace:", True),
        ("Call trace:", True),
        ("Backtrace: ", True),
        ("Allocated by task 7:", True),
        ("Freed by task 7:", True),
        ("  backtrace (crc 1a2b):", True),
        ("stack backtrace:", False),
        ("Uninit was stored to memory at:", True),
        (" frob_write+0x1/0x2", False),
    ],
)
def test_what_begins_a_stack(text: str, begins: bool) -> None:
    assert begins_stack(text) is begins


@pytest.mark.parametrize("text", ["RIP: 0033:0x7f12", "RIP: 0010:0x0", "EIP:  (null)", "IP: 0x12"])
def test_where_no_function_is(text: str) -> None:
    found = INSTRUCTION.search(text.replace("EIP:  ", "EIP: 0060:[<00000000>] [< (null)>] "))
    assert found is not None
    assert not any(found.groups())
