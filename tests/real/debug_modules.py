"""Modules of Debian's debug packages, as the lab has the vmlinux of the same package."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.backports import suite_of
from tests.lab.host import LabError, building, cache_root, locked, program
from tests.lab.kernels import Role, kernel
from tests.lab.packages import download

_WANTED: Final = ("*/virtio*.ko", "*/drop_monitor.ko")  # what the tests' machines load


def debug_modules(role: Role) -> Path:
    """Return a directory with modules that belong to ``kernel(role)``, with debug symbols.

    The first call downloads some 300 MB, of which a few megabytes are kept.

    Raises:
        LabError: if apt does not offer the kernel's debug package.
    """
    found = kernel(role)
    directory = cache_root() / "debug-files-of-modules" / f"{found.package}_{found.version}"
    with locked("kernels"):
        if not directory.exists():
            with building(directory) as root:
                package = f"{found.package}-dbg={found.version}"
                deb = download(package, found.arch, root, suite=suite_of(found))
                _unpack(deb, root)
                deb.unlink()
    return directory


def _unpack(deb: Path, root: Path) -> None:
    listed: list[str | Path] = [program("dpkg-deb"), "--fsys-tarfile", deb]
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        pick: list[str | Path] = [program("tar"), "-x", "-C", scratch, "--wildcards", *_WANTED]
        with subprocess.Popen(listed, stdout=subprocess.PIPE) as packed:
            picked = subprocess.run(pick, stdin=packed.stdout, check=False)
        if packed.returncode or picked.returncode:
            raise LabError(f"{deb.name}: dpkg-deb and tar could not unpack it")
        for file in Path(scratch).rglob("*.ko"):
            if file.is_file() and not file.is_symlink():
                file.rename(root / file.name)
