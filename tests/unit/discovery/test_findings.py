"""How sure it is of what it found, and what it says for and against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.kernels import GIB, LOW, MIB, DeadKernel, make_kernel, split
from vmcorefs.config import CaptureConfig
from vmcorefs.core.findings import Finding, Sureness
from vmcorefs.image import open_image
from vmcorefs.piece import Piece

IOMEM = "00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n"


def look(path: Path, **options: str | int | bool | None) -> dict[str, Finding]:
    config = CaptureConfig((Piece(str(path)),), **options)  # type: ignore[arg-type]
    image = open_image(config, thorough=True)
    image.close()
    return {finding.what: finding for finding in image.findings}


def saved(kernel: DeadKernel, tmp_path: Path) -> Path:
    return kernel.save(tmp_path / "ram")


def test_all_of_a_sound_capture_is_sure(tmp_path: Path) -> None:
    found = look(saved(make_kernel(), tmp_path))
    sure = {what for what, finding in found.items() if finding.sure is Sureness.SURE}
    assert sure == {
        "placement", "memory map", "VMCOREINFO", "KASLR offset", "direct map", "crash notes",
        "kallsyms",
    }  # fmt: skip
    assert all(len(found[what].reasons) > 1 for what in sure)
    assert found["KASLR offset"].value == "0x9000000"
    assert found["direct map"].value == "0xffff9c8000000000"
    assert found["crash notes"].value == "2 of 3 CPUs saved their registers"
    assert not any(finding.against for finding in found.values())


def test_what_is_given_is_compared_with_what_the_kernel_says(tmp_path: Path) -> None:
    ram = saved(make_kernel(), tmp_path)
    iomem = tmp_path / "iomem"
    iomem.write_text(IOMEM)
    found = look(ram, memory_map=str(iomem))["memory map"]
    assert found.sure is Sureness.GIVEN
    assert found.reasons == ("the kernel's own iomem_resource has the same RAM",)
    iomem.write_text("00001000-0009fbff : System RAM\n00200000-03efffff : System RAM\n")
    found = look(ram, memory_map=str(iomem))["memory map"]
    assert (found.reasons, found.sure) == ((), Sureness.GIVEN)
    (difference,) = found.against
    assert "[0x100000, 0x200000), [0x3f00000, 0x4000000)" in difference
    assert "2 MiB" in difference


def test_a_map_that_claims_more_than_the_kernel_has(tmp_path: Path) -> None:
    ram = saved(make_kernel(ram=[LOW, (MIB, 60 * MIB)]), tmp_path)
    with ram.open("rb+") as file:
        file.truncate(64 * MIB)
    iomem = tmp_path / "iomem"
    iomem.write_text(IOMEM)
    (difference,) = look(ram, memory_map=str(iomem))["memory map"].against
    assert difference == ("the kernel's own iomem_resource lacks 4 MiB: [0x3c00000, 0x4000000)")


def test_a_coarse_map_is_likely_and_the_reasons_are_told(tmp_path: Path) -> None:
    kernel = make_kernel(lacks=["iomem_resource", "PCI mem"])
    found = look(saved(kernel, tmp_path))["memory map"]
    assert found.sure is Sureness.LIKELY
    assert found.reasons == ("read from the kernel's e820_table",)
    assert found.against == ("no iomem_resource in the kernel's image",)


def test_a_placement_that_lacks_ram_is_likely(tmp_path: Path) -> None:
    ram = saved(make_kernel(), tmp_path)
    with ram.open("rb+") as file:
        file.truncate(60 * MIB)
    found = look(ram, truncated=True)
    assert found["placement"].sure is Sureness.LIKELY
    assert found["memory map"].sure is Sureness.LIKELY


def test_a_split_is_named(tmp_path: Path) -> None:
    kernel = make_kernel(ram=[LOW, (MIB, 2 * GIB), (4 * GIB, 5 * GIB)])
    ram = kernel.save(tmp_path / "ram", split(2 * GIB, 5 * GIB))
    assert look(ram)["placement"].value == (
        "2 GiB below the PCI hole, directly followed by memory above 4 GiB"
    )


def test_an_image_from_before_a_crash_has_no_registers(tmp_path: Path) -> None:
    found = look(saved(make_kernel(crashed=False), tmp_path))
    assert found["crash notes"].value == "0 of 3 CPUs saved their registers"
    assert found["VMCOREINFO"].against == ("no CRASHTIME: it had not crashed yet",)


@pytest.mark.parametrize("value", ["", "zz", "f" * 40])
def test_a_kaslr_offset_as_it_is_told(tmp_path: Path, value: str) -> None:
    kernel = make_kernel(told={"KERNELOFFSET": value})
    finding = look(saved(kernel, tmp_path))["KASLR offset"]
    if not value:
        assert finding.sure is Sureness.NONE
