"""The kernel's own commands for gdb, of the source package of one of Debian's kernels.

Debian's kernels come without them. They are what ``make scripts_gdb`` makes: a few scripts as they
are, and constants that the compiler's preprocessor finds in the kernel's headers.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.accidents.module import headers_of
from tests.backports import suite_of
from tests.lab.host import building, cache_root, locked, run
from tests.lab.kernels import Kernel, Role, kernel
from tests.lab.packages import download, unpack

_WANTED: Final = "*/scripts/gdb/*"
_END_OF_HEADERS: Final = "<!-- end-c-headers -->\n"
_LINE_MARKER: Final = re.compile(r"^# .*\n", re.MULTILINE)


def gdb_scripts(role: Role) -> Path:
    """Return ``vmlinux-gdb.py`` for ``kernel(role)``, with what it imports beside it.

    The first call downloads some 140 MB, of which a few kilobytes are kept.

    Raises:
        LabError: if apt does not offer the kernel's source, or its headers.
    """
    found = kernel(role)
    directory = cache_root() / "gdb-scripts" / f"{found.package}_{found.version}"
    with locked("kernels"):
        if not directory.exists():
            with building(directory) as root:
                _unpack(found, root)
                linux = root / "scripts/gdb/linux"
                (linux / "constants.py").write_text(_constants(found, linux / "constants.py.in"))
    return directory / "vmlinux-gdb.py"


def _unpack(found: Kernel, root: Path) -> None:
    package = f"linux-source-{'.'.join(map(str, found.series))}={found.version}"
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        unpack(download(package, found.arch, Path(scratch), suite=suite_of(found)), Path(scratch))
        (source,) = Path(scratch).glob("usr/src/linux-source-*.tar.*")
        words = ("-C", root, "--strip-components=1", "--wildcards", _WANTED)
        run(["tar", "-x", "-f", source, *words])
    shutil.move(root / "scripts/gdb/vmlinux-gdb.py", root)


def _constants(kernel: Kernel, source: Path) -> str:
    build = headers_of(kernel) / "usr/src" / f"linux-headers-{kernel.name}"
    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        directory = Path(name)
        shutil.copy(source, directory / "constants.c")
        (directory / "Makefile").write_text("obj-m := constants.o\n")
        run(["make", "--silent", "-C", build, f"M={directory}", "constants.i"])
        made = (directory / "constants.i").read_text()
    return _LINE_MARKER.sub("", made.partition(_END_OF_HEADERS)[2])
