"""Debian's kernels and their debug symbols, from apt into the lab's cache.

Needs apt's package lists (``apt-get update``), not root: nothing is installed. Without apt's help
the newest kernel that is already in the cache serves.

Which kernels there are depends on the release of Debian that this machine runs.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.lab.host import LOG, LabError, building, cache_root, locked, program
from tests.lab.packages import NATIVE, Arch, download, show, unpack

Role = Literal["stable", "newer", "newer-16k", "hardware"]
"""The release's own kernel, or a newer one that it has too; arm64 also has 16 KiB pages.

Those are for virtual machines alone; ``hardware`` is the release's own for all others.
"""


@dataclass(frozen=True)
class _Source:
    """Where a release has its kernel of a role.

    Args:
        metapackage: the package that depends on the newest of them.
        suite: of which it is, if not of those that this machine's apt knows.
    """

    metapackage: str
    suite: str | None = None


_TRIXIES_OWN: Final[dict[tuple[Role, Arch], _Source]] = {
    # bookworm's are older than radix page tables' VMCOREINFO, and have no CONFIG_KALLSYMS_ALL; it
    # has none at all for riscv64
    ("newer", "ppc64el"): _Source("linux-image-powerpc64le", "trixie"),
    ("newer", "riscv64"): _Source("linux-image-riscv64", "trixie"),
    ("newer", "s390x"): _Source("linux-image-s390x", "trixie"),
}
_SOURCES: Final[dict[str, dict[tuple[Role, Arch], _Source]]] = {
    "bookworm": {
        ("stable", "amd64"): _Source("linux-image-cloud-amd64"),
        ("hardware", "amd64"): _Source("linux-image-amd64"),
        ("stable", "arm64"): _Source("linux-image-cloud-arm64"),
        # of bookworm-security
        ("newer", "amd64"): _Source("linux-image-6.12-cloud-amd64"),
        ("newer", "arm64"): _Source("linux-image-6.12-cloud-arm64"),
        ("newer-16k", "arm64"): _Source("linux-image-6.12-arm64-16k"),
        **_TRIXIES_OWN,
    },
    "trixie": {
        ("stable", "amd64"): _Source("linux-image-cloud-amd64"),
        ("hardware", "amd64"): _Source("linux-image-amd64"),
        ("stable", "arm64"): _Source("linux-image-cloud-arm64"),
        ("newer", "amd64"): _Source("linux-image-cloud-amd64", "trixie-backports"),
        ("newer", "arm64"): _Source("linux-image-cloud-arm64", "trixie-backports"),
        ("newer-16k", "arm64"): _Source("linux-image-arm64-16k", "trixie-backports"),
        **_TRIXIES_OWN,
    },
}
_KEEP_VERSIONS = 2


@dataclass(frozen=True)
class Kernel:
    """A kernel package.

    Args:
        debian: the release's code name.
        role: of the kernel there.
        package: the image's package.
        version: of the package.
        arch: that it is for.
    """

    debian: str
    role: Role
    package: str
    version: str
    arch: Arch = NATIVE

    @property
    def name(self) -> str:
        """What ``uname -r`` says in it."""
        return self.package.removeprefix("linux-image-")

    @property
    def series(self) -> tuple[int, int]:
        """The first two numbers of its version, such as (6, 12)."""
        major, minor = re.findall(r"\d+", self.name)[:2]
        return int(major), int(minor)

    @property
    def root(self) -> Path:
        """Where its files are unpacked, once ``kernel`` has returned it."""
        return self._place("kernels")

    @property
    def vmlinuz(self) -> Path:
        """The bootable image."""
        return self._file("vmlinux" if self.arch in ("ppc64el", "riscv64") else "vmlinuz")

    @property
    def config(self) -> frozenset[str]:
        """What it was built with: ``CONFIG_MEMORY_FAILURE=y``."""
        lines = self._file("config").read_text().splitlines()
        return frozenset(line for line in lines if line.startswith("CONFIG_"))

    @property
    def modules(self) -> Path:
        """The directory of its modules."""
        return self._file("kernel")

    @property
    def debug(self) -> Path:
        """Where ``debug_vmlinux`` unpacks its symbols."""
        return self._place("debug")

    def _place(self, kind: str) -> Path:
        series = f"{self.debian}-{self.role}"
        return cache_root() / kind / series / f"{self.package}_{self.version}"

    def _file(self, name: str) -> Path:
        """Find a file or directory: 7.x has all of it in /usr/lib/modules."""
        modules = ("usr/lib/modules", "lib/modules")
        places = [self.root / f"boot/{name}-{self.name}"]
        places += [self.root / directory / self.name / name for directory in modules]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise LabError(f"{self.root}: no {name} there")
        return found


def kernel(role: Role, arch: Arch = NATIVE) -> Kernel:
    """Return the newest kernel of a role, downloaded and unpacked.

    Raises:
        LabError: if apt does not offer it and the cache has none.
    """
    with locked("kernels"):
        found = _newest(role, arch)
        if not found.root.exists():
            try:
                _unpack(found)
            except LabError as error:
                # an archive's list may name a version that has left its pool
                found = _newest(role, arch, below=found)
                LOG.warning("%s; taking %s", error, found.name)
                if not found.root.exists():
                    _unpack(found)
            _keep_newest(found.root.parent, arch)
        return found


def debug_vmlinux(role: Role, arch: Arch = NATIVE) -> Path:
    """Return the vmlinux with debug symbols that belongs to ``kernel(role, arch)``.

    The first call downloads some 300 MB, of which the 400-600 MB vmlinux is kept.

    Raises:
        LabError: if apt does not offer the kernel's debug package.
    """
    found = kernel(role, arch)
    vmlinux = found.debug / f"vmlinux-{found.name}"
    with locked("kernels"):
        if not vmlinux.exists():
            with building(found.debug) as root:
                deb = _download(f"{found.package}-dbg", found, root)
                _unpack_vmlinux(deb, root / vmlinux.name)
                (root / vmlinux.name).chmod(0o644)
            _keep_newest(found.debug.parent, arch)
    return vmlinux


def _unpack(found: Kernel) -> None:
    with building(found.root) as root:
        for package in _parts(found):
            unpack(_download(package, found, root), root)


def _newest(role: Role, arch: Arch, *, below: Kernel | None = None) -> Kernel:
    debian = _debian_release()
    source = _source(debian, role, arch)
    try:
        if below is not None:
            return _before(below, source.suite)
        return _offered(debian, source, role, arch)
    except LabError as error:
        cached = _by_age(cache_root() / "kernels" / f"{debian}-{role}", arch)
        if not cached:
            raise
        package, _, version = cached[0].name.partition("_")
        LOG.warning("%s; taking %s from the cache", error, cached[0].name)
        return Kernel(debian, role, package, version, arch)


def _debian_release() -> str:
    """Return the code name of the release of Debian that this machine runs."""
    told = platform.freedesktop_os_release()
    name = told.get("VERSION_CODENAME", "")
    if told["ID"] != "debian" or name not in _SOURCES:
        raise LabError(
            f"the lab knows the kernels of Debian's {' and '.join(_SOURCES)}, but this is"
            f" {told['PRETTY_NAME']}"
        )
    return name


def _source(debian: str, role: Role, arch: Arch) -> _Source:
    source = _SOURCES[debian].get((role, arch))
    if source is None:
        raise LabError(f"Debian's {debian} has no kernel {role} for {arch}")
    return source


def _offered(debian: str, source: _Source, role: Role, arch: Arch) -> Kernel:
    depends = show("depends", source.metapackage, arch, suite=source.suite)
    image = re.search(r"Depends: (linux-image-[0-9]\S+)", depends)
    if image is None:
        raise LabError(f"{source.metapackage}: depends on no image here, but: {depends.split()}")
    return Kernel(debian, role, image[1], _version(image[1], arch, source.suite), arch)


def _before(found: Kernel, suite: str | None) -> Kernel:
    """Return the kernel of the same flavour that apt lists just before this one."""
    flavour = re.sub(r"^linux-image-[0-9.]+(?:-[0-9]+|\+deb[0-9]+)?", "", found.package)
    pattern = rf"^linux-image-[0-9][^ ]*{re.escape(flavour)}$"
    listed = show("search", pattern, found.arch, "--names-only", suite=suite)
    names = re.findall(r"^(linux-image-[0-9]\S+) - ", listed, re.MULTILINE)
    names = [
        name for name in sorted(names, key=_numbers) if _numbers(name) < _numbers(found.package)
    ]
    if not names:
        raise LabError(f"{found.package}: no earlier one is listed")
    version = _version(names[-1], found.arch, suite)
    return Kernel(found.debian, found.role, names[-1], version, found.arch)


def _numbers(package: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", package)]


def _version(package: str, arch: Arch, suite: str | None) -> str:
    shown = show("show", package, arch, "--no-all-versions", suite=suite)
    version = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
    if version is None:
        raise LabError(f"apt-cache show {package}: no version; try apt-get update")
    return version[1]


def _parts(found: Kernel) -> list[str]:
    """Return the packages that hold a kernel: from 7.x on the image's is empty but for these."""
    suite = _source(found.debian, found.role, found.arch).suite
    depends = show("depends", found.package, found.arch, suite=suite)
    pattern = rf"Depends: (linux-(?:base|binary|modules)-{re.escape(found.name)})$"
    return [found.package, *re.findall(pattern, depends, re.MULTILINE)]


