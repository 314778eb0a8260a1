"""A Debian root file system with vmcorefs in it, on a disk image."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.apart import apart
from tests.boot.store import digest, files_below, kept, tool
from tests.boot.wheels import dependency_wheels, make_product_wheel
from tests.lab.host import run
from tests.lab.kernels import Kernel, kernel

GUEST: Final = Path(__file__).with_name("guest")
_SIZE: Final = "4G"  # sparse; [keep] free is 1G of it
_PACKAGES: Final = (
    # a system with systemd
    *("systemd-sysv", "udev", "kmod", "initramfs-tools", "zstd"),
    # what vmcorefs needs: README.md, docs/capture.md
    *("python3-venv", "fuse3", "kexec-tools"),
    # to compare with
    "makedumpfile",
)
_LEFT_OUT: Final = ("doc", "man", "locale", "i18n", "info")


@dataclass(frozen=True)
class Disk:
    """A disk to boot from; its files belong to all who use the cache.

    Args:
        directory: where the files are.
        kernel: that is installed there.
    """

    directory: Path
    kernel: Kernel

    @property
    def image(self) -> Path:
        """The root file system, ext4 with no partitions."""
        return self.directory / "root.img"

    @property
    def vmlinuz(self) -> Path:
        """Its kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initramfs."""
        return self.directory / "initrd"


def debian(version: Kernel) -> Path:
    """Return a tar archive of a small Debian with a kernel and what vmcorefs needs.

    It is of this machine's release, as the wheels are compiled here. What vmcorefs depends on is in
    it, in /opt/vmcorefs. The first call downloads some 130 MB.
    """
    wheels = dependency_wheels()
    packages = (*_PACKAGES, f"{version.package}={version.version}")
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    words = [
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        '--aptopt=APT::Install-Recommends "false"',
        *options,
        f'--customize-hook={GUEST}/install-dependencies "$1" {wheels}',
        version.debian,
    ]
    key = digest(
        [*(word.encode() for word in words), (GUEST / "install-dependencies").read_bytes()]
    )

    def build(directory: Path) -> None:
        run([*apart(), tool("mmdebstrap"), *words, directory / "root.tar"])

    return kept("debian", key, build) / "root.tar"


def disk() -> Disk:
    """Return a disk with vmcorefs as it is in the tree now."""
    version = kernel("stable")
    archive = debian(version)
    with tempfile.TemporaryDirectory() as scratch:
        wheel, product = make_product_wheel(Path(scratch))
        parts = [archive.parent.name, product, _SIZE]
        key = digest([*(part.encode() for part in parts), *files_below(GUEST)])
        made = kept("disks", key, lambda directory: _build(directory, archive, wheel, version))
    return Disk(made, version)


def _build(directory: Path, archive: Path, wheel: Path, version: Kernel) -> None:
    image = directory / "root.img"
    run(
        [
            *(*apart(), tool("mmdebstrap"), "--quiet", "--variant=custom", "--format=null"),
            # only what the hooks do is wanted
            "--skip=setup,update,essential/unlink,cleanup,output/dev",
            f'--setup-hook=tar --extract --numeric-owner --directory "$1" --file {archive}',
            f'--customize-hook={GUEST}/install "$1" {wheel} {GUEST} {version.name}',
            f'--customize-hook={GUEST}/make-disk "$1" {image} {_SIZE} {version.name}',
            *(version.debian, "-"),
        ]
    )
