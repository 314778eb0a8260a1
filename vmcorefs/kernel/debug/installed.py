"""The crashed kernel's vmlinux with debug symbols: finding an installed one, and checking one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import msgspec

from vmcorefs.core.elf.elf import (
    MAX_EHDR_SIZE,
    PT_NOTE,
    ElfHeader,
    decode_ehdr,
    iter_sections,
    parse_phdrs,
)
from vmcorefs.core.elf.notes import ByteOrder, walk_notes
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.version import read_uts
from vmcorefs.errors import ConfigError, FormatError, VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.options import machine_names
from vmcorefs.system.debuginfod import fetch_debuginfo
from vmcorefs.system.files import open_regular

_PLACES = (
    "/usr/lib/debug/boot/vmlinux-{release}",  # Debian
    "/usr/lib/debug/lib/modules/{release}/vmlinux",  # Fedora, openSUSE
    "/usr/lib/debug/usr/lib/modules/{release}/vmlinux",  # the same, where /lib is /usr/lib
    "/usr/lib/debug/lib/modules/{release}/vmlinux.debug",
    "/usr/lib/debug/vmlinux-{release}",  # a kernel of one's own: make bindeb-pkg
    "/usr/lib/debug/.build-id/{build_id:.2}/{rest}.debug",
    "/lib/modules/{release}/build/vmlinux",  # built here
    "/lib/modules/{release}/vmlinux",
)
_SCRIPTS = (
    "/usr/lib/debug/lib/modules/{release}/vmlinux-gdb.py",  # Fedora
    "/usr/share/gdb/auto-load/boot/vmlinux-{release}/vmlinuz-{release}-gdb.py",  # Ubuntu
    "/lib/modules/{release}/build/vmlinux-gdb.py",  # built here: make scripts_gdb
)
_RELEASE = re.compile(r"(?!\.\.?$)[^/\0]+")
_BUILD_ID = re.compile("(?!0+$)([0-9a-f]{2}){8,64}")  # zeros: it was linked without one

_ET_EXEC, _ET_DYN = 2, 3
_SHT_PROGBITS, _SHT_NOTE = 1, 7
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_MAX_SHDRS = 1 << 20  # bytes
_MAX_NOTES = 1 << 20
_MAX_LOADED = 1 << 28  # bytes of a section that is looked through for the banner

_BANNER = re.compile(rb"Linux version [\x20-\x7e]{1,4000}\n")
_BOOT_IMAGE = re.compile(rb"MZ|(?s:.{514})HdrS")  # EFI's stub; arch/x86/boot/header.S


class Vmlinux(msgspec.Struct, frozen=True):
    """What the ELF file of a kernel says of itself.

    Attributes:
        path: As the user gave it.
        machine: ``e_machine``.
        byte_order: ``<`` or ``>``.
        build_id: Its GNU build id, in hexadecimal; None if it has none.
        banners: What may be its ``linux_banner``, newline included; none in a file of debug
            symbols alone.
    """

    path: str
    machine: int
    byte_order: ByteOrder
    build_id: str | None
    banners: tuple[bytes, ...]


# --- finding one ---------------------------------------------------------------------------------


def find_vmlinux(vmcoreinfo: Vmcoreinfo) -> str | None:
    """The path of an installed vmlinux of exactly this build, or None.

    The release only says where to look; what counts is the build id.
    """
    build_id = build_id_of(vmcoreinfo)
    if build_id is None:
        return None
    release = vmcoreinfo.release or ""
    for place in _PLACES:
        if "{release}" in place and not _RELEASE.fullmatch(release):
            continue
        path = place.format(release=release, build_id=build_id, rest=build_id[2:])
        if os.path.isfile(path) and read_build_id(path) == build_id:
            return path
    return None


def find_gdb_scripts(vmcoreinfo: Vmcoreinfo) -> str | None:
    """The path of the kernel's own commands for gdb, ``lx-...``, of the same release; or None.

    Only where a package or root has put them: gdb runs them, and an image with a vmlinux beside it
    may come from anywhere.
    """
    release = vmcoreinfo.release or ""
    if not _RELEASE.fullmatch(release):
        return None
    places = (place.format(release=release) for place in _SCRIPTS)
    return next((path for path in places if os.path.isfile(path)), None)


def fetch_vmlinux(vmcoreinfo: Vmcoreinfo) -> str:
    """The path of this build's vmlinux, asked for from debuginfod servers.

    Raises:
        ConfigError: if they cannot be asked, or have none.
    """
    build_id = build_id_of(vmcoreinfo)
    if build_id is None:
        raise ConfigError("debuginfod: the kernel that crashed has no build id to ask for")
    path = fetch_debuginfo(build_id)
    if read_build_id(path) != build_id:
        raise ConfigError(f"debuginfod: {path} is not of build {build_id}")
    return path


def build_id_of(vmcoreinfo: Vmcoreinfo) -> str | None:
    """The kernel's build id, in hexadecimal; None before Linux 5.9, and where it has none."""
    build_id = vmcoreinfo.values.get("BUILD-ID", "")
    return build_id if _BUILD_ID.fullmatch(build_id) else None


