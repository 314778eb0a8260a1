"""Stock volatility3 with the tree's symbol file: as with one that is made of the debug package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.lab.capture import Capture, debug_vmlinux
from tests.lab.kernels import kernel
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import mounted, vmcorefs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = REAL

FOUR_LEVELS: Final = only("kexec-4-levels", "kexec-newer-nokaslr")

_HERE: Final = Path(__file__).parent
_WITHOUT_VALIDATION: Final = "import sys; sys.modules['jsonschema'] = None"
"""It is no dependency of volatility3's, and takes a minute to say that a file is valid."""

TELLING: Final = (
    *("boottime.Boottime", "capabilities.Capabilities", "elfs.Elfs", "envars.Envars"),
    *("iomem.IOMem", "ip.Link", "kmsg.Kmsg", "kthreads.Kthreads", "lsmod.Lsmod"),
    *("lsof.Lsof", "malware.check_idt.Check_idt", "malware.check_syscall.Check_syscall"),
    *("malware.modxview.Modxview", "malware.netfilter.Netfilter", "malware.tty_check.Tty_Check"),
    *("malware.process_spoofing.ProcessSpoofing", "mountinfo.MountInfo", "pagecache.Files"),
    *("pidhashtable.PIDHashTable", "proc.Maps", "psaux.PsAux", "pscallstack.PsCallStack"),
    *("pslist.PsList", "pstree.PsTree"),
)
"""Plugins that have something to say of these machines; the others must find nothing alike."""


@pytest.fixture(scope="module")
def universal(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("universal")
    with mounted(where, "--layout", "universal", capture.config) as tree:
        yield tree


def _vol(
    where: Path, tree: Path, dump: Path, plugin: str, *options: str | Path
) -> list[dict[str, Any]]:
    """What the command prints."""
    cache = where / "cache"
    cache.mkdir(exist_ok=True)
    said = tools.run(
        [
            *(sys.executable, "-W", "ignore", "-c"),
            f"{_WITHOUT_VALIDATION}; sys.argv[0] = 'vol'; from volatility3.cli import main; main()",
            *("-q", "-r", "json", "--offline", "--cache-path", cache, *options),
            *("-s", tree / "volatility3", "-f", dump, plugin),
        ],
        dump,
    )
    rows: list[dict[str, Any]] = json.loads(said[said.index("[") :])
    return rows


@FOUR_LEVELS
@pytest.mark.parametrize("dump", ["vmcore", "oldmem"])
def test_the_command_lists_the_tasks(
    capture: Capture, universal: Path, tmp_path: Path, dump: str
) -> None:
    _check_tasks(capture, _vol(tmp_path, universal, universal / dump, "linux.pslist"))


def _check_tasks(capture: Capture, rows: list[dict[str, Any]]) -> None:
    listed = {(str(row["PID"]), row["COMM"]) for row in rows}
    tasks = [line.split(" ", 1) for line in capture.text("tasks").splitlines()]
    # /proc has longer names than task_struct for kernel threads, and adds what a worker does
    known = {(pid, comm[:15]) for pid, comm in tasks if not comm.startswith("kworker")}

    assert len(known & listed) > 0.9 * len(known)  # the list was made by some that are gone
    assert {("1", "init"), ("2", "kthreadd")} <= listed


@FOUR_LEVELS
def test_every_plugin_says_what_it_says_with_the_debug_package(
    capture: Capture, universal: Path, tmp_path: Path
) -> None:
    dump, theirs = universal / "vmcore", tmp_path / "theirs"
    theirs.mkdir()
    vmlinux = debug_vmlinux(capture.recipe.kernel)
    script = _HERE / "isf_reference.py"
    tools.run([sys.executable, script, dump, vmlinux, theirs / "linux.json"], dump)
    found, wanted = (
        _run_plugins(tmp_path, symbols, dump) for symbols in (universal / "volatility3", theirs)
    )

    assert {name: said for name, said in found.items() if said != wanted[name]} == {}
    assert found.keys() == wanted.keys()
    telling = {f"linux.{name}" for name in TELLING}
    failed = {name: said["error"] for name, said in found.items() if said["error"]}
    assert {name for name in telling if not found[name]["rows"]} <= failed.keys()
    # volatility3 2.28 does not know all of 7.x: a module's taints, for one
    is_known = kernel(capture.recipe.kernel).series < (7, 0)
    assert failed.keys() <= {"linux.sockscan.Sockscan"} or not is_known, failed
    assert len(failed) < len(found) // 3


def _run_plugins(where: Path, symbols: Path, dump: Path) -> dict[str, Any]:
    cache = where / f"cache of {symbols.name}"
    cache.mkdir()
    script = _HERE / "volatility_plugins.py"
    start = f"{_WITHOUT_VALIDATION}; import runpy; sys.argv[:] = sys.argv[1:]"
    said = tools.run(
        [
            *(sys.executable, "-W", "ignore", "-c"),
            f"{start}; runpy.run_path(sys.argv[0], run_name='__main__')",
            *(script, symbols, dump, cache),
        ],
        dump,
    )
    rows: dict[str, Any] = json.loads(said.splitlines()[-1])
    return rows


@only("kexec")
def test_it_follows_five_levels_of_page_tables_with_a_layer_that_it_lacks(
    capture: Capture, universal: Path, tmp_path: Path
) -> None:
    dump, layer = universal / "vmcore", ("-p", universal / "volatility3")
    assert _vol(tmp_path, universal, dump, "linux.pslist") == []
    rows = _vol(tmp_path, universal, dump, "linux.psaux", *layer)
    _check_tasks(capture, rows)
    assert [row["ARGS"] for row in rows if row["PID"] == 1] == ["/bin/sh /init"]  # user space's

    report = json.loads(vmcorefs("check", "--json", "--layout", "universal", capture.config))
    (said,) = (tool for tool in report["tools"] if tool["tool"] == "volatility3")
    assert said["opens"] == "yes, but"
    assert "and this kernel's have 5" in said["objections"][0]["rule"]
