"""Stock volatility3 with the tree's symbol file: as with one that is made of the debug package."""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.lab.capture import Capture, Recipe, cached_capture, debug_vmlinux
from tests.lab.kernels import kernel
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import mounted, vmcorefs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = REAL

# volatility3 knows no page tables of 5 levels
MACHINES: Final = {
    "stable": Recipe(memory="1G", cpus=2, load="kexec", kernel="stable", append="no5lvl"),
    "newer": Recipe(memory="1G", cpus=2, load="kexec", kernel="newer", append="no5lvl"),
}

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


@pytest.fixture(scope="module", params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Capture:
    faulthandler.cancel_dump_traceback_later()  # it may have to be made
    return cached_capture(MACHINES[request.param])


@pytest.fixture(scope="module")
def universal(machine: Capture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("universal")
    with mounted(where, "--layout", "universal", machine.config) as tree:
        yield tree


def _vol(where: Path, tree: Path, dump: Path, plugin: str) -> list[dict[str, Any]]:
    """What the command prints."""
    cache = where / "cache"
    cache.mkdir(exist_ok=True)
    said = tools.run(
        [
            *(sys.executable, "-W", "ignore", "-c"),
            f"{_WITHOUT_VALIDATION}; sys.argv[0] = 'vol'; from volatility3.cli import main; main()",
            *("-q", "-r", "json", "--offline", "--cache-path", cache),
            *("-s", tree / "volatility3", "-f", dump, plugin),
        ],
        dump,
    )
    rows: list[dict[str, Any]] = json.loads(said[said.index("[") :])
    return rows


@pytest.mark.parametrize("dump", ["vmcore", "oldmem"])
def test_the_command_lists_the_tasks(
    machine: Capture, universal: Path, tmp_path: Path, dump: str
) -> None:
    listed = {
        (str(row["PID"]), row["COMM"])
        for row in _vol(tmp_path, universal, universal / dump, "linux.pslist")
    }
    tasks = [line.split(" ", 1) for line in machine.text("tasks").splitlines()]
    # /proc has longer names than task_struct for kernel threads, and adds what a worker does
    known = {(pid, comm[:15]) for pid, comm in tasks if not comm.startswith("kworker")}

    assert len(known & listed) > 0.9 * len(known)  # the list was made by some that are gone
    assert {("1", "init"), ("2", "kthreadd")} <= listed


def test_every_plugin_says_what_it_says_with_the_debug_package(
    machine: Capture, universal: Path, tmp_path: Path
) -> None:
    dump, theirs = universal / "vmcore", tmp_path / "theirs"
    theirs.mkdir()
    vmlinux = debug_vmlinux(machine.recipe.kernel)
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
    is_known = kernel(machine.recipe.kernel).series < (7, 0)
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
def test_it_cannot_follow_five_levels_of_page_tables(capture: Capture, tmp_path: Path) -> None:
    universal = ("--layout", "universal")
    with mounted(tmp_path, *universal, capture.config) as tree:
        assert _vol(tmp_path, tree, tree / "vmcore", "linux.pslist") == []

    report = json.loads(vmcorefs("check", "--json", *universal, capture.config))
    (said,) = (tool for tool in report["tools"] if tool["tool"] == "volatility3")
    assert said["opens"] == "yes, but"
    assert "and this kernel's have 5" in said["objections"][0]["rule"]
