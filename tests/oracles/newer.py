"""A makedumpfile that knows newer kernels than Debian 12's does, run with its own libraries.

Version 1.7.2 takes pages of 6.12 for what they are not (makedumpfile issue 16); 1.7.7 was the first
that does not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from tests.lab.host import building, cache_root, locked, run
from tests.lab.packages import unpack

SUITE: Final = "forky"

_PACKAGES: Final = (
    "makedumpfile",
    *("libbz2-1.0", "libc6", "libdw1t64", "libelf1t64", "liblzma5", "liblzo2-2", "libzstd1"),
    "zlib1g",
)
_SOURCE: Final = (
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    f" http://deb.debian.org/debian {SUITE} main\n"
)


def newer_makedumpfile() -> list[str | Path]:
    """The words that run it, downloaded once.

    Raises:
        LabError: if apt cannot download it.
    """
    directory = cache_root() / "packages" / f"makedumpfile-{SUITE}"
    with locked("packages"):
        if not directory.exists():
            with building(directory) as root, tempfile.TemporaryDirectory() as apt:
                _download(root, Path(apt))
    libraries = directory / "usr" / "lib" / "x86_64-linux-gnu"
    return [
        libraries / "ld-linux-x86-64.so.2",
        "--library-path",
        libraries,
        directory / "usr" / "bin" / "makedumpfile",
    ]


def _download(root: Path, apt: Path) -> None:
    for name in ("lists", "cache", "parts"):
        (apt / name).mkdir()
    (apt / "sources.list").write_text(_SOURCE)
    options = {
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": apt / "parts",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": "/dev/null",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    run(["apt-get", "-q", *words, "update"])
    run(["apt-get", "-q", *words, "download", *_PACKAGES], cwd=apt)
    for deb in apt.glob("*.deb"):
        unpack(deb, root)
