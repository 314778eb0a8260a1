"""What is known not to be memory, by its content; and memory that begins like it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib

import pytest

from vmcorefs.core.formats.foreign.recognise import SIGNATURES, recognise
from vmcorefs.core.formats.foreign.signature import Foreign

REST = bytes(range(256)) * 64
"""What follows a magic number in a made-up file: no text, and no other format."""


def known(data: bytes) -> Foreign | None:
    return recognise(lambda offset, size: data[offset : offset + size], len(data))


def at(offset: int, magic: bytes, size: int = 0x12000) -> bytes:
    """Zeros with a magic number in them."""
    return bytes(offset) + magic + bytes(size - offset - len(magic))


def packed_tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        member = tarfile.TarInfo("ram")
        member.size = len(REST)
        archive.addfile(member, io.BytesIO(REST))
    return out.getvalue()


def packed_zip(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, REST)
    return out.getvalue()


def v7_tar() -> bytes:
    header = bytearray(packed_tar(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)  # the magic that it did not have
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def ext4(**fields: int) -> bytes:
    told = {"inodes": 2048, "blocks": 8192, "first": 1, "log": 0, "group": 8192, **fields}
    super_block = bytearray(1024)
    for offset, name in ((0, "inodes"), (4, "blocks"), (20, "first"), (24, "log"), (32, "group")):
        struct.pack_into("<I", super_block, offset, told[name])
    super_block[56:58] = b"\x53\xef"
    return at(1024, bytes(super_block))


def partitioned(status: int = 0x80, first: int = 2048) -> bytes:
    entry = struct.pack("<B3sB3sII", status, b"", 0x83, b"", first, 9999)
    return at(446, entry + bytes(48) + b"\x55\xaa")


def pe(image_size: int) -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(76) + struct.pack(
        "<I", image_size
    ) + bytes(4096)  # fmt: skip


def arm64_kernel(image_size: int) -> bytes:
    """Documentation/arch/arm64/booting.rst."""
    return b"MZ" + bytes(14) + struct.pack("<Q", image_size) + bytes(32) + b"ARM\x64" + bytes(9000)


def bz_image(paragraphs: int) -> bytes:
    """Documentation/arch/x86/boot.rst: setup_sects, syssize, boot_flag, header."""
    head = bytes(0x1F1) + b"\4" + bytes(2) + struct.pack("<I", paragraphs) + bytes(6)
    return head + b"\x55\xaa\xeb\x66HdrS" + REST


FILES = {
    "gzip": (gzip.compress(REST), "gzip", "gunzip <"),
    "zlib": (zlib.compress(REST), "zlib", "pigz -dz <"),
    "bzip2": (bz2.compress(REST), "bzip2", "bunzip2 <"),
    "empty bzip2": (bz2.compress(b"") + bytes(99), "bzip2", "bunzip2 <"),
    "xz": (lzma.compress(REST), "xz", "xz -d <"),
    "lzma": (lzma.compress(REST, format=lzma.FORMAT_ALONE), "lzma", "--format=lzma"),
    "lzip": (b"LZIP\1\x0c" + REST, "lzip", "lzip -d"),
    "zstd": (b"\x28\xb5\x2f\xfd" + REST, "zstd", "zstd -d "),
    "pzstd": (b"\x50\x2a\x4d\x18\4\0\0\0" + bytes(4) + b"\x28\xb5\x2f\xfd" + REST, "zstd", "zstd"),
    "lz4": (b"\x04\x22\x4d\x18" + REST, "lz4", "lz4 -d "),
    "old lz4": (b"\x02\x21\x4c\x18" + REST, "lz4", "lz4 -d "),
    "lzop": (b"\x89LZO\0\r\n\x1a\n" + REST, "lzop", "lzop -d"),
    "compress": (b"\x1f\x9d\x90" + REST, "compress", "uncompress"),
    "snappy": (b"\xff\x06\0\0sNaPpY" + REST, "snappy", "snzip"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + REST, "7-Zip", "7z x"),
    "rar": (b"Rar!\x1a\x07\1\0" + REST, "rar", "unrar"),
    "zip": (packed_zip("ram"), "zip", "unzip"),
    "AFF4": (packed_zip("container.description"), "AFF4", "export"),
    "tar": (packed_tar(tarfile.USTAR_FORMAT), "tar", "tar -xf"),
    "GNU tar": (packed_tar(tarfile.GNU_FORMAT), "tar", "tar -xf"),
    "tar of before POSIX": (v7_tar(), "tar", "tar -xf"),
    "cpio": (b"070701" + REST, "cpio", "cpio -i"),
    "binary cpio": (
        b"\xc7\x71" + bytes(4) + b"\xa4\x81" + bytes(12) + b"\4\0" + bytes(4) + b"ram\0" + REST,
        "cpio",
        "cpio -i",
    ),
    "ISO 9660": (at(0x8000, b"\1CD001\1"), "ISO 9660", "mount -o loop,ro"),
    "hybrid ISO": (at(510, b"\x55\xaa" + bytes(0x7E00) + b"\1CD001\1"), "ISO 9660", "mount"),
    "deb": (b"!<arch>\n" + REST, "ar archive", "dpkg -x"),
    "QEMU": (b"QEVM\0\0\0\3" + REST, "QEMU's migration stream", "virsh dump --memory-only"),
    "libvirt": (b"LibvirtQemudSave" + REST, "libvirt", "virsh dump --memory-only"),
    "libvirt, cut": (b"LibvirtQemudPart" + REST, "libvirt", "virsh dump --memory-only"),
    "vmss": (struct.pack("<III", 0xBED2BED2, 8, 2) + REST, "VMware", ".vmem"),
    "old vmss": (struct.pack("<III", 0xBED0BED0, 8, 2) + REST, "VMware", ".vmem"),
    "vmsn": (struct.pack("<III", 0xBAD1BAD1, 8, 2) + REST, "VMware", ".vmem"),
    "VirtualBox": (b"\x7fVirtualBox SavedState V2.0\n" + REST, "VirtualBox", "dumpvmcore"),
    "vmrs": (struct.pack("<I", 0x01282014) + REST, "Hyper-V", "MemProcFS"),
    "xl save": (b"Xen saved domain, xl format\n \0 \r" + REST, "Xen", "xl dump-core"),
    "xend": (b"LinuxGuestRecord" + REST, "Xen", "xl dump-core"),
    "xc_core": (struct.pack("<I", 0xF00FEBED) + REST, "Xen", "crash"),
    "Firecracker": (struct.pack("<Q", 0x0710_1984_8664_0005) + REST, "Firecracker", "memory file"),
    "Windows": (b"PAGEDU64" + REST, "Windows", "Linux only"),
    "minidump": (b"MDMP\x93\xa7" + REST, "Windows", "Linux only"),
    "hiberfil": (b"hibr" + REST, "hibernation file of Windows", "Linux only"),
    "hiberfil, resumed": (b"RSTR" + REST, "hibernation file of Windows", "Linux only"),
    "swsusp": (at(4096 - 10, b"S1SUSPEND\0"), "hibernated Linux", "resume it"),
    "swsusp of arm64": (at(65536 - 10, b"S1SUSPEND\0"), "hibernated Linux", "resume it"),
    "LKCD": (struct.pack("<Q", 0xA8190173618F23ED) + REST, "LKCD", "crash"),
    "LKCD, big-endian": (struct.pack(">Q", 0xA8190173618F23ED) + REST, "LKCD", "crash"),
    "s390": (struct.pack(">Q", 0xA8190173618F23FD) + REST, "s390", "zgetdump"),
    "sadump": (b"sadump\0\0" + REST, "sadump", "crash"),
    "diskdump": (b"DISKDUMP" + REST, "diskdump", "crash"),
    "Mach-O": (struct.pack("<IIII", 0xFEEDFACF, 7, 3, 4) + REST, "macOS", "Linux only"),
    "FreeBSD": (b"minidump FreeBSD/amd64\0" + REST, "FreeBSD", "Linux only"),
    "E01": (b"EVF\x09\r\n\xff\0" + REST, "EWF", "ewfmount"),
    "AFF": (b"AFF10\r\n\0" + REST, "AFF", "affuse"),
    "qcow2": (b"QFI\xfb\0\0\0\3" + REST, "qcow", "the file with the memory"),
    "VMDK": (b"KDMV\1\0\0\0" + REST, "VMDK", "the file with the memory"),
    "VMDK's text": (b"# Disk DescriptorFile\nversion=1\n", "VMDK", "not memory"),
    "VDI": (at(0x40, b"\x7f\x10\xda\xbe\1\0\1\0"), "VDI", "the file with the memory"),
    "VHD": (b"conectix" + REST, "VHD", "the file with the memory"),
    "fixed VHD": (bytes(0x10000) + b"conectix" + bytes(504), "VHD", "not memory"),
    "VHDX": (b"vhdxfile" + REST, "VHDX", "the file with the memory"),
    "LUKS": (b"LUKS\xba\xbe\0\2" + REST, "LUKS", "cryptsetup"),
    "GPT": (at(512, b"EFI PART\0\0\1\0"), "GPT", "the file with the memory"),
    "partitions": (partitioned(), "partitions", "the file with the memory"),
    "ext4": (ext4(), "ext4", "mount -o loop,ro"),
    "XFS": (b"XFSB\0\0\x10\0" + REST, "XFS", "mount -o loop,ro"),
    "btrfs": (at(0x10040, b"_BHRfS_M"), "btrfs", "mount -o loop,ro"),
    "ReiserFS": (at(0x10034, b"ReIsEr2Fs"), "ReiserFS", "mount -o loop,ro"),
    "SquashFS": (b"hsqs" + REST, "SquashFS", "mount -o loop,ro"),
    "swap": (at(4096 - 10, b"SWAPSPACE2"), "swap space", "the memory itself"),
    "bzImage": (bz_image(len(REST) // 16), "a kernel", "--vmlinux"),
    "arm64's Image": (arm64_kernel(0x10000), "a kernel", "--vmlinux"),
    "PE": (pe(4096), "PE", ""),
    "device tree": (b"\xd0\x0d\xfe\xed" + struct.pack(">I", 9000) + bytes(8992), "device tree", ""),
    "openssl": (b"Salted__" + REST, "encrypted by openssl", "openssl enc -d"),
    "pcapng": (b"\n\r\r\n\x1c\0\0\0\x4d\x3c\x2b\x1a" + REST, "pcapng", "as IMAGE"),
    "journal": (b"LPKSHHRH" + REST, "journal", "as IMAGE"),
    "text": (b"[    0.000000] Linux version 6.1\n" * 900, "text", "give the memory as IMAGE"),
    "JSON": (b'{"regions": []}\n' * 2000, "text", "give the memory as IMAGE"),
    "UTF-8": ("Größe ".encode() * 30000, "text", "give the memory as IMAGE"),
    "UTF-16": ("dmesg\n".encode("utf-16") * 3000, "text", "give the memory as IMAGE"),
    "iomem": (b"00001000-0009fbff : System RAM\n", "memory map", "--map"),
    "VMCOREINFO": (b"OSRELEASE=6.1.0\nPAGESIZE=4096\n", "VMCOREINFO", "--vmcoreinfo"),
}


@pytest.mark.parametrize(("data", "what", "advice"), FILES.values(), ids=FILES.keys())
def test_a_format_is_known_by_its_content_and_its_next_step_is_said(
    data: bytes, what: str, advice: str
) -> None:
    found = known(data)
    assert found is not None
    assert what in found.what
    assert advice in found.advice


def test_a_magic_number_that_is_short_is_not_enough() -> None:
    for one in SIGNATURES:
        assert one.check is not None or min(map(len, one.magic)) >= 3, one.foreign.what


NOISE = random.Random(15).randbytes(1 << 17)  # noqa: S311
"""Of what a machine does not fill with zeros."""

MEMORY = {
    "zeros": bytes(1 << 20),
    "noise": NOISE,
    "interrupt vectors": struct.pack("<HH", 0xFF53, 0xF000) * 256 + NOISE,
    "a page of text": b"#!/bin/sh\n".ljust(4096, b"\n") + NOISE,
    "text for longer than is looked at": b"log\n" * (1 << 16) + NOISE + b"log\n" * (1 << 16),
    "text that ends in zeros": b"log\n" * (1 << 16) + bytes(1 << 16),
    "two bytes of ext4": at(0x438, b"\x53\xef"),
    "ext4 of no size": ext4(blocks=0),
    "a boot sector's end": at(510, b"\x55\xaa"),
    "a boot sector with other entries": partitioned(status=0x12),
    "a partition without a start": partitioned(first=0),
    "two bytes of zlib": b"\x78\x9c" + NOISE,
    "gzip with unknown flags": b"\x1f\x8b\x08\xff" + NOISE,
    "a disc's descriptor that firmware has read": NOISE[:0x8000] + b"\1CD001\1" + NOISE,
    "a kernel's image at the start of RAM": arm64_kernel(0x2000) + NOISE,
    "a loaded program at the start of RAM": pe(4096) + NOISE,
    "a boot loader's kernel": bz_image(64) + NOISE,
    "a device tree at the start of RAM": b"\xd0\x0d\xfe\xed\0\0\x10\0" + NOISE,
    "a tar header with another sum": b"ram".ljust(148, b"\0") + b"0000123\0" + bytes(500),
}


@pytest.mark.parametrize("data", MEMORY.values(), ids=MEMORY.keys())
def test_memory_that_begins_like_something_else_is_still_memory(data: bytes) -> None:
    assert known(data) is None


def test_no_memory_is_mistaken_whatever_its_first_page_begins_with() -> None:
    for seed in range(2000):
        page = random.Random(seed).randbytes(64)  # noqa: S311
        assert known(page + bytes(8192)) is None
