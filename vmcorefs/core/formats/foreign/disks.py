"""Disk images, file systems, and programs.

Sources: QEMU's block/, the kernel's fs/ and Documentation/arch, the PE/COFF and UEFI
specifications, util-linux' libblkid, cryptsetup's on-disk format.
"""

from __future__ import annotations

from vmcorefs.core.formats.foreign.signature import FILE, Foreign, Signature, Start

_SECTOR = 512
_MBR = 446


def _disk(what: str) -> Foreign:
    return Foreign(
        f"a disk image ({what})",
        "a disk holds files, not memory: give the file with the memory that is on it",
    )


def _file_system(what: str) -> Foreign:
    return Foreign(
        f"a file system ({what})",
        f"mount -o loop,ro {FILE} DIRECTORY, and give the file with the memory that is in it",
    )


def _is_qcow(start: Start) -> bool:
    return 1 <= start.number(4, 4, big=True) <= 3


def _is_vdi(start: Start) -> bool:
    return start.number(0x46, 2) <= 1  # its major version


def _is_partitioned(start: Start) -> bool:
    """Whether each entry of the partition table can be one, and some are."""
    used = False
    for at in range(_MBR, _MBR + 64, 16):
        status, kind = start.number(at, 1), start.number(at + 4, 1)
        first, count = start.number(at + 8, 4), start.number(at + 12, 4)
        if status not in (0, 0x80) or bool(kind) != bool(count) or (kind and not first):
            return False
        used |= bool(kind)
    return used


def _is_fat(start: Start) -> bool:
    return start.head[510:512] == b"\x55\xaa"


def _is_ext(start: Start) -> bool:
    """The magic has two bytes: what is told about blocks must fit together too."""
    inodes, blocks, reserved = (start.number(0x400 + at, 4) for at in (0, 4, 8))
    first, log_size = start.number(0x414, 4), start.number(0x418, 4)
    per_group, revision = start.number(0x420, 4), start.number(0x44C, 4)
    return (
        inodes > 0
        and blocks > first == int(not log_size)
        and reserved <= blocks
        and log_size <= 6
        and 0 < per_group <= 8192 << log_size
        and revision <= 1
    )


def _is_xfs(start: Start) -> bool:
    size = start.number(4, 4, big=True)
    return 512 <= size <= 65536 and not size & (size - 1)


def _is_bzimage(start: Start) -> bool:
    """Whether the file is no longer than the kernel's setup code, kernel and signature.

    The kernel's memory begins with its image on some boards, and is longer.
    """
    setup = 1 + (start.number(0x1F1, 1) or 4)
    size = setup * _SECTOR + start.number(0x1F4, 4) * 16
    return start.head[510:512] == b"\x55\xaa" and start.size <= 2 * size


def _is_image(start: Start) -> bool:
    """The same for arm64 and RISC-V, whose image_size counts memory that the file lacks."""
    return 0 < start.size <= start.number(16, 8)


def _is_zimage(start: Start) -> bool:
    """The same for 32-bit ARM: its end and its start are in it."""
    return start.size <= 2 * (start.number(0x2C, 4) - start.number(0x28, 4))


def _is_uimage(start: Start) -> bool:
    return start.size <= 64 + start.number(12, 4, big=True) + 4096


def _is_pe(start: Start) -> bool:
    at = start.number(0x3C, 4)
    return start.head.startswith(b"PE\0\0", at) and start.size <= 4 * start.number(at + 80, 4)


def _is_device_tree(start: Start) -> bool:
    """Memory begins with one where a boot loader puts it, and is longer."""
    return start.size <= start.number(4, 4, big=True) + 4096


_KERNEL = Foreign(
    "a kernel to be booted", "give the memory; vmlinux, with symbols, is for --vmlinux"
)
_LUKS = Foreign(
    "an encrypted volume (LUKS)",
    f"cryptsetup open --readonly {FILE} NAME, and mount what is in it: a disk holds no memory",
)

