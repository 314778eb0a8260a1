"""``--vmlinux``: only the crashed kernel's own is taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.builders.dead_machines import dead_machine, vmcoreinfo_text
from tests.builders.vmlinuxes import BUILD_ID, kernel_notes, pack_vmlinux
from vmcorefs.config import CaptureConfig
from vmcorefs.errors import ConfigError, FormatError
from vmcorefs.image import open_image
from vmcorefs.piece import Piece

OTHER = "ab" * 20
NO_ID = b"\n".join(
    line for line in vmcoreinfo_text().splitlines() if not line.startswith(b"BUILD-ID")
)
NAMELESS = kernel_notes(BUILD_ID).replace(b"GNU\0", b"GNX\0")


def warnings_with(tmp_path: Path, vmlinux: bytes, text: bytes | None = None) -> list[str]:
    """What is said of the vmlinux when a dead machine is opened with it."""
    saved = dead_machine(text=text).save(tmp_path)
    path = tmp_path / "given"
    path.write_bytes(vmlinux)
    config = CaptureConfig(
        (Piece(str(saved.ram)),),
        memory_map=str(saved.iomem),
        backup=Piece(str(saved.lowmem)),
        vmlinux=str(path),
    )
    image = open_image(config)
    image.close()
    return [line for line in image.warnings if str(path) in line]


def test_the_vmlinux_of_the_same_build_is_taken(tmp_path: Path) -> None:
    assert warnings_with(tmp_path, pack_vmlinux(kernel_notes(BUILD_ID))) == []


@pytest.mark.parametrize(
    ("vmlinux", "said"),
    [
        pytest.param(b"# System.map, or a letter\n" * 10, "given: not a vmlinux", id="text"),
        pytest.param(b"", "given: not a vmlinux", id="empty"),
        pytest.param(b"MZ".ljust(4096, b"\0"), "compressed kernel to boot", id="EFI"),
        pytest.param(bytes(514) + b"HdrS" + bytes(600), "compressed kernel to boot", id="vmlinuz"),
        pytest.param(pack_vmlinux(NAMELESS, e_type=1), "given: not a vmlinux", id="module"),
        pytest.param(
            pack_vmlinux(kernel_notes(BUILD_ID), machine=183),
            "a vmlinux of aarch64 (little endian), but memory is of x86_64",
            id="another machine",
        ),
        pytest.param(
            pack_vmlinux(kernel_notes(BUILD_ID, ">"), order=">"),
            "x86_64 (big endian)",
            id="another byte order",
        ),
    ],
)
def test_what_cannot_be_the_kernel_is_refused(tmp_path: Path, vmlinux: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=re.escape(said)):
        warnings_with(tmp_path, vmlinux)


def test_another_build_is_refused_with_both_build_ids(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        warnings_with(tmp_path, pack_vmlinux(kernel_notes(OTHER)))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/given: its build id is {OTHER}")
    assert f"the kernel that crashed has {BUILD_ID}" in said


def test_without_a_build_id_in_memory_the_banner_is_compared(tmp_path: Path) -> None:
    other = pack_vmlinux(kernel_notes(OTHER), b"Linux version 6.1.0-tesla (me) #2 SMP\n")
    with pytest.raises(FormatError, match=r"'Linux version 6\.1\.0-tesla \(me\) #2 SMP'"):
        warnings_with(tmp_path, other, NO_ID)
    same = pack_vmlinux(kernel_notes(OTHER), b"Linux version 6.1.0-test (me) #2 SMP\n")
    (said,) = warnings_with(tmp_path, same, NO_ID)
    assert "not verified: only the release is known to be the same" in said


@pytest.mark.parametrize("text", [NO_ID, NO_ID + b"\nBUILD-ID=" + b"0" * 40])
def test_what_cannot_be_compared_is_said_to_be_not_verified(tmp_path: Path, text: bytes) -> None:
    (said,) = warnings_with(tmp_path, pack_vmlinux(kernel_notes(OTHER)), text)
    assert "not verified" in said
    (said,) = warnings_with(tmp_path, pack_vmlinux(NAMELESS))
    assert "not verified" in said


def test_without_vmcoreinfo_nothing_is_verified(tmp_path: Path) -> None:
    vmlinux = pack_vmlinux(kernel_notes(BUILD_ID))
    assert warnings_with(tmp_path, vmlinux, b"") != []


def test_a_vmlinux_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    config = CaptureConfig((Piece(str(tmp_path / "ram")),), vmlinux=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="absent: no such file"):
        open_image(config)
