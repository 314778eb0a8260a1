"""One guest that hangs, stopped once: QEMU's own dumps of that moment against its stream."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.kernels import debug_vmlinux
from tests.real.marks import REAL
from tests.real.stopped_guest import CPUS, StoppedGuest, stopped_guest
from tests.real.tools import crash
from tests.real.trees import mounted
from vmcorefs import open as open_capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = REAL


@pytest.fixture(scope="module")
def guest() -> Iterator[StoppedGuest]:
    with stopped_guest() as running:
        yield running


def _registers(path: Path) -> list[dict[str, int]]:
    with open_capture(path) as capture:
        header = capture.image.plan.elfcorehdr.header
        states = [slot.state(header) for slot in capture.image.notes.cpu_slots]
    return [state.registers for state in states if state is not None]


def test_the_registers_are_those_of_qemus_own_dump(guest: StoppedGuest, scratch: Path) -> None:
    ours = _registers(guest.migrate(scratch / "stream"))
    assert ours == _registers(guest.dump(scratch / "elf", "elf"))
    assert len(ours) == CPUS
    assert all(one["rip"] and one["rsp"] for one in ours)


def test_crash_walks_the_stacks_of_all_cpus(guest: StoppedGuest, scratch: Path) -> None:
    vmlinux = debug_vmlinux("stable")
    said = []
    for image in (guest.migrate(scratch / "stream"), guest.dump(scratch / "elf", "elf")):
        place = scratch / f"{image.name}.mount"
        place.mkdir()
        with mounted(place, image) as tree:
            said.append(crash(vmlinux, tree / "vmcore", "bt -a"))
    ours, qemus = said
    assert ours == qemus
    assert len(re.findall(r"^PID: .* CPU: [01]", ours, re.MULTILINE)) == CPUS
