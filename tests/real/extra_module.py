"""A machine with one more of its kernel's modules, stopped while it runs."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from pathlib import Path
from typing import Final

import msgspec

import tests.lab
from tests.lab.host import building, cache_root, guest_of, run
from tests.lab.initramfs import make_initramfs
from tests.lab.kernels import Role, kernel
from tests.lab.qemu import Machine, stop

_MEMORY: Final = 1 << 30
_CPUS: Final = 2
_TIMEOUT: Final = 1200
_COMMAND_LINE: Final = "console=ttyS0 no_timer_check panic=1 rdinit=/init lab.load=none"
_INIT: Final = Path(tests.lab.__path__[0]) / "init"


def with_module(name: str, role: Role) -> Path:
    """Return the memory of a machine that has loaded a module: a file, made once and kept.

    Args:
        name: of the module, which needs no other.
        role: of the kernel.
    """
    chosen = kernel(role)
    told = msgspec.json.encode((chosen, _COMMAND_LINE)) + _INIT.read_bytes()
    key = hashlib.sha256(told).hexdigest()[:16]
    directory = cache_root() / "with-modules" / f"{name}-{key}"
    if directory.exists():
        return directory / "ram"
    with guest_of(f"{name}-{role}"):
        if not directory.exists():  # nobody else made it while we waited
            with building(directory) as partial, tempfile.TemporaryDirectory() as work:
                initrd = make_initramfs(chosen, Path(work), loads=False)
                (file,) = chosen.modules.rglob(f"{name}.ko*")
                with initrd.open("ab") as archive:
                    archive.write(_pack(run(["xz", "-dcf", file]), Path(work) / "added"))
                command = (chosen.arch, chosen.vmlinuz, initrd, _COMMAND_LINE, _MEMORY, _CPUS)
                stop(Machine(*command), partial, _TIMEOUT)
    return directory / "ram"


def _pack(module: bytes, root: Path) -> bytes:
    """An archive that follows the lab's, whose init loads what is in /modules."""
    (root / "modules").mkdir(parents=True)
    (root / "modules/99-extra.ko").write_bytes(module)
    names = b"modules\nmodules/99-extra.ko\n"
    options = ["--create", "--format=newc", "--owner=0:0", "--quiet"]
    return gzip.compress(run(["cpio", *options], cwd=root, stdin=names), mtime=0)