def _download(package: str, found: Kernel, root: Path) -> Path:
    suite = _source(found.debian, found.role, found.arch).suite
    return download(f"{package}={found.version}", found.arch, root, suite=suite)


def _unpack_vmlinux(deb: Path, vmlinux: Path) -> None:
    """Take the one vmlinux out of a debug package; the package is removed."""
    unpack: list[str | Path] = [program("dpkg-deb"), "--fsys-tarfile", deb]
    with tempfile.TemporaryDirectory(dir=deb.parent) as scratch:
        pick: list[str | Path] = [program("tar"), "-x", "-C", scratch, "--wildcards", "*/vmlinux*"]
        with subprocess.Popen(unpack, stdout=subprocess.PIPE) as packed:
            picked = subprocess.run(pick, stdin=packed.stdout, check=False)
        if packed.returncode or picked.returncode:
            raise LabError(f"{deb.name}: dpkg-deb and tar could not unpack it")
        for file in Path(scratch).rglob("vmlinux*"):
            if file.is_file() and not file.is_symlink():
                file.rename(vmlinux)
    deb.unlink()


def _by_age(directory: Path, arch: Arch) -> list[Path]:
    """Return the finished directories of an architecture in ``directory``, the newest first."""
    name = {"ppc64el": "powerpc64le"}.get(arch, arch)
    finished = [entry for entry in directory.glob(f"linux-image-*-{name}*_*") if entry.is_dir()]
    return sorted(finished, key=lambda entry: entry.stat().st_mtime, reverse=True)


def _keep_newest(directory: Path, arch: Arch) -> None:
    for old in _by_age(directory, arch)[_KEEP_VERSIONS:]:
        shutil.rmtree(old)
        LOG.info("removed %s", old)
