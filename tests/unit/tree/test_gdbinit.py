"""gdb's commands, which name files: no name may become a command."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from vmcorefs.errors import FormatError
from vmcorefs.tree.symbols import _make_gdbinit


def gdbinit(location: str, vmlinux: str | None = None) -> bytes:
    image: Any = SimpleNamespace(notes=SimpleNamespace(cpu_slots=()))
    symbols: Any = SimpleNamespace(kernel_offset=0x1000, panicked=lambda: None)
    return _make_gdbinit(image, symbols, location, vmlinux, 0)


def test_a_name_that_is_not_utf_8_is_written_as_it_is() -> None:
    text = gdbinit(os.fsdecode(b"/mnt/\xff"))
    assert b'symbol-file "/mnt/\xff/vmlinux" -o 0x0\ncore-file /mnt/\xff/kcore\n' in text


@pytest.mark.parametrize(
    ("location", "vmlinux"), [("/mnt/a\nshell id", None), ("/mnt/a", "/boot/b\nshell id")]
)
def test_a_name_with_a_line_end_is_refused(location: str, vmlinux: str | None) -> None:
    with pytest.raises(FormatError, match="gdb cannot take a name with a line end"):
        gdbinit(location, vmlinux)
