"""Crashes, two at a time, each made once in a run and only if a test of the run wants it."""

from __future__ import annotations

import faulthandler
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.boot.armed import armed
from tests.boot.disk import Disk, disk as boot_disk
from tests.boot.machine import resumed
from tests.lab.host import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.boot.crashes import Outcome
    from tests.boot.machine import Machine

    Crash = Callable[[Machine], Outcome]

_AT_A_TIME: Final = 2  # a capture kernel has one CPU


@pytest.fixture(scope="session")
def disk() -> Disk:
    """The disk of the machine that crashes."""
    faulthandler.cancel_dump_traceback_later()  # it may have to be made: that is no hang
    return boot_disk()


@pytest.fixture(scope="module")  # no longer: the lock is the lab's too
def outcomes(request: pytest.FixtureRequest, disk: Disk) -> Iterator[dict[Crash, Future[Outcome]]]:
    """The outcomes of all crashes that tests of the file look at, running or done."""
    wanted = [item for item in request.session.items if item.path == request.path]
    markers = [item.get_closest_marker("crash") for item in wanted]
    crashes: dict[Crash, None] = dict.fromkeys(marker.args[0] for marker in markers if marker)
    scratch = Path(tempfile.mkdtemp(prefix="vmcorefs-boot."))  # gigabytes: pytest would keep them

    with locked("guest"):  # no capture of tests/lab is made meanwhile
        about_to_panic = armed(disk)

        def crash(function: Crash) -> Outcome:
            directory = scratch / function.__name__
            directory.mkdir()
            with resumed(disk, about_to_panic, directory) as machine:
                return function(machine)

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            try:
                yield {function: pool.submit(crash, function) for function in crashes}
            finally:
                pool.shutdown(cancel_futures=True)
                shutil.rmtree(scratch)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, outcomes: dict[Crash, Future[Outcome]]) -> Outcome:
    """What came of the crash that the test is marked with."""
    faulthandler.cancel_dump_traceback_later()
    marker = request.node.get_closest_marker("crash")
    return outcomes[marker.args[0]].result()
