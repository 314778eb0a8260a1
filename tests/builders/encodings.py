"""One dead machine in every format that has its memory by physical address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.builders.cloud_hypervisor import pack_state
from tests.builders.dead_machines import (
    HIGH,
    LOW,
    VMCOREINFO,
    Machine,
    stamped,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.lime import pack_avml, pack_lime
from tests.builders.lkcd import pack_lkcd
from tests.builders.maps import RAM, RESERVED, iomem_text
from tests.builders.qemu import REGISTERS, pack_libvirt, pack_mapped, pack_stream
from tests.builders.sadump import pack_sadump
from tests.builders.virtualbox import pack_virtualbox
from tests.builders.vmware import pack_cpus, pack_vmss
from tests.builders.xen import PAGE, pack_xen

EMPTY = (0x180000, 0x1A0000)
"""Memory of zeros, which some formats do not store."""

Encode = Callable[[Machine], dict[str, bytes]]
"""From a machine to the files of it by name: the first one is given to vmcorefs."""


def machine() -> Machine:
    """A machine that hangs: each byte of RAM says where it is, but for a note and ``EMPTY``."""
    memory = bytearray(HIGH[1])
    rows = [(0, LOW[0], RESERVED), (*LOW, RAM), (LOW[1], HIGH[0], RESERVED), (*HIGH, RAM)]
    made = Machine(memory, iomem=iomem_text(rows))
    for span in (LOW, HIGH):  # what is no RAM is not in all of the formats
        made.put(span[0], stamped(*span))
    made.put(VMCOREINFO, vmcoreinfo_note(vmcoreinfo_text()))
    made.put(EMPTY[0], bytes(EMPTY[1] - EMPTY[0]))
    return made


def _ranges(made: Machine, *ranges: tuple[int, int]) -> list[tuple[int, bytes]]:
    return [(start, bytes(made.memory[start:end])) for start, end in ranges]


def _lime(made: Machine) -> dict[str, bytes]:
    return {"ram.lime": pack_lime(_ranges(made, LOW, HIGH))}


def _avml(made: Machine) -> dict[str, bytes]:
    below, above = (HIGH[0], EMPTY[0]), (EMPTY[1], HIGH[1])
    return {"ram.avml": pack_avml(_ranges(made, LOW, below, above))}


def _qemu(made: Machine) -> dict[str, bytes]:
    return {"migrated": pack_stream(bytes(made.memory), {"0000:00:01.0/vga.vram": b"\1" * 8192})}


def _mapped(made: Machine) -> dict[str, bytes]:
    return {"mapped": pack_mapped(bytes(made.memory))}


def _libvirt(made: Machine) -> dict[str, bytes]:
    return {"saved": pack_libvirt(pack_stream(bytes(made.memory)))}


def _vmware(made: Machine) -> dict[str, bytes]:
    # the hole below 1 MiB is not in the memory
    regions = [(0, 0, 0xA0000), (0x100000, 0xA0000, 0x200000)]
    memory = bytes(made.memory[:0xA0000] + made.memory[0x100000:])
    return {"vm.vmem": memory, "vm.vmsn": pack_vmss(regions)}


def _vmware_alone(made: Machine) -> dict[str, bytes]:
    return {"vm.vmss": pack_vmss(memory=bytes(made.memory), cpus=pack_cpus(REGISTERS))}


def _ramdump(made: Machine) -> dict[str, bytes]:
    halves = {"DDRCS0_1.BIN": (0x200000, HIGH[1]), "DDRCS0_0.BIN": (0, 0x200000)}
    lines = [
        f"   1 0x{start:016x} {end - start:016d}   DDR CS0 part Memo         {name}\r\n"
        for name, (start, end) in halves.items()
    ]
    lines.append("   1 0x0000000014680000 0000000000262144   OCIMEM         OCIMEM.BIN\r\n")
    lines.append("   2 0x0000000081b476d0             5784   CMM Script     load.cmm\r\n")
    files = {name: bytes(made.memory[start:end]) for name, (start, end) in halves.items()}
    return {**files, "dump_info.txt": "".join(lines).encode(), "OCIMEM.BIN": bytes(9)}


def _xen(made: Machine) -> dict[str, bytes]:
    memory = bytes(made.memory)
    pages = [(at // PAGE, memory[at : at + PAGE]) for at in range(0, len(memory), PAGE)]
    return {"core": pack_xen(pages[300:] + pages[:300], cpus=REGISTERS)}


def _cloud_hypervisor(made: Machine) -> dict[str, bytes]:
    # the hole below 1 MiB is not in the memory
    ranges = [(HIGH[0], HIGH[1] - HIGH[0]), (0, 0xA0000)]
    memory = b"".join(bytes(made.memory[start : start + size]) for start, size in ranges)
    return {"memory-ranges": memory, "state.json": pack_state(ranges, REGISTERS)}


def _lkcd(made: Machine) -> dict[str, bytes]:
    memory = bytes(made.memory)
    spans = (range(0, 0xA0000, PAGE), range(HIGH[0], HIGH[1], PAGE))
    pages = [(at, memory[at : at + PAGE]) for span in spans for at in span]
    return {"dump.lkcd": pack_lkcd(pages, first=4096)}


def _sadump(made: Machine) -> dict[str, bytes]:
    pages = {*range(0xA0), *range(HIGH[0] // PAGE, HIGH[1] // PAGE)}
    (disk,) = pack_sadump(bytes(made.memory), pages, pages, cpus=REGISTERS)
    return {"dump.sadump": disk}


def _virtualbox(made: Machine) -> dict[str, bytes]:
    ranges = _ranges(made, (0, 0xA0000), (HIGH[0], HIGH[1]))
    return {"vm.core": pack_virtualbox(ranges, REGISTERS)}


ENCODINGS: Final[dict[str, Encode]] = {
    "lime": _lime,
    "avml-2": _avml,
    "qemu": _qemu,
    "qemu-mapped-ram": _mapped,
    "libvirt": _libvirt,
    "vmware": _vmware,
    "vmware-alone": _vmware_alone,
    "ramdump": _ramdump,
    "cloud-hypervisor": _cloud_hypervisor,
    "lkcd": _lkcd,
    "sadump": _sadump,
}
NOT_IF_CUT: Final[dict[str, Encode]] = {"xen": _xen}
"""Formats that say only at their end where memory belongs."""

CORES: Final[dict[str, Encode]] = {"virtualbox": _virtualbox}
"""ELF cores, which are dumps with headers of their own."""