DISKS = (
    Signature(_disk("qcow"), (b"QFI\xfb",), check=_is_qcow),
    Signature(_disk("QED"), (b"QED\0",)),
    Signature(_disk("VMDK"), (b"KDMV", b"COWD", b"\xbe\xba\xfe\xca\0\0\0\0")),
    Signature(_disk("VDI"), (b"\x7f\x10\xda\xbe",), at=0x40, check=_is_vdi),
    Signature(_disk("VHD"), (b"conectix",)),
    Signature(_disk("VHDX"), (b"vhdxfile",)),
    Signature(_disk("Parallels"), (b"WithoutFreeSpace", b"WithouFreSpacExt")),
    Signature(_disk("Android sparse"), (b"\x3a\xff\x26\xed\1\0",)),
    Signature(_LUKS, (b"LUKS\xba\xbe\0\1", b"LUKS\xba\xbe\0\2", b"SKUL\xba\xbe\0\2")),
    Signature(_disk("LVM"), (b"LABELONE",), at=_SECTOR),
    Signature(_disk("GPT"), (b"EFI PART\0\0\1\0",), at=_SECTOR),
    Signature(_disk("GPT"), (b"EFI PART\0\0\1\0",), at=4096),
    Signature(_file_system("NTFS"), (b"NTFS    ",), at=3, check=_is_fat),
    Signature(_file_system("exFAT"), (b"EXFAT   ",), at=3, check=_is_fat),
    Signature(_file_system("FAT"), (b"FAT32   ",), at=82, check=_is_fat),
    Signature(_file_system("FAT"), (b"FAT12   ", b"FAT16   "), at=54, check=_is_fat),
    Signature(_disk("BitLocker"), (b"-FVE-FS-",), at=3),
    Signature(_file_system("ext2, ext3 or ext4"), (b"\x53\xef",), at=0x438, check=_is_ext),
    Signature(_file_system("XFS"), (b"XFSB",), check=_is_xfs),
    Signature(_file_system("btrfs"), (b"_BHRfS_M",), at=0x10040),
    Signature(_file_system("ReiserFS"), (b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs"), at=0x10034),
    Signature(_file_system("JFS"), (b"JFS1\1\0\0\0", b"JFS1\2\0\0\0"), at=0x8000),
    Signature(_file_system("APFS"), (b"NXSB",), at=32),
    Signature(_file_system("UBI"), (b"UBI#\1",)),
    Signature(_file_system("f2fs"), (b"\x10\x20\xf5\xf2\1\0",), at=0x400),
    Signature(_file_system("EROFS"), (b"\xe2\xe1\xf5\xe0",), at=0x400),
    Signature(_file_system("SquashFS"), (b"hsqs", b"sqsh")),
    Signature(_file_system("cramfs"), (b"Compressed ROMFS",), at=16),
    *(
        Signature(
            Foreign("swap space", "its pages are in no order of address: give the memory itself"),
            (b"SWAPSPACE2", b"SWAP-SPACE"),
            at=size - 10,
        )
        for size in (4096, 8192, 16384, 65536)
    ),
    Signature(_KERNEL, (b"HdrS",), at=0x202, check=_is_bzimage),
    Signature(_KERNEL, (b"ARM\x64",), at=0x38, check=_is_image),
    Signature(_KERNEL, (b"\x18\x28\x6f\x01",), at=0x24, check=_is_zimage),
    Signature(_KERNEL, (b"RISCV\0\0\0",), at=0x30, check=_is_image),
    Signature(Foreign("a program for Windows or UEFI (PE)"), (b"MZ",), check=_is_pe),
    Signature(Foreign("a device tree"), (b"\xd0\x0d\xfe\xed",), check=_is_device_tree),
    Signature(Foreign("a U-Boot image"), (b"\x27\x05\x19\x56",), check=_is_uimage),
    Signature(Foreign("an Android boot image"), (b"ANDROID!",)),
    Signature(_disk("partitions"), (b"\x55\xaa",), at=510, check=_is_partitioned),
)
"""The first that fits is it."""
