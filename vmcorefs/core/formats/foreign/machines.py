"""What hypervisors, hibernation and other dumpers write in place of plain memory.

Sources: QEMU's migration/qemu-file.h, libvirt's qemu_saveimage.h, crash's vmware_vmss.c, lkcd
and sadump.h, Xen's xl and xenctrl.h, VirtualBox's SSM.cpp, Firecracker's snapshot crate,
s390-tools' zdump, the kernel's kernel/power/swap.c, xnu's mach-o/loader.h, libewf, AFFLIB.
"""

from __future__ import annotations

import struct

from vmcorefs.core.formats.foreign.signature import FILE, NEW, Foreign, Signature, Start

_DUMP = f"virsh dump --memory-only DOMAIN {NEW}, or dump-guest-memory in QEMU's monitor"
_CRASH = "crash reads it"
_RAW = f"write raw memory from it first, with the program that made {FILE}"
_NOT_LINUX = "vmcorefs reads memory of Linux only"

_VMWARE = (0xBED0BED0, 0xBED2BED0, 0xBED2BED2, 0xBED3BED3, 0xBAD1BAD1, 0xBAD2BAD2)
_LKCD = (0xA8190173618F23ED, 0xA8190173618F23CD)
_S390 = (0xA8190173618F23FD, 0xA8190173618F23FE)
_FIRECRACKER = (0x0710_1984_8664, 0x0710_1984_AAAA)
_PAGE_SIZES = (4096, 8192, 16384, 65536)
_SUSPENDED = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
_MACHO = (0xFEEDFACE, 0xFEEDFACF)


def _both(form: str, *numbers: int) -> tuple[bytes, ...]:
    """Numbers in both byte orders."""
    return tuple(struct.pack(order + form, number) for number in numbers for order in "<>")


def _is_macho(start: Start) -> bool:
    big = start.head[:1] == b"\xfe"
    return 0 < start.number(12, 4, big=big) <= 16  # its file type


MACHINES = (
    Signature(
        Foreign("a LiME or AVML file", "it is read as IMAGE, in LiME's version 1 and AVML's 2"),
        (b"EMiL", b"AVML"),
    ),
    Signature(
        Foreign(
            "QEMU's migration stream",
            "it is read as IMAGE, in version 3; or resume it in QEMU (-incoming), and have the"
            f" virtual machine's memory written as a dump: {_DUMP}",
        ),
        (b"QEVM\0\0\0",),
    ),
    Signature(
        Foreign(
            "a virtual machine that libvirt saved",
            "it is read as IMAGE; or virsh restore it, and then virsh dump --memory-only DOMAIN"
            f" {NEW}",
        ),
        (b"LibvirtQemudSave", b"LibvirtQemudPart"),
    ),
    Signature(
        Foreign(
            "a virtual machine's state by VMware (.vmss, .vmsn)",
            "it is read as IMAGE, if it is of 64 bits; or give the .vmem file beside it; if there"
            f" is none, vmss2core -N6 {FILE} writes a dump",
        ),
        tuple(struct.pack("<I", number) for number in _VMWARE),
    ),
    Signature(
        Foreign(
            "a virtual machine that VirtualBox saved",
            f"resume it, and dump it: VBoxManage debugvm VM dumpvmcore --filename={NEW}",
        ),
        (b"\x7fVirtualBox SavedState ",),
    ),
    Signature(
        Foreign(
            "a virtual machine's state by Hyper-V (.vmrs)",
            "MemProcFS on Windows reads it, and can write raw memory from it",
        ),
        (b"\x14\x20\x28\x01",),
    ),
    Signature(
        Foreign(
            "a domain that Xen saved", f"xl restore {FILE}, and then xl dump-core DOMAIN {NEW}"
        ),
        (
            b"Xen saved domain, xl format\n",
            b"LinuxGuestRecord",
            b"libvirt-xml\n \0 \r",
            b"\xff" * 8 + b"XENF",
        ),
    ),
    Signature(
        Foreign("a dump of a Xen domain, in the format of before Xen 3.1", _CRASH),
        _both("I", 0xF00FEBED, 0xF00FEBEE),
    ),
    Signature(
        Foreign(
            "the state of a Firecracker virtual machine",
            "give the memory file that was made with it",
        ),
        tuple(struct.pack("<Q", number)[:6] for number in _FIRECRACKER),
        at=2,  # after the version of its format
    ),
    Signature(Foreign("a backup by Proxmox (VMA)", f"vma extract {FILE} DIRECTORY"), (b"VMA\0",)),
    Signature(
        Foreign("a crash dump of Windows", _NOT_LINUX), (b"PAGEDUMP", b"PAGEDU64", b"MDMP\x93\xa7")
    ),
    Signature(
        Foreign("a hibernation file of Windows", _NOT_LINUX),
        (b"hibr", b"HIBR", b"wake", b"WAKE", b"rstr", b"RSTR"),
    ),
    *(
        Signature(
            Foreign(
                "swap space with a hibernated Linux in it",
                "resume it, or use a program that reads hibernation images; vmcorefs does not",
            ),
            _SUSPENDED,
            at=size - 10,
        )
        for size in _PAGE_SIZES
    ),
    Signature(
        Foreign("a dump by LKCD", f"it is read as IMAGE, in versions 1 to 10; or {_CRASH}"),
        _both("Q", *_LKCD),
    ),
    Signature(
        Foreign(
            "a stand-alone dump of s390",
            f"it is read as IMAGE; or zgetdump {FILE} -f elf >{NEW} makes an ELF dump of it",
        ),
        tuple(struct.pack(">Q", number) for number in _S390),
    ),
    Signature(
        Foreign(
            "a dump by sadump",
            f"it is read as IMAGE, alone or with the other disks of its set; or {_CRASH}, or"
            f" makedumpfile {FILE} {NEW} converts it",
        ),
        (b"sadump\0\0",),
    ),
    # on a medium of its own, a block further in
    Signature(Foreign("a dump by sadump", _CRASH), (b"sadump\0\0",), at=4096),
    Signature(Foreign("a dump by diskdump of before kdump", _CRASH), (b"DISKDUMP",)),
    Signature(
        Foreign("a core file of macOS (Mach-O)", _NOT_LINUX), _both("I", *_MACHO), check=_is_macho
    ),
    Signature(
        Foreign("a dump of FreeBSD", _NOT_LINUX), (b"minidump FreeBSD", b"FreeBSD Kernel Dump")
    ),
    Signature(Foreign("a dump of Solaris", _NOT_LINUX), _both("I", 0xDEFEC8ED)),
    Signature(
        Foreign(
            "an EnCase or FTK container (EWF)",
            f"ewfmount {FILE} DIRECTORY, and give DIRECTORY/ewf1",
        ),
        (b"EVF\x09\r\n\xff\0", b"LVF\x09\r\n\xff\0", b"EVF2\r\n\x81\0", b"LEF2\r\n\x81\0"),
    ),
    Signature(
        Foreign("an AFF container", f"affconvert -r {FILE}, or affuse {FILE} DIRECTORY"),
        (b"AFF10\r\n\0", b"AFM10\r\n\0"),
    ),
    Signature(Foreign("an AD1 container of FTK", _RAW), (b"ADSEGMENTEDFILE\0",)),
    Signature(Foreign("an HPAK container of FDPro", _RAW), (b"HPAK",)),
)
"""The first that fits is it."""
