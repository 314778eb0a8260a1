"""Run by the tests as ``python -m tests.save.driver OUT``: saves a small made machine.

Everything behind the opening of a capture is the product's own: what is killed here is what a user
would kill, without the second that it takes to look through a memory.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.builders.dead_machines import CRASH_TIME, load_phdr, pack_elf, pack_note, vmcoreinfo_text
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reader import Reader
from vmcorefs.save.command import EveryPage, make_order, make_writer
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats import kdump_resume
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, save
from vmcorefs.sources.base import BytesSource

PAGE = 4096
PAGES = 2048
LOG = b"[    0.000000] Linux version 6.1.0-test\n" * 100
NAME = "vmcore"


def make_memory() -> bytes:
    """Pages of noise, of text, and of zeros."""
    pages = np.random.default_rng(20).integers(0, 256, (PAGES, PAGE), dtype=np.uint8)
    pages[::5] = 0x41
    pages[1::7] = 0
    return pages.tobytes()


def make_dump() -> Dump:
    """All of that memory."""
    ram = make_ranges([(0, PAGES * PAGE)])
    memory = Reader(
        "memory",
        make_extents(ram, kind=Kind.DATA, source=0),
        [BytesSource("ram", make_memory())],
    )
    text = vmcoreinfo_text()
    assert str(CRASH_TIME).encode() in text  # it dates the header: two runs are byte-equal
    return Dump(
        ram=ram,
        memory=memory,
        kinds=EveryPage(PAGE),
        level=0,
        notes=pack_note(b"VMCOREINFO", 0, text),
        vmcoreinfo=parse_vmcoreinfo(text),
        elfcorehdr=parse_elfcorehdr(pack_elf([load_phdr(0, PAGES * PAGE)])),
    )


def run(output: str, *, resume: bool) -> Report:
    """Save it."""
    kdump_resume.STEP_BACK = 16 * PAGE  # less than all of it
    order = make_order(output, (0,), None, "zlib", resume=resume)
    console = Console(bar=False, say=None, warn=print)
    return save(make_dump(), LOG, order, make_writer(order.format, order.codec, 2), console)


if __name__ == "__main__":
    run(sys.argv[1], resume=False)
