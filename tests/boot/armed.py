"""A machine that is up, has loaded its crash kernel and is about to panic: kept as a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.boot.machine import Machine, booted
from tests.boot.store import digest, kept

if TYPE_CHECKING:
    from tests.boot.disk import Disk

_BOOT_SECONDS = 900


def armed(disk: Disk) -> Path:
    """Return the directory of a machine that was kept, made now only if the cache has none."""
    here = Path(__file__).parent
    sources = [(here / name).read_bytes() for name in ("machine.py", "armed.py", "monitor.py")]
    key = digest([disk.directory.name.encode(), *sources])
    return kept("armed", key, lambda directory: _arm(disk, directory))


def _arm(disk: Disk, directory: Path) -> None:
    with booted(disk, directory) as machine:
        machine.wait_until_up("healthy", _BOOT_SECONDS)
        wait_until_armed(machine)
        machine.ask("sync")
        machine.keep()


def wait_until_armed(machine: Machine) -> None:
    """Wait until the services of a healthy system have come up, and see its crash kernel loaded."""
    machine.ask("systemctl is-system-running --wait || true", _BOOT_SECONDS)
    failed = machine.ask("systemctl --failed --plain --no-legend")
    assert failed == "", failed + machine.ask("journalctl --boot --no-pager --priority=warning")
    assert machine.ask("cat /sys/kernel/kexec_crash_loaded").strip() == "1"
