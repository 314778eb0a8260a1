"""The guest's root file systems: busybox, kexec with its libraries, virtio modules, and ``init``.

This machine's own architecture gets a workload too, which makes pages of every kind.

There are two, one inside the other. The crashed kernel's holds the kernel image and the capture
kernel's, which kexec loads; the capture kernel's holds only what copies ``/proc/vmcore`` out, as
it has to fit the crash kernel's memory. A kernel that is not to crash gets the inner one.
"""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.host import LabError, program, run
from tests.lab.packages import NATIVE, busybox

if TYPE_CHECKING:
    from tests.lab.kernels import Kernel

_INIT = Path(__file__).with_name("init")
_WORKLOAD = Path(__file__).with_name("workload.c")
_DIRECTORIES = ("bin", "dev", "modules", "proc", "sbin", "sys", "tmp")
_DRIVERS = ("virtio_pci", "virtio_blk")


def make_initramfs(kernel: Kernel, directory: Path, *, loads: bool) -> Path:
    """Make the initramfs of the kernel that is captured.

    Args:
        kernel: the one that boots; the capture kernel is the same.
        directory: an empty one, to work in.
        loads: whether it holds a capture kernel and kexec.

    Returns:
        The gzipped cpio archive, within ``directory``.

    Raises:
        LabError: if a program or a driver is missing.
    """
    root = directory / "root"
    _populate(root, kernel)
    if loads:
        inner = _pack(root, directory / "capture.initrd")
        shutil.copy(inner, root / "capture.initrd")
        shutil.copy(kernel.vmlinuz, root / "vmlinuz")
        _add_kexec(root)
    return _pack(root, directory / "initrd")


def _populate(root: Path, kernel: Kernel) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    shutil.copy(busybox(kernel.arch), root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    shutil.copy(_INIT, root / "init")
    (root / "init").chmod(0o755)
    if kernel.arch == NATIVE:
        _compile(_WORKLOAD, root / "bin" / "workload")
    for rank, (name, body) in enumerate(_modules(kernel).items()):
        (root / "modules" / f"{rank:02}-{name}.ko").write_bytes(body)


def _compile(source: Path, program: Path) -> None:
    run(["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", program, source])


def _modules(kernel: Kernel) -> dict[str, bytes]:
    """Return the drivers' modules by name, each after those it depends on.

    A module without a file is built into the kernel.
    """
    files = {path.name.partition(".")[0]: path for path in kernel.modules.rglob("*.ko*")}
    if not files:
        raise LabError(f"{kernel.modules}: no modules there")
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        body = _read_module(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", body)
        for dependency in depends[1].decode().split(",") if depends else ():
            add(dependency)
        ordered[name] = body

    for driver in _DRIVERS:
        add(driver)
    return ordered


def _read_module(path: Path) -> bytes:
    return run(["xz", "-dc", path]) if path.suffix == ".xz" else path.read_bytes()


def _add_kexec(root: Path) -> None:
    kexec = program("kexec")
    shutil.copy(kexec, root / "sbin" / "kexec")
    for library in re.findall(r"/\S+", run(["ldd", kexec]).decode()):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)


def _pack(root: Path, archive: Path) -> Path:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    cpio = run(
        ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"],
        cwd=root,
        stdin="\n".join(names).encode() + b"\n",
    )
    archive.write_bytes(gzip.compress(cpio, compresslevel=1, mtime=0))
    return archive
