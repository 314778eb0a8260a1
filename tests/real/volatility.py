"""What volatility3's plugins say with the tree's symbol file, and with the debug package's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from tests.lab.kernels import Kernel
from tests.real import tools

WITHOUT_VALIDATION: Final = "import sys; sys.modules['jsonschema'] = None"
"""It is no dependency of volatility3's, and takes a minute to say that a file is valid."""

_HERE: Final = Path(__file__).parent
_TELLING: Final = (
    *("boottime.Boottime", "capabilities.Capabilities", "elfs.Elfs", "envars.Envars"),
    *("iomem.IOMem", "ip.Link", "kmsg.Kmsg", "kthreads.Kthreads", "lsmod.Lsmod"),
    *("lsof.Lsof", "malware.check_idt.Check_idt", "malware.check_syscall.Check_syscall"),
    *("malware.modxview.Modxview", "malware.netfilter.Netfilter", "malware.tty_check.Tty_Check"),
    *("malware.process_spoofing.ProcessSpoofing", "mountinfo.MountInfo", "pagecache.Files"),
    *("pidhashtable.PIDHashTable", "proc.Maps", "psaux.PsAux", "pscallstack.PsCallStack"),
    *("pslist.PsList", "pstree.PsTree"),
)
"""Plugins that have something to say of these machines; the others must find nothing alike."""


def check_plugins(
    where: Path, tree: Path, vmlinux: Path, kernel: Kernel, layers: Path | None = None
) -> None:
    """Compare the rows and the errors of every plugin for Linux.

    Args:
        where: A directory to write to.
        tree: The mount, with the universal layout.
        vmlinux: The debug package's.
        kernel: That has died.
        layers: A directory of volatility3's plugins, as for its ``-p``.
    """
    dump, theirs = tree / "vmcore", where / "theirs"
    theirs.mkdir()
    script = _HERE / "isf_reference.py"
    tools.run([sys.executable, script, dump, vmlinux, theirs / "linux.json"], dump)
    found, wanted = (
        _run_plugins(where, symbols, dump, layers) for symbols in (tree / "volatility3", theirs)
    )

    assert {name: said for name, said in found.items() if said != wanted[name]} == {}
    assert found.keys() == wanted.keys()
    telling = {f"linux.{name}" for name in _TELLING}
    failed = {name: said["error"] for name, said in found.items() if said["error"]}
    assert {name for name in telling if not found[name]["rows"]} <= failed.keys()
    # volatility3 2.28 does not know all of 7.x: a module's taints, for one
    is_known = kernel.series < (7, 0)
    assert failed.keys() <= {"linux.sockscan.Sockscan"} or not is_known, failed
    assert len(failed) < len(found) // 3


def _run_plugins(where: Path, symbols: Path, dump: Path, layers: Path | None) -> dict[str, Any]:
    cache = where / f"cache of {symbols.name}"
    cache.mkdir()
    start = f"{WITHOUT_VALIDATION}; import runpy; sys.argv[:] = sys.argv[1:]"
    said = tools.run(
        [
            *(sys.executable, "-W", "ignore", "-c"),
            f"{start}; runpy.run_path(sys.argv[0], run_name='__main__')",
            *(_HERE / "volatility_plugins.py", symbols, dump, cache),
            *([layers] if layers is not None else []),
        ],
        dump,
    )
    rows: dict[str, Any] = json.loads(said.splitlines()[-1])
    return rows
