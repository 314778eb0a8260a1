"""Finding an installed vmlinux, and checking one that is given: the build id decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.builders.vmlinuxes import kernel_notes, pack_vmlinux
from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.kernel.debug import installed as debuginfo

BUILD_ID = "3b43fad5034874490492495d552c0af6a5fab235"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for ``/``."""
    places = tuple(f"{tmp_path}{place}" for place in debuginfo._PLACES)
    monkeypatch.setattr(debuginfo, "_PLACES", places)
    return tmp_path


def install(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def installed(root: Path) -> Path:
    return install(root / "usr/lib/debug/boot/vmlinux-6.1.0", pack_vmlinux(kernel_notes(BUILD_ID)))


def find(release: str | None, build_id: str) -> str | None:
    text = f"OSRELEASE={release}\n" if release is not None else ""
    return debuginfo.find_vmlinux(parse_vmcoreinfo(f"{text}BUILD-ID={build_id}\n".encode()))


def test_a_vmlinux_of_the_same_build_is_found(installed: Path) -> None:
    assert find("6.1.0", BUILD_ID) == str(installed)


@pytest.mark.parametrize(
    ("release", "build_id"),
    [
        ("6.1.0", "00" * 20),
        ("6.1.0", ""),
        ("6.1.1", BUILD_ID),
        ("x/../vmlinux-6.1.0", BUILD_ID),
        ("6\0", BUILD_ID),
    ],
)
@pytest.mark.usefixtures("installed")
def test_another_build_or_release_is_not_taken(release: str, build_id: str) -> None:
    assert find(release, build_id) is None


def test_a_file_that_is_no_elf_is_passed_over(installed: Path) -> None:
    installed.write_bytes(b"\x7fELF and no more")
    assert find("6.1.0", BUILD_ID) is None


@pytest.mark.parametrize(
    "place",
    [
        "usr/lib/debug/boot/vmlinux-6.1.0",
        "usr/lib/debug/lib/modules/6.1.0/vmlinux",
        "usr/lib/debug/usr/lib/modules/6.1.0/vmlinux",
        f"usr/lib/debug/.build-id/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug",
        "lib/modules/6.1.0/build/vmlinux",
    ],
)
def test_each_place_of_a_distribution_is_looked_at(root: Path, place: str) -> None:
    path = install(root / place, pack_vmlinux(kernel_notes(BUILD_ID)))
    assert find("6.1.0", BUILD_ID) == str(path)


def test_a_build_id_alone_leads_to_its_debug_file(root: Path) -> None:
    name = f"usr/lib/debug/.build-id/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug"
    path = install(root / name, pack_vmlinux(kernel_notes(BUILD_ID)))
    assert find(None, BUILD_ID) == str(path)
    assert find("../6.1.0", BUILD_ID) == str(path)
    assert find(None, f"{BUILD_ID[:2]}/../{BUILD_ID[:2]}/{BUILD_ID[2:]}") is None


def test_an_older_build_in_the_first_place_does_not_hide_the_right_one(
    installed: Path, root: Path
) -> None:
    installed.write_bytes(pack_vmlinux(kernel_notes("ab" * 20)))
    right = install(
        root / "usr/lib/debug/lib/modules/6.1.0/vmlinux", pack_vmlinux(kernel_notes(BUILD_ID))
    )
    assert find("6.1.0", BUILD_ID) == str(right)


@pytest.mark.parametrize("sections", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_the_build_id_is_gnus_and_not_another_owners_note_of_the_same_type(
    tmp_path: Path, bits: int, order: str, sections: bool
) -> None:
    data = pack_vmlinux(kernel_notes(BUILD_ID, order), bits=bits, order=order, sections=sections)
    assert debuginfo.read_build_id(str(install(tmp_path / "vmlinux", data))) == BUILD_ID


def test_a_file_without_gnus_note_has_no_build_id(tmp_path: Path) -> None:
    notes = kernel_notes(BUILD_ID).replace(b"GNU\0", b"GNX\0")
    path = install(tmp_path / "vmlinux", pack_vmlinux(notes))
    assert debuginfo.read_build_id(str(path)) is None


def test_the_vmlinux_that_we_make_has_the_kernels_build_id(tmp_path: Path) -> None:
    symbols = SymbolTable(np.array([0xFFFFFFFF81000000], dtype=np.uint64), "T", ("_text",), 8)
    contents = Contents(build_id=bytes.fromhex(BUILD_ID))
    made = make_vmlinux(symbols, contents, machine=EM_X86_64, byte_order="<")
    assert debuginfo.read_build_id(str(install(tmp_path / "vmlinux", made))) == BUILD_ID


@pytest.mark.parametrize("size", [0, 16, 63, 64, 100, 130])
def test_a_vmlinux_that_is_cut_off_has_no_build_id(tmp_path: Path, size: int) -> None:
    whole = pack_vmlinux(kernel_notes(BUILD_ID))
    path = install(tmp_path / "vmlinux", whole[:size])
    assert debuginfo.read_build_id(str(path)) is None


@pytest.mark.parametrize(
    "place",
    [
        "usr/lib/debug/lib/modules/6.1.0/vmlinux-gdb.py",
        "usr/share/gdb/auto-load/boot/vmlinux-6.1.0/vmlinuz-6.1.0-gdb.py",
        "lib/modules/6.1.0/build/vmlinux-gdb.py",
    ],
)
def test_the_kernels_commands_for_gdb_are_found(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tuple(f"{tmp_path}{one}" for one in debuginfo._SCRIPTS)
    monkeypatch.setattr(debuginfo, "_SCRIPTS", places)
    installed = install(tmp_path / place, b"")
    install(tmp_path / "lib/modules/../build/vmlinux-gdb.py", b"")

    def find_scripts(release: str) -> str | None:
        return debuginfo.find_gdb_scripts(parse_vmcoreinfo(f"OSRELEASE={release}\n".encode()))

    assert find_scripts("6.1.0") == str(installed)
    assert [find_scripts(release) for release in ("6.1.1", "..", ".", "", "x/../6.1.0")] == [
        None
    ] * 5
