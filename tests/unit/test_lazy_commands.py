"""Commands are imported when they are asked for: start-up is short, and takes what it needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.builders.elf_dumps import pack_dump, save_dump

_SCRIPT = """
import sys
from vmcorefs.cli import main
main(sys.argv[1:], standalone_mode=False)
print("\\n".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], {"vmcorefs.commands", "vmcorefs.capture", "tqdm", "pyfuse3"}),
        (["umount", "--help"], {"vmcorefs.commands.opening", "vmcorefs.capture", "tqdm"}),
        (["inspect", "--help"], {"vmcorefs.save", "vmcorefs.capture", "pyfuse3", "trio", "tqdm"}),
        (
            ["mount", "--help"],
            {"vmcorefs.save", "vmcorefs.capture", "vmcorefs.reports.estimate", "tqdm"},
        ),
        (
            ["save", "--help"],
            {
                "vmcorefs.capture",
                "vmcorefs.reports.estimate",
                "vmcorefs.reports.report",
                "vmcorefs.core.oops",
                "vmcorefs.sources.wrappers.archives",
                "tarfile",
                "pyfuse3",
                "tqdm",
            },
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_does_not_import_what_others_need(words: list[str], absent: set[str]) -> None:
    assert absent & _imported_by(*words) == set()


_OTHER_INPUTS = {
    f"vmcorefs.sources.{name}"
    for name in (
        *("foreign", "kept", "live.guest", "remote", "wrappers.records"),
        *("dumps.diskdump", "dumps.flattened"),
        *(
            f"dumps.placed.{name}"
            for name in (
                *("cloud_hypervisor", "libvirt", "lime", "lkcd", "qemu", "ramdump", "s390"),
                *("sadump", "vmware"),
            )
        ),
    )
}
_OTHER_OUTPUTS = {
    *("vmcorefs.output.ssh", "vmcorefs.output.store"),
    *("vmcorefs.save.formats.elf", "vmcorefs.save.formats.flattened"),
}
_TREE = {"vmcorefs.api", "vmcorefs.tree.build", "vmcorefs.tree.debug", "vmcorefs.core.debuginfo"}
_OTHERS = {"vmcorefs.discovery.given_map", "vmcorefs.core.maps.text", "vmcorefs.reports"}
_LIBRARIES = {
    *("asyncio", "concurrent.futures", "email", "fsspec", "http", "importlib.metadata", "lzma"),
    *("pyfuse3", "shutil", "socket", "subprocess", "tempfile", "tomllib", "tqdm", "trio"),
}


def test_who_saves_a_vmcore_imports_nothing_for_other_inputs_or_outputs(tmp_path: Path) -> None:
    image, out = save_dump(tmp_path, pack_dump()), tmp_path / "saved"
    imported = _imported_by(
        *("save", str(image), "-o", str(out), "--quiet"), *("--threads", "1", "--no-sha256")
    )
    assert out.exists()
    named = _OTHER_INPUTS | _OTHER_OUTPUTS | _TREE | _OTHERS | _LIBRARIES
    assert named & imported == set()
    own = {name for name in named if name.startswith("vmcorefs.")}
    assert own == {name for name in own if find_spec(name)}  # none has another name by now


def _imported_by(*words: str) -> set[str]:
    command = [sys.executable, "-c", _SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())
