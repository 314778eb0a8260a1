"""kallsyms and vmlinux of the tree against the guest, its debug symbols, and gdb."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.sums import kallsyms_sums, sum_of
from tests.real.trees import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

# what scripts/mksysmap and scripts/kallsyms.c leave out of what nm prints; 6.12 has kallsyms_* too
_IGNORED = re.compile(
    r"\.L|L0|__crc_|__kstrtab(ns)?_|kallsyms_(offsets|relative_base|num_syms|names|markers"
    r"|token_table|token_index|seqs_of_names)$"
)


def test_kallsyms_are_the_guests(capture: Capture, tree: Path) -> None:
    text = (tree / "kallsyms").read_bytes()
    said = capture.text("symbols").splitlines()
    names = {line.split()[2] for line in said}
    lines = text.decode().splitlines()
    assert [line for line in lines if line.split()[2] in names] == said  # shows what differs
    assert sum_of(text) == kallsyms_sums(capture)["all"]


def test_modules_are_among_them(tree: Path) -> None:
    text = (tree / "kallsyms").read_text()
    assert re.search(r"^[0-9a-f]{16} t virtblk_probe\t\[virtio_blk\]$", text, re.MULTILINE)


@only("kexec", "file")
def test_every_symbol_agrees_with_nm(tree: Path, vmlinux: Path) -> None:
    offset = int(_vmcoreinfo(tree)["KERNELOFFSET"], 16)
    listed = subprocess.run(["nm", str(vmlinux)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines() if len(line.split()) == 3]
    place = {name: int(address, 16) for address, _, name in rows}
    expected: Counter[tuple[int, str, str]] = Counter()
    for text, kind, name in rows:
        address = int(text, 16)
        if _IGNORED.match(name):
            continue
        if place["__per_cpu_start"] <= address <= place["__per_cpu_end"]:
            expected[address, "A", name] += 1
        elif kind not in "aA":
            expected[address + offset, kind, name] += 1
    kernel = [line.split(" ") for line in (tree / "kallsyms").read_text().splitlines()]
    found = Counter(
        (int(address, 16), kind, name)
        for address, kind, name in kernel
        if "\t" not in name and not _IGNORED.match(name)
    )
    assert not found - expected
    # nm's absolute constants are in the per-CPU range by accident: L4_PAGE_OFFSET is 273
    assert {kind for _, kind, _ in expected - found} <= {"A"}


def test_gdb_follows_the_stack_with_the_made_vmlinux_alone(tree: Path) -> None:
    said = tools.gdb_script(tree / "gdbinit", "bt")
    frames = [
        "__crash_kexec (",
        "panic (",
        "sysrq_handle_crash (",
        "proc_reg_write (",
        "vfs_write (",
        "ksys_write (",
        "do_syscall_64 (",
        "<signal handler called>",  # the entry of a system call, for ORC an interrupt
        "in ?? ()",  # user space
    ]
    tools.assert_in_order(said, frames)


@only("kexec", "file")
def test_gdbinit_opens_the_vmlinux_with_debug_symbols_that_it_is_given(
    capture: Capture, vmlinux: Path, scratch: Path
) -> None:
    with mounted(scratch, "--vmlinux", vmlinux, capture.config) as tree:
        said = tools.gdb_script(tree / "gdbinit", "bt")
    assert "in panic (fmt=" in said
    assert "at drivers/tty/sysrq.c:" in said
    assert "at fs/read_write.c:" in said


@only("kexec", "file")
def test_the_made_vmlinux_has_the_kernels_btf(tree: Path, vmlinux: Path, scratch: Path) -> None:
    copies = []
    for number, path in enumerate((tree / "vmlinux", vmlinux)):
        out = scratch / f"btf{number}"
        subprocess.run(
            ["objcopy", f"--dump-section=.BTF={out}", str(path), str(scratch / "rest")], check=True
        )
        copies.append(out.read_bytes())
    assert copies[0] == copies[1]
    assert copies[0].startswith(b"\x9f\xeb")


def _vmcoreinfo(tree: Path) -> dict[str, str]:
    lines = (tree / "vmcoreinfo").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)
