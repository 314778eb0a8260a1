"""The image is changed, taken away, or fails, under the mount."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

import pytest

from tests.faults.cases import planes
from tests.faults.scene import LOST, Scene, bad_file_system, loop_device, uncache
from tests.faults.survey import Survey
from tests.mount.machine import RAM_END

pytestmark = pytest.mark.mount

SECTOR = 4096
FOLIO = 1 << 20
"""What the kernel reads in one go, at most: as much as one request of FUSE asks for."""


@planes("image truncated")
def test_an_image_is_truncated(scene: Scene, holds: Callable[..., None]) -> None:
    scene.mount()
    before = scene.open()
    load = scene.load()
    began = time.monotonic()
    os.truncate(scene.machine.directory / "ram", LOST)
    log = scene.wait_for_log("bytes now")
    noticed = time.monotonic() - began
    if scene.way.is_one_run:
        scene.wait_for_log("open it again")
    again = str(scene.survey_again())
    old = str(scene.survey(before))
    time.sleep(0.5)
    load.stop()
    if scene.way.is_one_run:
        # what is open fails as a whole: the kernel would show a shorter file
        load.check({errno.EIO: (0, RAM_END)})
        assert old == "EIO"
        reader = f"open since before: EIO for all of it; opened again: {again}"
    else:
        load.check()
        assert all(load.good_after(began + 0.2).values())
        assert old == again
        reader = f"{again}; other readers go on"
    lost = scene.wait_for_log("ERROR oldmem: ")
    assert (
        f" {sum(end - start for start, end in lost_ranges(scene))} bytes from {LOST:#x} on" in lost
    )
    scene.check_log("are lost", "it ends there now")
    assert_only_lost(scene, again)
    holds(
        f"truncated to {LOST:#x} of {RAM_END:#x} bytes",
        reader,
        f"{log}; {lost}",
        time=noticed,
        limit=2,
        recovered=scene.recover(),
    )


def lost_ranges(scene: Scene) -> list[tuple[int, int]]:
    return [(LOST, RAM_END)] if scene.way.is_one_run else [(LOST, 0x800000), (0xC00000, RAM_END)]


def assert_only_lost(scene: Scene, seen: str) -> None:
    ranges = [f"EIO in [{start:#x}, {end:#x})" for start, end in lost_ranges(scene)]
    assert seen == f"right bytes; {', '.join(ranges)}"


@planes("image replaced")
def test_another_file_takes_the_images_name(scene: Scene, holds: Callable[..., None]) -> None:
    at = scene.machine.directory
    (at / "other").write_bytes(b"\xff" * RAM_END)
    check_lost_name(
        scene,
        holds,
        "another file renamed over it",
        lambda: os.rename(at / "other", at / "ram"),
        "another file has its name",
    )


@planes("image removed")
def test_the_image_is_removed(scene: Scene, holds: Callable[..., None]) -> None:
    ram = scene.machine.directory / "ram"
    check_lost_name(scene, holds, "unlinked", lambda: os.unlink(ram), "it was removed")


def check_lost_name(
    scene: Scene,
    holds: Callable[..., None],
    what: str,
    take_name: Callable[[], None],
    words: str,
) -> None:
    """The image is read as before, and the log says once what became of its name."""
    scene.mount()
    load = scene.load()
    began = time.monotonic()
    take_name()
    log = scene.wait_for_log(words)
    noticed = time.monotonic() - began
    again = str(scene.survey_again())
    load.stop()
    load.check()
    assert all(load.good_after(began).values())
    assert again == "right bytes"
    scene.check_log()
    holds(what, again, log, time=noticed, limit=3, recovered=scene.recover())


@planes("image written to")
def test_somebody_writes_to_the_image(scene: Scene, holds: Callable[..., None]) -> None:
    scene.mount()
    began = time.monotonic()
    with (scene.machine.directory / "ram").open("r+b") as image:
        image.seek(LOST)
        image.write(b"\xff" * SECTOR)
    log = scene.wait_for_log("it was written to")
    noticed = time.monotonic() - began
    again = str(scene.survey_again())
    assert again == f"right bytes; wrong bytes in [{LOST:#x}, {LOST + SECTOR:#x})"
    scene.check_log()
    holds(
        f"{SECTOR} bytes written at {LOST:#x}",
        "what is in the image now",
        log,
        time=noticed,
        limit=3,
        recovered=scene.recover(),
    )


@planes("bad sector under a file")
def test_a_file_has_a_bad_sector(scene: Scene, holds: Callable[..., None]) -> None:
    with bad_file_system(scene) as tell:
        by_kernel = scene.way.plane == "kernel"
        options = ["read_timeout=0"] if by_kernel else []
        scene.mount(*options)
        load = scene.load()
        uncache(scene.image)
        tell(eio=[[LOST, LOST + SECTOR]])
        began = time.monotonic()
        again = scene.survey_again()
        took = time.monotonic() - began
        load.stop()
        load.check()
        assert all(load.good_after(began).values())
        around = check_bad_sector(again, exact=scene.way.plane != "kernel")
        if by_kernel:
            assert scene.log_lines() == []
            log = "nothing: the daemon is not asked"
        else:
            log = scene.wait_for_log("Input/output error")
            assert f"oldmem at {LOST:#x}" in scene.log_lines("ERROR")[0]
            assert f"(physical address {LOST:#x})" in scene.log_lines("ERROR")[0]
            assert len(scene.log_lines("ERROR")) == 1
        scene.check_log("Input/output error")
        tell()
        assert str(scene.survey_again()) == "right bytes"
        option = " (-o read_timeout=0)" if by_kernel else ""
        holds(
            f"EIO for {SECTOR} bytes at {LOST:#x}, by a FUSE file system{option}",
            f"{around}; other readers go on",
            log,
            time=took,
            limit=10,
            recovered="reads succeed as soon as the sector can be read; " + scene.recover(),
        )


def check_bad_sector(seen: Survey, *, exact: bool) -> str:
    """Only the bad sector, or what the kernel reads in one go with it, is an error."""
    ((start, end, what),) = seen.bad
    assert what == "EIO"
    if exact:
        assert (start, end) == (LOST, LOST + SECTOR)
        return f"right bytes; EIO in [{start:#x}, {end:#x})"
    assert LOST - FOLIO < start <= LOST
    assert LOST + SECTOR <= end <= LOST + FOLIO  # the folio may start with the sector
    return "right bytes; EIO for the bad sector, and for the rest of a large folio of the kernel's"


@planes("bad sector of a block device")
def test_a_block_device_has_a_bad_sector(scene: Scene, holds: Callable[..., None]) -> None:
    with bad_file_system(scene) as tell:
        file = scene.image
        with loop_device(file) as device:
            scene.image = device
            scene.mount()
            load = scene.load()
            uncache(device)
            uncache(file)
            tell(eio=[[LOST, LOST + SECTOR]])
            began = time.monotonic()
            again = scene.survey_again()
            took = time.monotonic() - began
            load.stop()
            load.check()
            assert all(load.good_after(began).values())
            around = check_bad_sector(again, exact=False)
            log = scene.wait_for_log("Input/output error")
            assert len(scene.log_lines("ERROR")) == 1
            scene.check_log("Input/output error")
            recovered = scene.recover()
        holds(
            f"EIO for {SECTOR} bytes at {LOST:#x} of a loop device",
            f"{around}; other readers go on",
            log.replace(device, "/dev/loop"),
            time=took,
            limit=20,
            recovered=recovered,
        )
