"""Captures, made once in a while and cached, and their mounts, made once in a run."""

from __future__ import annotations

import faulthandler
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.lab.capture import (
    Capture,
    Recipe,
    Snapshot,
    cached_capture,
    cached_snapshot,
    debug_vmlinux,
)
from tests.real.trees import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPES: Final = {
    # kexec_load: purgatory keeps a backup of low memory; the image is flat
    "kexec": Recipe(memory="1G", cpus=2, load="kexec", kernel="stable"),
    # kexec_file_load: no backup; more than fits below the PCI hole, so two pieces
    "file": Recipe(memory="5G", cpus=4, load="file", kernel="stable"),
    "kexec-newer": Recipe(memory="1G", cpus=2, load="kexec", kernel="newer"),
}

NAMED: Final = {
    # for the tests that name them: KASLR moves nothing; 4 levels of page tables, which is all that
    # volatility3 knows
    "kexec-4-levels": Recipe(memory="1G", cpus=2, load="kexec", kernel="stable", append="no5lvl"),
    "file-nokaslr": Recipe(
        memory="1G", cpus=2, load="file", kernel="stable", append="nokaslr no5lvl"
    ),
    "kexec-newer-nokaslr": Recipe(
        memory="1G", cpus=2, load="kexec", kernel="newer", append="nokaslr no5lvl"
    ),
}

STOPPED: Final = {
    # running machines, stopped from outside: no crash kernel was loaded, and there is no vmcore
    "none": Recipe(memory="1G", cpus=2, load="none", kernel="stable"),
    "none-5g": Recipe(memory="5G", cpus=4, load="none", kernel="stable"),
    "none-newer": Recipe(memory="1G", cpus=2, load="none", kernel="newer"),
    "arm64": Recipe(arch="arm64", load="none", kernel="stable"),
    # radix page tables with pages of 4 KiB
    "ppc64le": Recipe(arch="ppc64el", load="none", kernel="newer", memory="512M", dumps=True),
    "riscv64": Recipe(arch="riscv64", load="none", kernel="newer", memory="512M", dumps=True),
    "s390x": Recipe(arch="s390x", load="none", kernel="newer", memory="512M", dumps=True),
    # LPA2: 52-bit addresses with pages smaller than 64 KiB
    "arm64-52-bit": Recipe(arch="arm64", load="none", kernel="newer"),
    "arm64-52-as-48-bit": Recipe(arch="arm64", load="none", kernel="newer", append="arm64.nolva"),
    "arm64-16k": Recipe(arch="arm64", load="none", kernel="newer-16k"),
    "arm64-16k-as-47-bit": Recipe(
        arch="arm64", load="none", kernel="newer-16k", append="arm64.nolva"
    ),
}


@pytest.fixture(scope="session", params=RECIPES)
def capture(request: pytest.FixtureRequest) -> Capture:
    """Each capture in turn; the cache has it, or it takes some minutes."""
    faulthandler.cancel_dump_traceback_later()  # those minutes are no hang
    return cached_capture((RECIPES | NAMED)[request.param])


@pytest.fixture(scope="session", params=STOPPED)
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """Each machine that was stopped while it ran, in turn."""
    faulthandler.cancel_dump_traceback_later()
    return cached_snapshot(STOPPED[request.param])


@pytest.fixture(scope="session")
def tree(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mount of a capture as its ``capture.toml`` describes it."""
    with mounted(tmp_path_factory.mktemp("mount"), capture.config) as path:
        yield path


@pytest.fixture(scope="session")
def vmlinux(capture: Capture) -> Path:
    """The capture's kernel with debug symbols."""
    faulthandler.cancel_dump_traceback_later()  # it may have to be downloaded
    return debug_vmlinux(capture.recipe.kernel)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory for gigabytes: pytest would keep those of the last three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)
