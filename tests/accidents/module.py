"""Building accident.c for one of Debian's kernels, against its headers; nothing is installed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.backports import suite_of
from tests.lab.host import LabError, building, cache_root, locked, run
from tests.lab.packages import NATIVE, download, show, unpack

if TYPE_CHECKING:
    from tests.lab.kernels import Kernel

SOURCE = Path(__file__).with_name("accident.c")


def build_module(kernel: Kernel, directory: Path) -> Path:
    """Return accident.ko for a kernel, built in an empty directory.

    Raises:
        LabError: if apt does not offer the kernel's headers, or it cannot be built.
    """
    headers = headers_of(kernel)
    shutil.copy(SOURCE, directory)
    (directory / "Makefile").write_text("obj-m := accident.o\n")
    build = headers / "usr/src" / f"linux-headers-{kernel.name}"
    # types of a module need pahole, and the kernel's own BTF
    no_types = "CONFIG_DEBUG_INFO_BTF_MODULES="
    run(["make", "--silent", "-C", build, f"M={directory}", no_types, "modules"])
    return directory / "accident.ko"


def headers_of(kernel: Kernel) -> Path:
    """The directory that the kernel's headers, and what they are used with, are unpacked in."""
    package = f"linux-headers-{kernel.name}"
    root = cache_root() / "headers" / f"{package}_{kernel.version}"
    with locked("headers"):
        if not root.exists():
            with building(root) as partial:
                for part in _parts(package, kernel):
                    # what builds is this machine's; what it builds of, the kernel's
                    arch = NATIVE if "-kbuild-" in part else kernel.arch
                    unpack(download(part, arch, partial, suite=suite_of(kernel)), partial)
                _move(partial, root)
    return root


def _parts(package: str, kernel: Kernel) -> list[str]:
    depends = show("depends", package, kernel.arch, suite=suite_of(kernel))
    used = re.findall(r"Depends: (linux-(?:headers|kbuild)-\S+)", depends)
    if len(used) < 2:
        raise LabError(f"{package}: depends on {used}, expected the common headers and kbuild")
    return [package, *used]


def _move(partial: Path, root: Path) -> None:
    """Make what names /usr/src and /usr/lib name the same below ``root``."""
    for link in [path for path in partial.rglob("*") if path.is_symlink()]:
        target = link.readlink()
        if target.is_absolute():
            link.unlink()
            link.symlink_to(root / target.relative_to("/"))
    for makefile in partial.glob("usr/src/linux-headers-*/Makefile"):
        text = makefile.read_text()
        makefile.write_text(re.sub(r"(?<![\w/])/usr/(?=src|lib)", f"{root}/usr/", text))
