"""A Linux that runs under QEMU, with something to do: its memory changes while it is read.

Its initramfs is made here; the console says the guest's own time, once a second.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.lab.kernels import kernel
from tests.lab.packages import busybox
from tests.waiting import wait_for

MIB: Final = 1 << 20
GIB: Final = 1 << 30
LOW: Final = (MIB, 511 * MIB)  # the firmware has the rest
HIGH: Final = (4 * GIB, 4 * GIB + 512 * MIB)
PLUGGED: Final = (HIGH[1], HIGH[1] + 256 * MIB)
"""RAM of ``SHARED`` and ``PRIVATE``: below 4 GiB, above, and what ``plug_in`` adds."""

_MACHINE: Final = "q35,max-ram-below-4g=512M,memory-backend=ram"
SHARED: Final = (
    *("-machine", _MACHINE, "-m", "1G,slots=2,maxmem=8G"),
    *("-object", "memory-backend-memfd,id=ram,size=1G,share=on"),
)
PRIVATE: Final = (
    *("-machine", _MACHINE, "-m", "1G,slots=2,maxmem=8G"),
    *("-object", "memory-backend-ram,id=ram,size=1G"),
)

_INIT: Final = r"""#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /tmp
churn() {
    while :; do dd if=/dev/urandom of=/tmp/$1 bs=64k count=$2; md5sum /tmp/$1; rm /tmp/$1; done
}
churn a 200 >/dev/null 2>&1 &
churn b 900 >/dev/null 2>&1 &
while :; do find /sys /proc/[0-9]* >/dev/null 2>&1; done &
grep "Kernel code" /proc/iomem | sed 's/.*/LIVE-CODE &/'
echo LIVE-READY
while :; do
    read -r up _ </proc/uptime
    read -r _ memory _ </proc/meminfo
    echo "LIVE-UPTIME $up $memory"
    sleep 1
done
"""


class Running:
    """A guest that runs.

    Attributes:
        path: The socket of a monitor that is free.
        pid: QEMU's process.
    """

    def __init__(self, path: Path, own: Path, pid: int, console: Path) -> None:
        self.path, self.pid = path, pid
        self._own, self._console = own, console

    def execute(self, command: str, **arguments: object) -> Any:
        """Ask the other monitor."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(600)
            connection.connect(str(self._own))
            with connection.makefile("rwb") as stream:
                told: dict[str, Any] = {}
                for one, given in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": one, "arguments": given}).encode())
                    stream.flush()
                    lines = map(json.loads, stream)
                    told = next(line for line in lines if {"return", "error"} & line.keys())
                assert "return" in told, told
                return told["return"]

    @property
    def is_running(self) -> bool:
        return bool(self.execute("query-status")["running"])

    def said(self) -> str:
        """What is on its console."""
        return self._console.read_text(errors="replace")

    @property
    def kernel_code(self) -> tuple[int, int]:
        """Where the kernel's code is, as it says: physical addresses, half open."""
        match = re.search(r"LIVE-CODE +([0-9a-f]+)-([0-9a-f]+) :", self.said())
        assert match is not None
        return int(match[1], 16), int(match[2], 16) + 1

    def last_time(self) -> tuple[float, int]:
        """The guest's uptime in seconds, as it said it last, and its memory in KiB then."""
        found = re.findall(r"LIVE-UPTIME ([0-9.]+) (\d+)\r?\n", self.said())
        return (float(found[-1][0]), int(found[-1][1])) if found else (0.0, 0)

    def next_time(self) -> tuple[float, float]:
        """This machine's clock and the guest's, when the guest says its time the next time."""
        before = self.last_time()
        wait_for(lambda: self.last_time() != before, "the guest's clock")
        return time.monotonic(), self.last_time()[0]

    def plug_in(self) -> None:
        """Give it 256 MiB more, and wait until it uses them."""
        _, before = self.last_time()
        self.execute(
            "object-add", **{"qom-type": "memory-backend-ram", "id": "more", "size": 256 * MIB}
        )
        self.execute("device_add", driver="pc-dimm", memdev="more", id="dimm")
        wait_for(lambda: self.last_time()[1] > before + 128 * 1024, "memory that was plugged in")

    def save(self, where: Path, start: int, end: int) -> None:
        """Save physical memory, as QEMU does it."""
        self.execute("pmemsave", val=start, size=end - start, filename=str(where))


@contextmanager
def running_linux(where: Path, machine: Sequence[str] = SHARED) -> Iterator[Running]:
    """Boot one in an empty directory; returns when it has something to do."""
    chosen = kernel("stable")
    paths = [where / name for name in ("qmp", "own", "console")]
    command = ["qemu-system-x86_64", *machine, "-accel", "tcg", "-cpu", "max", "-smp", "2"]
    command += ["-nodefaults", "-display", "none", "-serial", f"file:{paths[2]}", "-no-reboot"]
    for path in paths[:2]:
        command += ["-qmp", f"unix:{path},server=on,wait=off"]
    command += ["-kernel", str(chosen.vmlinuz), "-initrd", str(_make_initramfs(where))]
    command += [
        "-append",
        "console=ttyS0 quiet rdinit=/init memhp_default_state=online no_timer_check",
    ]
    with subprocess.Popen(command) as process:
        try:
            started = Running(paths[0], paths[1], process.pid, paths[2])
            wait_for(lambda: "LIVE-UPTIME" in started.said(), "a guest that runs", patience=600)
            yield started
        finally:
            process.kill()


def _make_initramfs(where: Path) -> Path:
    root = where / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox("amd64"), root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*"))) + "\n"
    archive = where / "initrd"
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"],
        cwd=root,
        input=names.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    archive.write_bytes(packed.stdout)
    return archive
