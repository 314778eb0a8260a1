"""Machines that hang: no CPU has saved its registers, and tools must see no difference here either.

What has gone wrong in them is in tests/accidents.
"""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.accidents.accidents import HANG, HANG_NEWER
from tests.accidents.machines import Accident, had
from tests.accidents.module import build_module
from tests.lab.kernels import Kernel, debug_vmlinux, kernel
from tests.real.compared import check_crash, check_drgn
from tests.real.marks import REAL
from tests.real.test_debug_vmlinux import CRASH
from tests.real.test_threads import check_against_drgn
from tests.real.trees import mounted
from tests.real.volatility import check_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = REAL


class Hung(NamedTuple):
    """A machine's tree, its kernel, and that with debug symbols."""

    tree: Path
    kernel: Kernel
    vmlinux: Path


_BOTH = pytest.mark.parametrize(
    "hung", [HANG, HANG_NEWER], ids=lambda one: one.kernel, indirect=True, scope="module"
)


@pytest.fixture(scope="module", params=[HANG], ids=lambda one: one.kernel)
def hung(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hung]:
    faulthandler.cancel_dump_traceback_later()  # it may have to be made
    accident: Accident = request.param
    role, ram = accident.kernel, had(accident)
    with mounted(tmp_path_factory.mktemp("mount"), ram) as tree:
        yield Hung(tree, kernel(role), debug_vmlinux(role))


# crash 8.0.2 finds no process of 6.1, whose struct pid ends in an array of no length, with either
# file; on a machine that hangs, its "mount" then looks for one without end
_ENDLESS = "mount"


def test_crash_answers_as_with_the_debug_package(hung: Hung) -> None:
    commands = [command for command in CRASH if command != _ENDLESS]
    said = check_crash(hung.tree / "vmlinux", hung.vmlinux, hung.tree / "vmcore", *commands)

    assert "struct task_struct {" in said


def test_drgn_answers_as_with_the_debug_package(hung: Hung) -> None:
    said = check_drgn(hung.tree / "vmlinux", hung.vmlinux, hung.tree / "vmcore")

    running = [one[1] for one in said["stacks"].values() if isinstance(one[0], str)]
    assert "registers for CPU 0 were not saved" in running


@_BOTH
def test_gdb_finds_the_frames_that_drgn_finds(hung: Hung, tmp_path: Path) -> None:
    module = build_module(hung.kernel, tmp_path)
    found = check_against_drgn(hung.tree, hung.vmlinux, hung.kernel.arch, module)

    stuck = dict.fromkeys(name for _, name in found.sleeping)
    assert {"lab-one-way", "lab-other-way", "lab-reader-1", "lab-reader-2"} <= stuck.keys()


def test_volatility3s_plugins_say_what_they_say_with_the_debug_package(
    hung: Hung, tmp_path: Path
) -> None:
    layers = hung.tree / "volatility3"
    check_plugins(tmp_path, hung.tree, hung.vmlinux, hung.kernel, layers)
