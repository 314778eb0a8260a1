"""Debian packages of any architecture, unpacked into the lab's cache; nothing is installed.

For this machine's own architecture and sources apt's lists serve as they are. A foreign
architecture has lists of its own in the cache, made with the machine's sources and keys, and so has
a suite that the machine's sources need not name: ``dpkg --add-architecture`` and a file in
/etc/apt/sources.list.d would do it too, but would change the machine and need root.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Literal

from tests.lab.host import LOG, LabError, building, cache_root, locked, program, run

Arch = Literal["amd64", "arm64", "ppc64el", "riscv64", "s390x"]
"""An architecture in Debian's words."""

NATIVE: Final[Arch] = "amd64"

_LIST_SECONDS: Final = 24 * 3600
_BUSYBOX_SUITES: Final[dict[Arch, str]] = dict.fromkeys(  # as their kernels
    ("ppc64el", "riscv64", "s390x"), "trixie"
)
_SOURCE: Final = (
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    " http://deb.debian.org/debian {suite} main\n"
)


def show(command: str, package: str, arch: Arch, *options: str, suite: str | None = None) -> str:
    """Return what ``apt-cache`` says of a package.

    Args:
        command: of apt-cache, such as ``depends``.
        package: its name.
        arch: for which architecture.
        options: more words for the command.
        suite: of Debian, such as ``trixie-backports``; this machine's sources, when not given.

    Raises:
        LabError: if apt knows no such package, or its lists cannot be made.
    """
    return run(["apt-cache", *_options(arch, suite), command, *options, package]).decode()


def download(package: str, arch: Arch, directory: Path, *, suite: str | None = None) -> Path:
    """Download a package into a directory that holds no other.

    Args:
        package: its name, or ``name=version``.
        arch: for which architecture.
        directory: an existing one.
        suite: as in ``show``.

    Raises:
        LabError: if apt cannot.
    """
    LOG.info("downloading %s for %s", package, arch)
    # root may read the directory but apt's sandbox user may not, and apt would warn of it
    sandbox = ["-o", "APT::Sandbox::User=root"]
    try:
        run(["apt-get", "-q", *_options(arch, suite), *sandbox, "download", package], cwd=directory)
    except LabError as error:
        raise LabError(f"{error}; are apt's lists out of date (apt-get update)?") from error
    return next(directory.glob("*.deb"))


def unpack(deb: Path, root: Path) -> None:
    """Unpack a package's files into ``root``, and remove the package.

    Raises:
        LabError: if it is none.
    """
    run(["dpkg-deb", "-x", deb, root])
    deb.unlink()


def busybox(arch: Arch) -> Path:
    """Return a statically linked busybox: this machine's own, or one that is downloaded once.

    Raises:
        LabError: if there is none to be had.
    """
    if arch == NATIVE:
        found = program("busybox")
    else:
        directory = cache_root() / "packages" / arch / "busybox-static"
        with locked("packages"):
            if not directory.exists():
                with building(directory) as root:
                    suite = _BUSYBOX_SUITES.get(arch)
                    unpack(download("busybox-static", arch, root, suite=suite), root)
        found = next(directory.glob("**/bin/busybox"))
    if b"/ld-linux" in found.read_bytes()[:4096]:
        raise LabError(f"{found}: dynamically linked; install Debian's busybox-static")
    return found


def _options(arch: Arch, suite: str | None) -> list[str]:
    if arch == NATIVE and suite is None:
        return []
    root = cache_root() / "apt" / f"{suite or 'own'}-{arch}"
    options = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",  # as in download
        "Acquire::Languages": "none",
        "Dir::Cache": str(root / "cache"),
        "Dir::State::Lists": str(root / "lists"),
        "Dir::State::status": "/dev/null",  # nothing is to fit what is installed here
    }
    if suite is not None:
        options |= {
            # testing's lists expire in a week, and a mirror may be late
            "Acquire::Check-Valid-Until": "false",
            "Dir::Etc::SourceList": str(root / "sources.list"),
            "Dir::Etc::SourceParts": str(root / "parts"),
        }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    with locked(f"apt-{root.name}"):
        _refresh(root, words, suite)
    return words


def _refresh(root: Path, options: list[str], suite: str | None) -> None:
    """Update lists of the cache, if they are older than a day."""
    stamp = root / "updated"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < _LIST_SECONDS:
        return
    for name in ("lists", "cache", "parts"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if suite is not None:
        (root / "sources.list").write_text(_SOURCE.format(suite=suite))
    LOG.info("updating the package lists in %s", root)
    run(["apt-get", "-q", *options, "update"])
    stamp.touch()
