"""Debian's cloud kernels and their debug symbols, from apt into the lab's cache.

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

from tests.lab.host import LOG, LabError, building, cache_root, locked, program, run

Release = Literal["6.1", "6.12"]

_METAPACKAGES: Final[dict[Release, str]] = {
    "6.1": "linux-image-cloud-amd64",
    "6.12": "linux-image-6.12-cloud-amd64",
}
_KEEP_VERSIONS = 2


@dataclass(frozen=True)
class Kernel:
    """A kernel package.

    Args:
        release: the series, such as ``6.1``.
        package: the image's package without ``-unsigned``.
        version: of the package.
    """

    release: Release
    package: str
    version: str

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


def kernel(release: Release) -> Kernel:
    """Return the newest kernel of a series, downloaded and unpacked.

    Raises:
        LabError: if apt does not offer it and the cache has none.
    """
    with locked("kernels"):
        found = _newest(release)
        if not found.root.exists():
            with building(found.root) as root:
                deb = _download(f"{found.package}-unsigned={found.version}", root)
                run(["dpkg-deb", "-x", deb, root])
                deb.unlink()
            _keep_newest(found.root.parent)
        return found


def debug_vmlinux(release: Release) -> Path:
    """Return the vmlinux with debug symbols that belongs to ``kernel(release)``.

    The first call downloads some 300 MB, of which the 400-600 MB vmlinux is kept.

    Raises:
        LabError: if apt does not offer the kernel's debug package.
    """
    found = kernel(release)
    vmlinux = found.debug / f"vmlinux-{found.name}"
    with locked("kernels"):
        if not vmlinux.exists():
            with building(found.debug) as root:
                _unpack_vmlinux(_download(f"{found.package}-dbg={found.version}", root), root)
                (root / f"vmlinux-{found.name}").chmod(0o644)
            _keep_newest(found.debug.parent)
    return vmlinux


def _newest(release: Release) -> Kernel:
    try:
        return _offered(release)
    except LabError as error:
        cached = _by_age(cache_root() / "kernels" / release)
        if not cached:
            raise
        package, _, version = cached[0].name.partition("_")
        LOG.warning("%s; taking %s from the cache", error, cached[0].name)
        return Kernel(release, package, version)


def _offered(release: Release) -> Kernel:
    metapackage = _METAPACKAGES[release]
    depends = run(["apt-cache", "depends", metapackage]).decode()
    image = re.search(rf"Depends: (linux-image-{re.escape(release)}\.\S+)", depends)
    if image is None:
        raise LabError(
            f"{metapackage}: depends on no linux-image-{release}.* here, but: {depends.split()}"
        )
    shown = run(["apt-cache", "show", "--no-all-versions", f"{image[1]}-unsigned"]).decode()
    version = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
    if version is None:
        raise LabError(f"apt-cache show {image[1]}-unsigned: no version; try apt-get update")
    return Kernel(release, image[1], version[1])


def _download(package: str, directory: Path) -> Path:
    LOG.info("downloading %s", package)
    try:
        # root may read the directory but apt's sandbox user may not, and apt would warn of it
        run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], cwd=directory)
    except LabError as error:
        raise LabError(f"{error}; are apt's lists out of date (apt-get update)?") from error
    return next(directory.glob("*.deb"))


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


def _by_age(directory: Path) -> list[Path]:
    """Return the finished directories in ``directory``, the newest first."""
    finished = [entry for entry in directory.glob("linux-image-*") if entry.is_dir()]
    return sorted(finished, key=lambda entry: entry.stat().st_mtime, reverse=True)


def _keep_newest(directory: Path) -> None:
    for old in _by_age(directory)[_KEEP_VERSIONS:]:
        shutil.rmtree(old)
        LOG.info("removed %s", old)
