"""Registers that a format has of a machine that only hangs: they become notes of its CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.dead_machines import HIGH, Machine, dead_machine
from tests.builders.encodings import CORES, ENCODINGS, NOT_IF_CUT, machine
from tests.builders.qemu import REGISTERS, pack_stream
from tests.builders.qemu_devices import arm_fields, pack_devices
from tests.builders.virtualbox import pack_virtualbox
from tests.builders.vmware import pack_cpus, pack_vmss
from tests.builders.xen import PAGE, pack_xen
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs import Capture, FaultError, TruncatedError
from vmcorefs.core.formats.cloud_hypervisor import STATE

EVERY = ENCODINGS | NOT_IF_CUT | CORES
HAVE = (
    "qemu",
    "qemu-mapped-ram",
    "libvirt",
    "vmware-alone",
    "xen",
    "virtualbox",
    *("cloud-hypervisor", "sadump"),
)
WITHOUT_SEGMENTS = ("vmware-alone",)


def opened(tmp_path: Path, open_capture: Opener, files: dict[str, bytes], made: Machine) -> Capture:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    iomem = tmp_path / "iomem"
    iomem.write_text(made.iomem)
    path = tmp_path if STATE in files else tmp_path / next(iter(files))
    return open_capture(path, memory_map=iomem)


def states(capture: Capture) -> list[tuple[int, dict[str, int]]]:
    header = capture.image.plan.elfcorehdr.header
    found = [slot.state(header) for slot in capture.image.notes.cpu_slots]
    return [
        (one.pid, {name: value for name, value in one.registers.items() if value})
        for one in found
        if one is not None
    ]


@pytest.mark.parametrize("name", HAVE)
def test_each_cpu_has_a_note_with_its_registers(
    tmp_path: Path, open_capture: Opener, name: str
) -> None:
    capture = opened(tmp_path, open_capture, EVERY[name](machine()), machine())
    expected = [
        {key: value for key, value in one.items() if value and key != "cs"}
        | ({} if name in WITHOUT_SEGMENTS else {"cs": one["cs"]})
        for one in REGISTERS
    ]
    assert states(capture) == list(enumerate(expected, start=1))
    for number, slot in enumerate(capture.image.notes.cpu_slots):
        state = slot.state(capture.image.plan.elfcorehdr.header)
        assert state is not None
        assert bytes(capture[f"cpu/{number}/registers"].pread(4096, 0)) == state.format()
    (finding,) = (one for one in capture.image.findings if one.what == "crash notes")
    assert finding.value == "the registers of 2 CPUs, which the kernel did not save"
    notes = capture["crash_notes"]
    inside = bytes(notes.pread(notes.size, 0))
    assert inside in bytes(capture["vmcore"].pread(0x4000, 0))
    assert b"VMCOREINFO" in inside


def test_the_notes_that_the_kernel_left_are_its_own(tmp_path: Path, open_capture: Opener) -> None:
    made = dead_machine()
    capture = opened(tmp_path, open_capture, {"vm": pack_stream(bytes(made.memory))}, made)
    assert not capture.image.notes.made
    assert any(slot.is_cpu for slot in capture.image.notes.slots)


def test_registers_of_another_machine_are_left_out(tmp_path: Path, open_capture: Opener) -> None:
    devices = pack_devices([arm_fields({"pc": 1})])
    files = {"vm": pack_stream(bytes(machine().memory), devices=devices)}
    image = opened(tmp_path, open_capture, files, machine()).image
    assert not image.notes.made
    expected = "the CPUs' registers are those of machine 183, not 62: they are left out"
    assert expected in image.warnings


SOME = {name: 0x1000 + number for number, name in enumerate(["rax", "rbx", "rsp", "rip", "r15"])}
SEGMENTS = {"cs": 0x33, "ss": 0x2B, "es": 1, "ds": 2, "fs": 3, "gs": 4}
BASES = {"fs_base": 0x7F00DEADBEEF, "gs_base": 0x1234567890}
IN_USER_MODE = {**SOME, **SEGMENTS, **BASES, "eflags": 0x246}


def test_segments_of_xen_and_virtualbox(tmp_path: Path, open_capture: Opener) -> None:
    memory = bytes(machine().memory)
    pages = [(at // PAGE, memory[at : at + PAGE]) for at in range(0, HIGH[1], PAGE)]
    in_kernel_mode = {**IN_USER_MODE, "cs": 0x10}
    cpus = [IN_USER_MODE, in_kernel_mode]
    xen = opened(tmp_path, open_capture, {"xen": pack_xen(pages, cpus=cpus)}, machine())
    assert states(xen) == [(1, IN_USER_MODE), (2, in_kernel_mode)]
    core = pack_virtualbox([(0, memory)], cpus)
    virtualbox = opened(tmp_path, open_capture, {"vbox": core}, machine())
    assert states(virtualbox) == [(1, IN_USER_MODE), (2, in_kernel_mode)]


@pytest.mark.parametrize("in_blocks", [True, False])
def test_vmwares_registers_are_in_blocks_or_not(
    tmp_path: Path, open_capture: Opener, in_blocks: bool
) -> None:
    cpus = pack_cpus([{**SOME, "eflags": 0x246}] * 3, in_blocks=in_blocks)
    files = {"vm.vmss": pack_vmss(memory=bytes(machine().memory), cpus=cpus)}
    capture = opened(tmp_path, open_capture, files, machine())
    assert states(capture) == [(number, {**SOME, "eflags": 0x246}) for number in (1, 2, 3)]


def test_a_cpu_without_all_of_its_registers_is_none(tmp_path: Path, open_capture: Opener) -> None:
    cpus = pack_cpus([SOME, SOME], in_blocks=False).replace(b"r15", b"r16", 1)
    files = {"vm.vmss": pack_vmss(memory=bytes(machine().memory), cpus=cpus)}
    assert not states(opened(tmp_path, open_capture, files, machine()))


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_core_of_virtualbox_that_is_cut_opens_up_to_there(
    tmp_path: Path, open_capture: Opener, cut: int
) -> None:
    made = machine()
    data = CORES["virtualbox"](made)["vm.core"]
    path, iomem = tmp_path / "core", tmp_path / "iomem"
    path.write_bytes(data[: len(data) * cut // 11])
    iomem.write_text(made.iomem)
    with pytest.raises(TruncatedError, match=f"{path}: .* of RAM are cut off"):
        open_capture(path, memory_map=iomem)
    capture = open_capture(path, memory_map=iomem, truncated=True)
    missing = capture.image.missing
    size = len(data) * cut // 11
    assert int((missing[:, 1] - missing[:, 0]).sum()) == len(data) - size
    lost = len(data) - size - (HIGH[1] - HIGH[0])
    first = HIGH[0] if lost > 0 else HIGH[1] - len(data) + size
    oldmem = capture["oldmem"]
    same_bytes(oldmem.pread(first - HIGH[0], HIGH[0]), bytes(made.memory[HIGH[0] : first]))
    with pytest.raises(FaultError):
        oldmem.pread(1, first)
