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
from tests.real.volatility import WITHOUT_VALIDATION, check_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = REAL

FOUR_LEVELS: Final = only("kexec-4-levels", "kexec-newer-nokaslr")


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
            f"{WITHOUT_VALIDATION}; sys.argv[0] = 'vol'; from volatility3.cli import main; main()",
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
    role = capture.recipe.kernel
    check_plugins(tmp_path, universal, debug_vmlinux(role), kernel(role))


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
