"""The tree's modules in the place of the debug package's: tools must not see the difference."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.capture import Capture, Snapshot
from tests.real import tools
from tests.real.debug_modules import debug_modules
from tests.real.marks import REAL, only, stopped
from tests.real.trees import mounted

pytestmark = REAL

MODULE = "virtio_blk"  # in every capture
# its own; and of the kernel's, one that it holds and one that it only points to
STRUCTS = ("virtio_blk", "virtblk_req", "blk_mq_tag_set", "gendisk")
FUNCTIONS = ("virtblk_probe", "virtblk_done", "virtblk_remove")

_CRASH = (
    *(f"struct {name}" for name in STRUCTS),
    *(f"struct {name} -o" for name in STRUCTS),
    *(f"sym {name}" for name in FUNCTIONS),
    *(f"dis {name} 20" for name in FUNCTIONS),
    "whatis virtblk_probe",
    "sym -m virtio_blk",
)
# which file it is, and what crash's gdb says of per-CPU variables
_APART = re.compile(r".*\.ko.*|warning: Loadable section .*|")
_LINE = re.compile(r"(?<= )debian/build/\S+: \d+ *$")


@pytest.fixture(scope="module")
def theirs(capture: Capture) -> Path:
    """The debug package's modules."""
    return debug_modules(capture.recipe.kernel)


@only("kexec", "file-nokaslr")
def test_crash_answers_as_with_the_debug_packages_module(
    capture: Capture, tree: Path, theirs: Path
) -> None:
    """But for lines of source, and for what is global though no other module may use it."""
    ours, other = (
        [
            _LINE.sub("", line).replace("(T)", "(t)").replace("(R)", "(r)").replace("(D)", "(d)")
            for line in tools.crash(
                tree / "vmlinux", capture.vmcore, f"mod -s {MODULE} {file}", *_CRASH
            ).splitlines()
            if not _APART.fullmatch(line)
        ]
        for file in (tree / f"modules/{MODULE}.ko.debug", theirs / f"{MODULE}.ko")
    )

    assert ours == other
    assert "struct virtio_blk {" in ours
    assert any("<virtblk_probe+" in line for line in ours)


@only("kexec", "file")
def test_crash_finds_the_files_of_all_modules(capture: Capture, tree: Path) -> None:
    said = tools.crash(tree / "vmlinux", capture.vmcore, f"mod -S {tree / 'modules'}", "mod")

    _, _, listed = said.partition("OBJECT FILE")
    rows = re.findall(r"^[0-9a-f]{16}  (\S+) +[0-9a-f]{16} +\d+  (.*?) *$", listed, re.MULTILINE)
    names = {path.name.removesuffix(".ko.debug") for path in (tree / "modules").iterdir()}
    assert {name for name, _ in rows} == names >= {"virtio_blk"}
    assert all(file == str(tree / f"modules/{name}.ko.debug") for name, file in rows)


def test_every_structure_of_a_module_is_laid_out_as_in_the_debug_package(
    capture: Capture, tree: Path, theirs: Path
) -> None:
    found = _ask_drgn(capture, tree, theirs)

    assert found["file"] == str(tree / f"modules/{MODULE}.ko.debug")  # by its build id
    assert found["different"] == []
    assert {"struct virtio_blk", "struct virtblk_req"} <= set(found["equal"])
    assert [name for name, (own, other) in found["functions"].items() if own != other] == []
    assert {"virtblk_remove", "virtblk_done"} <= set(found["functions"])
    assert found["symbols"][0] == found["symbols"][1]


def _ask_drgn(capture: Capture, tree: Path, theirs: Path) -> dict[str, Any]:
    python = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable]
    other = theirs / f"{MODULE}.ko"
    words: list[str | Path] = [
        *python,
        "-m",
        "tests.real.drgn_modules",
        capture.vmcore,
        tree,
        other,
    ]
    found: dict[str, Any] = json.loads(tools.run(words, capture.vmcore))
    return found


@only("kexec")
def test_volatility3_knows_the_structures_of_a_module(
    capture: Capture, tree: Path, theirs: Path
) -> None:
    (file,) = (tree / "volatility3/linux").iterdir()
    types = json.loads(file.read_text())["user_types"]
    structs = {
        name.removeprefix("struct "): layout
        for name, layout in _ask_drgn(capture, tree, theirs)["members"].items()
        if name.startswith("struct ")
    }

    assert {"virtio_blk", "virtblk_req", "virtio_blk_config"} <= structs.keys()
    for name, (size, offsets) in structs.items():
        fields = types[name]["fields"]
        assert types[name]["size"] == size
        assert {member: fields[member]["offset"] for member in offsets} == offsets, name


def test_gdb_knows_a_modules_types_and_functions(tree: Path) -> None:
    said = tools.gdb_script(
        tree / "gdbinit",
        "ptype struct virtio_blk",
        "info symbol virtblk_probe",
        "info symbol &virtblk_wq",
        "ptype virtblk_probe",
        "ptype struct gendisk",
        "x/i virtblk_probe",
        "bt 3",
    )

    file = re.escape(str(tree / f"modules/{MODULE}.ko.debug"))
    assert "struct blk_mq_tag_set tag_set;" in said
    assert re.search(rf"^virtblk_probe in section \.text of {file}$", said, re.MULTILINE)
    assert re.search(rf"^virtblk_wq in section \.bss of {file}$", said, re.MULTILINE)
    assert "type = int (struct virtio_device *)" in said
    assert "struct block_device *part0;" in said  # of the kernel's own
    assert re.search(r"0x[0-9a-f]+ <virtblk_probe>:\s+\w", said)
    assert re.search(r"in panic \(fmt=", said)


@stopped("arm64-52-bit")
def test_drgn_finds_a_module_of_another_architecture(snapshot: Snapshot, tmp_path: Path) -> None:
    script = Path(__file__).with_name("drgn_module.py")
    with mounted(tmp_path, snapshot.config) as tree:
        said = tools.run([sys.executable, script, tree, MODULE, "virtblk_probe"], tree)
        kallsyms = (tree / "kallsyms").read_text()

    (address,) = re.findall(r"^([0-9a-f]{16}) t virtblk_probe\t", kallsyms, re.MULTILINE)
    assert said.splitlines() == [
        f"{tools.NAMED}/modules/{MODULE}.ko.debug",
        f"int (struct virtio_device *vdev) 0x{address}",
    ]
