"""The mounted vmcore is the kernel's own, byte for byte, whatever it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.marks import REAL, only
from tests.real.trees import differences, mounted, vmcorefs
from tests.real.truth import in_memory

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL

EXAMPLES = Path(__file__).parents[2] / "examples"


def _elfcorehdr(capture: Capture, where: Path) -> Path:
    """Cut the elfcorehdr out of the image, as ``dd`` would, with some bytes too many."""
    cmdline = capture.text("serial").rpartition("LAB-CAPTURE")[2].partition("\n")[0]
    (value,) = (word[11:] for word in cmdline.split() if word.startswith("elfcorehdr="))
    paddr = int(value[:-1]) << 10 if value.endswith("K") else int(value, 0)
    path = where / "elfcorehdr"
    path.write_bytes(in_memory(capture, paddr, 4096))
    return path


def test_equals_the_kernels_own(capture: Capture, tree: Path) -> None:
    assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@only("kexec")
@pytest.mark.parametrize("kind", ["iomem", "e820", "dmesg", "firmware-memmap", "elfcorehdr"])
@pytest.mark.parametrize("has_backup", [True, False], ids=["given", "in-image"])
def test_whatever_the_map_and_the_backup(
    capture: Capture, tmp_path: Path, kind: str, *, has_backup: bool
) -> None:
    directory = capture.directory
    made = _elfcorehdr(capture, tmp_path) if kind == "elfcorehdr" else directory / kind
    backup = ["--backup", str(directory / "lowmem")] if has_backup else []
    with mounted(tmp_path, "--map", made, *backup, capture.ram) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@only("file")
def test_pieces_on_the_command_line(capture: Capture, tmp_path: Path) -> None:
    pieces = [f"{capture.ram}@4G:2G", f"{capture.ram}@0+2G"]
    with mounted(tmp_path, "--map", capture.directory / "iomem", *pieces) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@pytest.mark.parametrize(
    ("capture", "example"),
    [("kexec", "kexec.toml"), ("file", "pci-hole.toml")],
    indirect=["capture"],
)
def test_examples_describe_real_captures(capture: Capture, tmp_path: Path, example: str) -> None:
    described = tmp_path / "capture.toml"
    described.write_bytes((EXAMPLES / example).read_bytes())
    for name in ("ram", "lowmem", "iomem"):
        (tmp_path / name).symlink_to(capture.directory / name)
    with mounted(tmp_path, described) as tree:
        assert differences(tree / "vmcore", capture.vmcore) == (0, None)


@only("kexec", "file")
def test_extract_writes_it_sparse(capture: Capture, scratch: Path) -> None:
    out = scratch / "vmcore"
    vmcorefs("extract", "vmcore", capture.config, "-o", out)
    assert differences(out, capture.vmcore) == (0, None)
    allocated = [path.stat().st_blocks * 512 for path in (out, capture.vmcore)]
    assert allocated[0] < 0.75 * out.stat().st_size
    # the lab's own copy has no zero pages either
    assert allocated[0] <= allocated[1] + (32 << 20)
