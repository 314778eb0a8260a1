"""A makedumpfile that knows newer kernels than Debian's does, run with its own libraries.

Versions 1.7.2 (Debian 12) and 1.7.6 (13) take pages of 6.12 for what they are not (makedumpfile
issue 16); 1.7.7 was the first that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.lab.host import building, cache_root, locked
from tests.lab.packages import NATIVE, download, unpack

if TYPE_CHECKING:
    from pathlib import Path

SUITE: Final = "forky"

_PACKAGES: Final = (
    "makedumpfile",
    *("libbz2-1.0", "libc6", "libdw1t64", "libelf1t64", "liblzma5", "liblzo2-2", "libzstd1"),
    "zlib1g",
)


def newer_makedumpfile() -> list[str | Path]:
    """The words that run it, downloaded once.

    Raises:
        LabError: if apt cannot download it.
    """
    directory = cache_root() / "packages" / f"makedumpfile-{SUITE}"
    with locked("packages"):
        if not directory.exists():
            with building(directory) as root:
                for package in _PACKAGES:
                    unpack(download(package, NATIVE, root, suite=SUITE), root)
    libraries = directory / "usr" / "lib" / "x86_64-linux-gnu"
    return [
        libraries / "ld-linux-x86-64.so.2",
        "--library-path",
        libraries,
        directory / "usr" / "bin" / "makedumpfile",
    ]
