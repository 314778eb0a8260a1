"""Finding the crashed kernel's vmlinux with debug symbols on this machine."""

from __future__ import annotations

import os

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo

_PLACES = (
    "/usr/lib/debug/boot/vmlinux-{release}",  # Debian
    "/usr/lib/debug/lib/modules/{release}/vmlinux",  # Fedora, openSUSE
    "/usr/lib/debug/vmlinux-{release}",  # a kernel of one's own: make bindeb-pkg
)


def find_vmlinux(vmcoreinfo: Vmcoreinfo) -> str | None:
    """The path of an installed vmlinux of exactly this build, or None.

    The release only says where to look; what counts is the build id.
    """
    release, build_id = vmcoreinfo.release, vmcoreinfo.values.get("BUILD-ID")
    if release is None or build_id is None or "/" in release or "\0" in release:
        return None
    for place in _PLACES:
        path = place.format(release=release)
        if os.path.isfile(path) and read_build_id(path) == build_id:
            return path
    return None


def read_build_id(path: str) -> str | None:
    """The GNU build id of an ELF file, in hexadecimal, or None if it has none."""
    # 30 ms that only gdbinit needs
    from elftools.common.exceptions import ELFError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import NoteSection  # noqa: PLC0415

    try:
        with open(path, "rb") as file:
            for section in ELFFile(file).iter_sections():
                if isinstance(section, NoteSection):
                    for note in section.iter_notes():
                        if note["n_type"] == "NT_GNU_BUILD_ID":
                            return str(note["n_desc"])
    except (OSError, ELFError, ValueError):
        return None
    return None
