"""gdb's commands, which name files and tasks: no name may become a command."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from vmcorefs.core.structures.tasks import Task
from vmcorefs.errors import FormatError
from vmcorefs.tree.debug import gdbinit as module
from vmcorefs.tree.debug.gdbinit import make_gdbinit
from vmcorefs.tree.debug.threads import CpuThread, Threads

NO_THREADS = Threads((), (), (), {}, ())


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the threads are, and whose slot is that of the CPU that panicked."""

    def set_them(found: Threads, panicked: Any = None) -> None:
        monkeypatch.setattr(module, "list_threads", lambda _: found)
        monkeypatch.setattr(module, "panicked_slot", lambda *_: panicked)

    set_them(NO_THREADS)
    return set_them


def symbol(name: str) -> int:
    if name != "__per_cpu_start":
        raise FormatError(f"kallsyms: no {name}")
    return 0x34000


def gdbinit(
    location: str,
    vmlinux: str | None = None,
    scripts: str | None = None,
    modules: Any = None,
    symbol: Any = symbol,
) -> bytes:
    image: Any = SimpleNamespace(notes=SimpleNamespace(cpu_slots=()), is_live=False)
    kernel: Any = SimpleNamespace(
        vmcoreinfo=SimpleNamespace(values={"KERNELOFFSET": "1000"}), symbol=symbol, machine=62
    )
    return make_gdbinit(image, kernel, location, vmlinux, scripts, modules)


@pytest.mark.usefixtures("threads")
def test_a_name_that_is_not_utf_8_is_written_as_it_is() -> None:
    text = gdbinit(os.fsdecode(b"/mnt/\xff"))
    assert (
        b'\nadd-symbol-file "/mnt/\xff/vmlinux" -o 0x1000 -s .data..percpu 0x34000\n'
        b"core-file /mnt/\xff/kcore\n"
    ) in text


@pytest.mark.usefixtures("threads")
def test_a_name_with_what_gdb_takes_for_its_own_is_quoted() -> None:
    found = SimpleNamespace(tables={"jbd2": []}, sections=lambda _: [])
    lines = gdbinit('/mnt/a "b" \\', modules=lambda: found).decode().splitlines()
    assert r'add-symbol-file "/mnt/a \"b\" \\/vmlinux" -o 0x1000 -s .data..percpu 0x34000' in lines
    assert r'core-file /mnt/a "b" \/kcore' in lines
    assert r'add-symbol-file "/mnt/a \"b\" \\/modules/jbd2.ko.debug"' in lines


@pytest.mark.usefixtures("threads")
def test_a_kernel_without_per_cpu_variables() -> None:
    def none(name: str) -> int:
        raise FormatError(f"kallsyms: no {name}")

    assert b'\nadd-symbol-file "/mnt/vmlinux" -o 0x1000\n' in gdbinit("/mnt", symbol=none)


@pytest.mark.usefixtures("threads")
def test_per_cpu_variables_among_the_others_move_with_them() -> None:
    text = gdbinit("/mnt", symbol=lambda _: 0xFFFFFFFFB22C4000)
    assert b'\nadd-symbol-file "/mnt/vmlinux" -o 0x1000\n' in text


@pytest.mark.parametrize(
    ("location", "vmlinux", "scripts"),
    [
        ("/mnt/a\nshell id", None, None),
        ("/mnt/a", "/boot/b\nshell id", None),
        ("/mnt/a", None, "/lib/6.1\nshell id/vmlinux-gdb.py"),
    ],
)
@pytest.mark.usefixtures("threads")
def test_a_name_with_a_line_end_is_refused(
    location: str, vmlinux: str | None, scripts: str | None
) -> None:
    with pytest.raises(FormatError, match="gdb cannot take a name with a line end"):
        gdbinit(location, vmlinux, scripts)


@pytest.mark.usefixtures("threads")
def test_the_kernels_own_commands_come_last() -> None:
    assert gdbinit("/mnt", scripts="/lib/vmlinux-gdb.py").endswith(b"source /lib/vmlinux-gdb.py\n")


def test_a_task_cannot_name_a_command(threads: Any) -> None:
    comm = b'"\nshell id\n\\\x1b'
    task = Task(0, 7, 7, comm, 0, 1, True, 0)
    threads(Threads((), (), (task,), {7: task.name}, ()))

    lines = gdbinit("/mnt").decode("ascii").splitlines()
    assert lines[5] == (
        r'echo CPU 1 was running "\\x0ashell id\\x0a\\x5c\\x1b (pid 7); it saved no registers.\n'
    )
    assert lines[6] == "python"
    assert json.loads(lines[7].removeprefix("names = ")) == {"7": r'"\x0ashell id\x0a\x5c\x1b'}
    assert lines[-1] == "end"


def test_all_but_names_and_scripts_is_for_a_gdb_without_python_too(threads: Any) -> None:
    task = Task(0, 7, 7, b"kworker", 0, 1, True, 0)
    slot: Any = object()
    threads(Threads((CpuThread(slot, 1, 1, 0),), (), (task,), {7: task.name}, ()), slot)
    found = SimpleNamespace(tables={"jbd2": []}, sections=lambda _: [])

    before, _, python = gdbinit("/mnt", modules=lambda: found).decode().partition("\npython\n")
    assert "\nthread 1\n" in before
    assert before.endswith('"/mnt/modules/jbd2.ko.debug"')
    assert python.endswith("\nend\n")


def test_it_goes_to_the_cpu_that_panicked(threads: Any) -> None:
    slots = [object(), object()]
    cpus: Any = tuple(CpuThread(slot, 1, 1, 0) for slot in slots)  # type: ignore[arg-type]
    threads(Threads(cpus, (), (), {}, ()), slots[1])

    assert gdbinit("/mnt").endswith(b"thread 2\n")


@pytest.mark.usefixtures("threads")
def test_each_module_is_loaded_where_its_sections_are() -> None:
    sections = {"ext4": [(".text", 0x1000), (".data", 0x2000)], "jbd2": []}
    found = SimpleNamespace(tables=sections, sections=sections.__getitem__)

    assert gdbinit("/mnt", modules=lambda: found).decode().splitlines()[-2:] == [
        'add-symbol-file "/mnt/modules/ext4.ko.debug" -s .text 0x1000 -s .data 0x2000',
        'add-symbol-file "/mnt/modules/jbd2.ko.debug"',
    ]


@pytest.mark.usefixtures("threads")
def test_modules_that_cannot_be_found_are_left_out() -> None:
    def fail() -> Any:
        raise FormatError("no symbols")

    assert gdbinit("/mnt", modules=fail).endswith(b"core-file /mnt/kcore\n")
