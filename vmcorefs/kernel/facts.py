"""Facts about the crashed kernel for the headers of a kdump-compressed file."""

from __future__ import annotations

import time
from contextlib import suppress

from msgspec.structs import asdict, replace

from vmcorefs.core.elf.elf import EM_386, EM_X86_64
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.machines import long_bits, uname_of
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.formats.c_struct import Abi
from vmcorefs.core.formats.kdump.headers import KdumpHeaders, Utsname
from vmcorefs.core.formats.kdump.plan import KernelFacts
from vmcorefs.core.pages.dump_level import MAX_DUMP_LEVEL
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError, FormatError, SourceIOError, UnsupportedError
from vmcorefs.kernel.arch.known import ARCHITECTURES, find_architecture
from vmcorefs.kernel.arch.x86_64 import START_KERNEL_MAP
from vmcorefs.kernel.virtual import through_distance, through_loads
from vmcorefs.reader import Reader

_NAME_SIZE = 65  # __NEW_UTS_LEN and its NUL (include/uapi/linux/utsname.h)
_UNREADABLE = (FaultError, FormatError, SourceIOError)


def find_facts(
    memory: Reader,
    elfcorehdr: Elfcorehdr,
    vmcoreinfo: Vmcoreinfo | None,
    told: KdumpHeaders | None = None,
) -> KernelFacts:
    """What is known of a kernel, with or without VMCOREINFO.

    Args:
        memory: Its memory, by physical address.
        elfcorehdr: The headers that say where its image is.
        vmcoreinfo: Its VMCOREINFO, or None.
        told: The headers of the dump that the memory is in, if it has such: what they say holds.
    """
    header = elfcorehdr.header
    crash_time = vmcoreinfo.crash_time if vmcoreinfo else None
    bits = long_bits(header, vmcoreinfo)
    facts = KernelFacts(
        abi=Abi(header.byte_order, bits, packed=header.e_machine == EM_386),
        utsname=_read_utsname(memory, elfcorehdr, vmcoreinfo),
        phys_base=_find_phys_base(elfcorehdr, vmcoreinfo, told),
        time=int(time.time()) if crash_time is None else crash_time,
    )
    return facts if told is None else _as_told(facts, told)


def _as_told(facts: KernelFacts, told: KdumpHeaders) -> KernelFacts:
    """What a dump's own headers say, where they say something."""
    main = told.main
    names = asdict(facts.utsname)
    if main.utsname.sysname:  # QEMU names the machine alone, and that not always rightly
        names |= {name: value for name, value in asdict(main.utsname).items() if value}
    facts = replace(
        facts,
        utsname=Utsname(**names),
        current_cpu=main.current_cpu,
        cpus=max(main.nr_cpus, 1),
        excluded=told.sub.dump_level & MAX_DUMP_LEVEL,
    )
    if 0 < main.tv_sec < 1 << facts.abi.bits and main.tv_usec < 1_000_000:
        facts = replace(facts, time=main.tv_sec, microseconds=main.tv_usec)
    return facts


def _find_phys_base(
    elfcorehdr: Elfcorehdr, vmcoreinfo: Vmcoreinfo | None, told: KdumpHeaders | None
) -> int:
    """``phys_base`` in the sense that each machine gives to it (makedumpfile: arch/*.c).

    It may be negative on x86_64, if a kernel runs below the address that it was linked for.
    """
    machine = elfcorehdr.header.e_machine
    if vmcoreinfo is not None and machine in ARCHITECTURES:
        with suppress(FormatError):
            return vmcoreinfo.number(ARCHITECTURES[machine].phys_base_key)
    if told is not None:
        return told.sub.phys_base
    loads = elfcorehdr.loads
    if machine == EM_X86_64:
        for load in loads[loads["p_vaddr"] >= START_KERNEL_MAP]:
            return int(load["p_paddr"]) - (int(load["p_vaddr"]) - START_KERNEL_MAP)
    if machine in (EM_386, EM_X86_64) or not len(loads):
        return 0
    return int(loads["p_paddr"].min())


def _read_utsname(memory: Reader, elfcorehdr: Elfcorehdr, vmcoreinfo: Vmcoreinfo | None) -> Utsname:
    """The kernel's ``init_uts_ns.name``; where it cannot be read, what is known of it otherwise."""
    info = vmcoreinfo
    header = elfcorehdr.header
    if info is not None:
        for image in _image(memory, elfcorehdr, info):
            names = _read_names(image, info)
            if names is not None and names.sysname == b"Linux":
                return names
    release = (info.release if info is not None else None) or "unknown"
    # crash and libkdumpfile know the machine by this name, and so do we
    machine = uname_of(header.e_machine, long_bits(header, vmcoreinfo), header.byte_order)
    return Utsname(
        sysname=b"Linux",
        nodename=b"unknown",
        release=release.encode("ascii", "replace")[: _NAME_SIZE - 1],
        version=b"unknown",
        machine=(machine or "unknown").encode(),
    )


def _image(memory: Reader, elfcorehdr: Elfcorehdr, info: Vmcoreinfo) -> list[KernelMemory]:
    """Ways to read the kernel's image, which ``init_uts_ns`` is in."""
    loads = through_loads(memory, elfcorehdr, info)
    try:
        distance = find_architecture(elfcorehdr.header.e_machine).image_distance(info)
    except (FormatError, UnsupportedError):
        return [loads]
    direct = through_distance(
        memory, distance, byte_order=loads.byte_order, word_size=loads.word_size
    )
    return [loads, direct]


def _read_names(memory: KernelMemory, info: Vmcoreinfo) -> Utsname | None:
    try:
        at = info.symbol("init_uts_ns") + info.offset("uts_namespace.name")
        data = memory.read(at, 6 * _NAME_SIZE)
    except _UNREADABLE:
        return None
    names = (data[at : at + _NAME_SIZE] for at in range(0, len(data), _NAME_SIZE))
    return Utsname(*(name.split(b"\0")[0][: _NAME_SIZE - 1] for name in names))