def read_build_id(path: str) -> str | None:
    """The GNU build id of an ELF file, in hexadecimal, or None if it has none."""
    try:
        with open(path, "rb") as file:
            return _build_id(file, *_read_ehdr(file))
    except (OSError, FormatError):
        return None


# --- checking one --------------------------------------------------------------------------------


def read_vmlinux(path: str) -> Vmlinux:
    """Read what a vmlinux says of itself.

    Raises:
        ConfigError: if it cannot be read.
        FormatError: if it is not the ELF file of a kernel.
    """
    try:
        with open_regular(path, "a vmlinux") as file:
            header, fields = _read_ehdr(file)
            build_id = _build_id(file, header, fields)
            banners = tuple(_iter_banners(file, header, fields))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the vmlinux: {error.strerror}") from error
    except FormatError as error:
        raise FormatError(f"{path}: not a vmlinux: {error}") from error
    if header.e_type not in (_ET_EXEC, _ET_DYN):
        raise FormatError(f"{path}: not a vmlinux: an ELF file of e_type {header.e_type}")
    return Vmlinux(path, header.e_machine, header.byte_order, build_id, banners)


def check_vmlinux(vmlinux: Vmlinux | None, header: ElfHeader, kernel: Kernel | None) -> str:
    """Check that a vmlinux is the crashed kernel's.

    Args:
        vmlinux: The given one; None if there is none.
        header: Of the crashed machine.
        kernel: The kernel that crashed; None if it is not known.

    Returns:
        What could not be verified; empty if it is of the same build.

    Raises:
        FormatError: if it is of another machine, or of another build.
    """
    if vmlinux is None:
        return ""
    ours = (header.e_machine or vmlinux.machine, header.byte_order)
    if (vmlinux.machine, vmlinux.byte_order) != ours:
        theirs = _describe(vmlinux.machine, vmlinux.byte_order)
        raise FormatError(
            f"{vmlinux.path}: a vmlinux of {theirs}, but memory is of {_describe(*ours)}"
        )
    if kernel is None:
        return f"{vmlinux.path}: not verified: nothing is known of the kernel that crashed"
    wanted = build_id_of(kernel.vmcoreinfo)
    if wanted is None or vmlinux.build_id is None:
        return _check_version(vmlinux, kernel)
    if wanted != vmlinux.build_id:
        raise FormatError(
            f"{vmlinux.path}: its build id is {vmlinux.build_id}, but the kernel that crashed has"
            f" {wanted}: give the vmlinux of that very build, or leave out --vmlinux"
        )
    return ""


def _describe(machine: int, byte_order: ByteOrder) -> str:
    order = "little" if byte_order == "<" else "big"
    return f"{machine_names().get(machine, f'machine {machine}')} ({order} endian)"


