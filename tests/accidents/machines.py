"""Machines that something went wrong in: the lab's own, with one more module."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

import tests.lab
from tests.accidents.module import SOURCE, build_module
from tests.lab.host import building, cache_root, guest_of, run
from tests.lab.initramfs import make_initramfs
from tests.lab.kernels import Kernel, Role, kernel
from tests.lab.packages import NATIVE, Arch
from tests.lab.qemu import Machine, crash, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY: Final = 1 << 30
_CPUS: Final = 2
_TIMEOUT: Final = 1200
_INIT: Final = Path(tests.lab.__path__[0]) / "init"
_COMMAND_LINES: Final[dict[Arch, str]] = {
    "amd64": "console=ttyS0 no_timer_check oops=panic panic=1 rdinit=/init crashkernel=192M",
    "arm64": "console=ttyAMA0 rdinit=/init",
}
_END: Final = "echo c > /proc/sysrq-trigger\n"  # of the lab's init: how its machines end
_WELL: Final = "sleep 1\n"  # a line in it before the machine says what it is


@dataclass(frozen=True)
class Accident:
    """What goes wrong, and where.

    Args:
        name: as accident.c knows it.
        kernel: which of the release's kernels.
        arch: which architecture's.
        hangs: whether the machine is stopped from outside some seconds later; else it panics.
        append: more of the kernel's command line.
        script: of the shell, what to do before it happens.
        happens: of the shell, how it happens; by the module, when not given.
        module: whether the module is there.
        devices: more of QEMU's options.
        order: of QEMU's monitor, obeyed some seconds after it has happened.
    """

    name: str
    kernel: Role = "stable"
    arch: Arch = NATIVE
    hangs: bool = False
    append: str = ""
    script: str = ""
    happens: str = ""
    module: bool = True
    devices: tuple[str, ...] = ()
    order: str = ""


def had(accident: Accident) -> Path:
    """Return the memory of a machine that had an accident: a file, made once and kept."""
    chosen = kernel(accident.kernel, accident.arch)
    directory = cache_root() / "accidents" / f"{accident.name}-{_key(accident, chosen)}"
    series = f"{accident.arch} {accident.kernel}"
    if directory.exists():
        return directory / "ram"  # without waiting for whoever makes another
    with guest_of(f"{chosen.arch}-{accident.kernel}-{accident.name}"):
        if not directory.exists():
            for old in directory.parent.glob(f"{accident.name}-*"):
                if (old / "kernel").read_text() == series:
                    shutil.rmtree(old)
            with building(directory) as partial:
                _have(accident, chosen, partial)
                (partial / "kernel").write_text(series)
    return directory / "ram"


def _key(accident: Accident, chosen: Kernel) -> str:
    digest = hashlib.sha256(msgspec.json.encode((accident, chosen)))
    for source in (*((SOURCE,) if accident.module else ()), Path(__file__), _INIT):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _have(accident: Accident, chosen: Kernel, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as work:
        initrd = _make_initrd(accident, chosen, Path(work))
        load = "none" if accident.hangs else "kexec"
        words = f"{_COMMAND_LINES[chosen.arch]} lab.load={load} {accident.append}"
        machine = Machine(
            chosen.arch,
            chosen.vmlinuz,
            initrd,
            words,
            _MEMORY,
            _CPUS,
            accident.devices,
            accident.order,
        )
        (stop if accident.hangs else crash)(machine, directory, _TIMEOUT)
    (directory / "vmcore").unlink(missing_ok=True)


def _make_initrd(accident: Accident, chosen: Kernel, work: Path) -> Path:
    """The lab's initramfs, and behind it the module and an init that uses it.

    Archives may follow one another, and a later file takes an earlier one's place
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    added = work / "added"
    (added / "modules").mkdir(parents=True)
    (work / "module").mkdir()
    names = b"init\n"
    if accident.module:
        shutil.copy(build_module(chosen, work / "module"), added / "modules/99-accident.ko")
        names += b"modules\nmodules/99-accident.ko\n"
    (added / "init").write_text("".join(_init(accident)))
    (added / "init").chmod(0o755)
    cpio = run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=added, stdin=names)
    (work / "lab").mkdir()
    initrd = make_initramfs(chosen, work / "lab", loads=not accident.hangs)
    with initrd.open("ab") as file:
        file.write(gzip.compress(cpio, mtime=0))
    return initrd


def _init(accident: Accident) -> Iterator[str]:
    happens = accident.happens or f"echo {accident.name} > /proc/accident"
    where = _WELL if accident.hangs else _END
    before, found, after = _INIT.read_text().partition(where)
    assert found, f"{_INIT} has no line {where!r}"
    yield before
    yield f"{accident.script}\necho LAB-ACCIDENT\n{happens}\n"
    # a panic may take its time: of a watchdog, say
    yield "sleep 2\n" if accident.hangs else "sleep 600\n"
    yield after
