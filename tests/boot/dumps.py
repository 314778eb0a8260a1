"""What a dump that was saved must be: as good as /proc/vmcore, to other people's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.capture import debug_vmlinux
from tests.lab.kernels import kernel
from tests.oracles.newer import newer_makedumpfile
from tests.real import tools
from tests.real.versions import makedumpfile_knows_free_pages

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = ("sys", "bt -a", "ps", "log", "mod", "kmem -i", "task 1", "vm 1", "sym schedule", "net")


def assert_dump_is_as_good_as(truth: Path, dump: Path, scratch: Path) -> None:
    """Fail unless crash answers the same on both, and makedumpfile makes the same dump of both.

    Args:
        truth: a copy of /proc/vmcore.
        dump: of the same memory, at dump level 31.
        scratch: an empty directory.
    """
    vmlinux = debug_vmlinux("stable")
    said = [_without_path(tools.crash(vmlinux, of, *_COMMANDS)) for of in (truth, dump)]
    assert said[0] == said[1]
    assert "sysrq_handle_crash" in said[1]
    made = [scratch / name for name in ("truth", "dump")]
    # one that does not know free pages keeps those of the truth, which the dump has not
    knows = makedumpfile_knows_free_pages(kernel("stable"))
    makedumpfile = ["makedumpfile"] if knows else newer_makedumpfile()
    for of, out in zip((truth, dump), made, strict=True):
        tools.run([*makedumpfile, "-c", "-d", "31", of, out], of)
    assert made[0].read_bytes() == made[1].read_bytes()


def _without_path(said: str) -> str:
    return "\n".join(line for line in said.splitlines() if not line.startswith("    DUMPFILE:"))