def _check_version(vmlinux: Vmlinux, kernel: Kernel) -> str:
    start, end = _known_version(kernel)
    if not start or not vmlinux.banners:
        lacking = "the kernel that crashed" if vmlinux.build_id is not None else "it"
        return f"{vmlinux.path}: not verified: the build id of {lacking} is not known"
    if not any(line.startswith(start) and line.endswith(end) for line in vmlinux.banners):
        theirs = vmlinux.banners[0].decode("ascii").strip()
        raise FormatError(
            f"{vmlinux.path}: it is {theirs!r}, but the kernel that crashed is"
            f" {(start + end).decode('ascii', 'replace').strip()!r}: give the vmlinux of that very"
            " build, or leave out --vmlinux"
        )
    return "" if end else f"{vmlinux.path}: not verified: only the release is known to be the same"


def _known_version(kernel: Kernel) -> tuple[bytes, bytes]:
    """How the kernel's banner starts and ends, as far as is known: ``end`` has its build."""
    with suppress(VmcorefsError):
        if kernel.names_symbols:
            return kernel.banner, b"\n"
    with suppress(VmcorefsError):
        *start, end = read_uts(kernel.vmcoreinfo, kernel.image).split(b" ", 3)
        return b" ".join((*start, b"")), end
    release = kernel.vmcoreinfo.release
    return f"Linux version {release} ".encode("ascii", "replace") if release else b"", b""


# --- reading the file ----------------------------------------------------------------------------


def _read_ehdr(file: BinaryIO) -> tuple[ElfHeader, dict[str, int]]:
    start = file.read(1024)
    if _BOOT_IMAGE.match(start):
        raise FormatError("a compressed kernel to boot, expected the ELF file with its symbols")
    return decode_ehdr(start[:MAX_EHDR_SIZE])


def _build_id(file: BinaryIO, header: ElfHeader, fields: dict[str, int]) -> str | None:
    for data in _iter_notes(file, header, fields):
        for note in walk_notes(data, header.byte_order).notes:
            if note.is_build_id:
                return note.desc.hex()
    return None


def _iter_notes(file: BinaryIO, header: ElfHeader, fields: dict[str, int]) -> Iterator[bytes]:
    """Its notes: by its sections; by its program headers if it has none of those."""
    sections = _sections(file, header, fields)
    for section in sections:
        if section["sh_type"] == _SHT_NOTE:
            yield _read(file, section["sh_offset"], min(section["sh_size"], _MAX_NOTES))
    if not sections:
        table = _read(file, header.e_phoff, header.e_phnum * header.phdr_size)
        for phdr in parse_phdrs(header, table, len(table) // header.phdr_size):
            if phdr["p_type"] == PT_NOTE:
                yield _read(file, int(phdr["p_offset"]), min(int(phdr["p_filesz"]), _MAX_NOTES))


def _iter_banners(file: BinaryIO, header: ElfHeader, fields: dict[str, int]) -> Iterator[bytes]:
    for section in _sections(file, header, fields):
        loaded = section["sh_flags"] & (_SHF_ALLOC | _SHF_EXECINSTR) == _SHF_ALLOC
        if section["sh_type"] == _SHT_PROGBITS and loaded:
            size = min(section["sh_size"], _MAX_LOADED)
            yield from _BANNER.findall(_read(file, section["sh_offset"], size))


def _sections(file: BinaryIO, header: ElfHeader, fields: dict[str, int]) -> list[dict[str, int]]:
    # 0 with more than 0xfeff sections, which only objects have
    size = fields["e_shentsize"] * fields["e_shnum"]
    return list(iter_sections(header, _read(file, fields["e_shoff"], min(size, _MAX_SHDRS))))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes there; fewer where the file ends, as in one that is cut off."""
    if offset >= os.fstat(file.fileno()).st_size:
        return b""
    file.seek(offset)
    return file.read(size)
