"""Debian's kernels and their debug symbols, from apt into the lab's cache.

Needs apt's package lists (``apt-get update``), not root: nothing is installed. Without apt's help
the newest kernel that is already in the cache serves.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.lab.host import LOG, LabError, building, cache_root, locked, program
from tests.lab.packages import NATIVE, Arch, download, show, unpack

Release = Literal["6.1", "6.12", "6.12-16k"]
"""A series, and after it what is not usual: arm64 has a kernel with 16 KiB pages."""

_METAPACKAGES: Final[dict[tuple[Release, Arch], str]] = {
    ("6.1", "amd64"): "linux-image-cloud-amd64",
    ("6.12", "amd64"): "linux-image-6.12-cloud-amd64",
    ("6.1", "arm64"): "linux-image-cloud-arm64",
    ("6.12", "arm64"): "linux-image-6.12-cloud-arm64",
    ("6.12-16k", "arm64"): "linux-image-6.12-arm64-16k",
}
_KEEP_VERSIONS = 2


@dataclass(frozen=True)
class Kernel:
    """A kernel package.

    Args:
        release: the series, such as ``6.1``.
        package: the image's package without ``-unsigned``.
        version: of the package.
        arch: that it is for.
    """

    release: Release
    package: str
    version: str
    arch: Arch = NATIVE

    @property
    def name(self) -> str:
        """What ``uname -r`` says in it."""
        return self.package.removeprefix("linux-image-")

    @property
    def root(self) -> Path:
        """Where its files are unpacked, once ``kernel`` has returned it."""
        return self._place("kernels")

    @property
    def vmlinuz(self) -> Path:
        """The bootable image."""
        return self.root / "boot" / f"vmlinuz-{self.name}"

    @property
    def modules(self) -> Path:
        """The directory of its modules."""
        return self.root / "lib" / "modules" / self.name

    @property
    def debug(self) -> Path:
        """Where ``debug_vmlinux`` unpacks its symbols."""
        return self._place("debug")

    def _place(self, kind: str) -> Path:
        return cache_root() / kind / self.release / f"{self.package}_{self.version}"


def kernel(release: Release, arch: Arch = NATIVE) -> Kernel:
    """Return the newest kernel of a series, downloaded and unpacked.

    Raises:
        LabError: if apt does not offer it and the cache has none.
    """
    with locked("kernels"):
        found = _newest(release, arch)
        if not found.root.exists():
            with building(found.root) as root:
                unpack(download(f"{found.package}-unsigned={found.version}", arch, root), root)
            _keep_newest(found.root.parent, arch)
        return found


def debug_vmlinux(release: Release, arch: Arch = NATIVE) -> Path:
    """Return the vmlinux with debug symbols that belongs to ``kernel(release, arch)``.

    The first call downloads some 300 MB, of which the 400-600 MB vmlinux is kept.

    Raises:
        LabError: if apt does not offer the kernel's debug package.
    """
    found = kernel(release, arch)
    vmlinux = found.debug / f"vmlinux-{found.name}"
    with locked("kernels"):
        if not vmlinux.exists():
            with building(found.debug) as root:
                deb = download(f"{found.package}-dbg={found.version}", arch, root)
                _unpack_vmlinux(deb, root)
                (root / f"vmlinux-{found.name}").chmod(0o644)
            _keep_newest(found.debug.parent, arch)
    return vmlinux


def _newest(release: Release, arch: Arch) -> Kernel:
    try:
        return _offered(release, arch)
    except LabError as error:
        cached = _by_age(cache_root() / "kernels" / release, arch)
        if not cached:
            raise
        package, _, version = cached[0].name.partition("_")
        LOG.warning("%s; taking %s from the cache", error, cached[0].name)
        return Kernel(release, package, version, arch)


def _offered(release: Release, arch: Arch) -> Kernel:
    metapackage = _METAPACKAGES.get((release, arch))
    if metapackage is None:
        raise LabError(f"Debian has no kernel {release} for {arch}")
    series, _, _ = release.partition("-")
    depends = show("depends", metapackage, arch)
    image = re.search(rf"Depends: (linux-image-{re.escape(series)}\.\S+)", depends)
    if image is None:
        raise LabError(
            f"{metapackage}: depends on no linux-image-{series}.* here, but: {depends.split()}"
        )
    shown = show("show", f"{image[1]}-unsigned", arch, "--no-all-versions")
    version = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
    if version is None:
        raise LabError(f"apt-cache show {image[1]}-unsigned: no version; try apt-get update")
    return Kernel(release, image[1], version[1], arch)


def _unpack_vmlinux(deb: Path, root: Path) -> None:
    """Take the one vmlinux out of a debug package into ``root``; the package is removed."""
    unpack: list[str | Path] = [program("dpkg-deb"), "--fsys-tarfile", deb]
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        pick: list[str | Path] = [program("tar"), "-x", "-C", scratch, "--wildcards", "*/vmlinux*"]
        with subprocess.Popen(unpack, stdout=subprocess.PIPE) as packed:
            picked = subprocess.run(pick, stdin=packed.stdout, check=False)
        if packed.returncode or picked.returncode:
            raise LabError(f"{deb.name}: dpkg-deb and tar could not unpack it")
        for file in Path(scratch).rglob("vmlinux*"):
            if file.is_file() and not file.is_symlink():
                file.rename(root / file.name)
    deb.unlink()


def _by_age(directory: Path, arch: Arch) -> list[Path]:
    """Return the finished directories of an architecture in ``directory``, the newest first."""
    finished = [entry for entry in directory.glob(f"linux-image-*-{arch}*_*") if entry.is_dir()]
    return sorted(finished, key=lambda entry: entry.stat().st_mtime, reverse=True)


def _keep_newest(directory: Path, arch: Arch) -> None:
    for old in _by_age(directory, arch)[_KEEP_VERSIONS:]:
        shutil.rmtree(old)
        LOG.info("removed %s", old)
