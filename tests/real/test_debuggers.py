"""``vmcorefs gdb``, ``crash`` and ``drgn``, with the real tools, and how each may end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.real.marks import REAL, only
from tests.real.trees import VMCOREFS, vmcorefs
from tests.waiting import PATIENCE, running, wait_for
from vmcorefs.fuse.mounts import list_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.capture import Capture

pytestmark = [*REAL, only("kexec")]

WAITING: Final = """\
import os, sys, time
tree = os.path.dirname(prog.core_dump_path)
try:
    print(tree, flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    sys.exit(3)
"""
"""A script for drgn that says where the tree is, and knows what Ctrl-C means."""


class Place:
    """Where the mounts are; there must be none at the end."""

    def __init__(self, directory: Path, capture: Capture) -> None:
        self.directory = directory
        self.capture = capture
        self.images: list[str | Path] = [capture.config]
        self.programs = directory.with_name("bin")
        self.script = directory.with_name("script.py")
        self.script.write_text(WAITING)

    @property
    def environment(self) -> dict[str, str]:
        ours = {"XDG_RUNTIME_DIR": str(self.directory), "HOME": "/nonexistent"}
        return {**os.environ, **ours, "PATH": f"{self.programs}:{os.environ['PATH']}"}

    def run(self, tool: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(tool, *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env=self.environment,
        )

    def command(self, tool: str, *arguments: str) -> list[str]:
        return [VMCOREFS, tool, *map(str, self.images), "--", *arguments]

    def mounted(self) -> list[str]:
        return [one.mountpoint for one in list_mounts() if self.is_here(one.mountpoint)]

    def is_here(self, path: str) -> bool:
        return path.startswith(f"{self.directory}/vmcorefs-")

    @property
    def is_empty(self) -> bool:
        return not self.mounted() and not list(self.directory.iterdir())


@pytest.fixture
def place(tmp_path: Path, capture: Capture) -> Iterator[Place]:
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    found = Place(directory, capture)
    yield found
    assert found.is_empty


def test_gdb(place: Place) -> None:
    done = place.run("gdb", "-batch", "-ex", "info threads", "-ex", "bt")
    assert done.returncode == 0, done
    assert re.search(r'^\* [0-9]+ +LWP 1 "init on CPU [0-9]+" ', done.stdout, re.MULTILINE)
    assert "in sysrq_handle_crash (" in done.stdout
    assert "in do_syscall_64 (" in done.stdout


def test_crash(place: Place) -> None:
    done = place.run("crash", "-s", stdin="bt\nmod -S\nstruct virtblk_req\nquit\n")
    assert done.returncode == 0, done
    assert " sysrq_handle_crash at " in done.stdout
    assert "struct virtio_blk_outhdr out_hdr;" in done.stdout


def test_crash_looks_for_modules_where_its_vmlinux_is_from(place: Place, vmlinux: Path) -> None:
    """By itself it would take those of this machine first, if it runs the same release."""
    place.programs.mkdir()
    (place.programs / "crash").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (place.programs / "crash").chmod(0o755)

    symbols, dump, *options = place.run("crash", "-s").stdout.split()
    tree = os.path.dirname(dump)
    assert symbols == f"{tree}/vmlinux"
    assert options == ["--mod", f"{tree}/modules", "-s"]

    place.images = ["--vmlinux", vmlinux, *place.images]
    symbols, _, *options = place.run("crash", "-s").stdout.split()
    assert (symbols, options) == (str(vmlinux), ["-s"])


def test_drgn_and_the_exit_status(place: Place) -> None:
    place.script.write_text(
        'print(prog["init_uts_ns"].name.nodename)\n'
        "print([module.debug_file_path for module in prog.modules()])\n"
        "raise SystemExit(7)\n"
    )
    done = place.run("drgn", str(place.script), "argument")
    assert done.returncode == 7, done
    assert '"vmcorefs-lab"' in done.stdout
    assert re.search(r"/vmcorefs-\w+/modules/virtio_blk\.ko\.debug'", done.stdout)


def _compress(image: Path) -> Path:
    subprocess.run(["gzip", "--fast", image], check=True)
    return image.with_name(f"{image.name}.gz")


def _save(capture: Capture, directory: Path, *options: str) -> Path:
    out = directory / "dump"
    vmcorefs("save", "--quiet", "--no-sha256", "-o", out, *options, capture.config)
    return out


KINDS: Final[dict[str, Callable[[Capture, Path], Path]]] = {
    "raw": lambda capture, _: capture.ram,
    "elf": lambda capture, _: capture.vmcore,
    "kdump": _save,
    "flattened": lambda capture, where: _save(capture, where, "--format", "flattened"),
    "compressed": lambda capture, where: _compress(_save(capture, where)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_image_is_debugged_alike(
    place: Place, capture: Capture, tmp_path: Path, kind: str
) -> None:
    place.images = [KINDS[kind](capture, tmp_path)]
    place.script.write_text(
        "from drgn.helpers.linux.panic import panic_task\n"
        "print([frame.name for frame in prog.stack_trace(panic_task(prog))])\n"
    )
    for tool, arguments, stdin in (
        ("gdb", ("-batch", "-ex", "bt"), ""),
        ("crash", ("-s",), "bt\nquit\n"),
        ("drgn", (str(place.script),), ""),
    ):
        done = place.run(tool, *arguments, stdin=stdin)
        assert done.returncode == 0, done
        assert "sysrq_handle_crash" in done.stdout, done
        assert "ksys_write" in done.stdout, done


def test_a_tool_that_does_not_like_its_arguments(place: Place) -> None:
    done = place.run("gdb", "--no-such-option")
    assert done.returncode == 1
    assert "unrecognized option" in done.stderr


def test_what_the_tool_leaves_running_cannot_keep_the_tree(place: Place) -> None:
    place.script.write_text(
        "import os, subprocess\n"
        "tree = os.path.dirname(prog.core_dump_path)\n"
        'print(subprocess.Popen(["sleep", "1000"], cwd=tree, stdout=2).pid)\n'
    )
    with subprocess.Popen(
        place.command("drgn", str(place.script)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=place.environment,
    ) as process:
        said, _ = process.communicate(timeout=600)
    try:
        assert process.returncode == 0
        assert place.is_empty
    finally:
        os.kill(int(said), signal.SIGKILL)


def begun(place: Place, process: subprocess.Popen[str]) -> tuple[str, int]:
    """Wait until drgn's script runs: where the tree is, and drgn's process."""
    assert process.stdout is not None
    tree = process.stdout.readline().strip()
    assert place.mounted() == [tree]
    assert place.is_here(tree)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    names = {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in children}
    return tree, names["drgn"]


@pytest.mark.parametrize(
    ("number", "to", "status"),
    [
        (signal.SIGINT, "both", 3),  # Ctrl-C: drgn's script knows what it means
        (signal.SIGKILL, "tool", 128 + 9),
        (signal.SIGTERM, "command", 128 + 15),
        (signal.SIGHUP, "command", 128 + 1),
    ],
)
def test_the_tree_is_unmounted_whatever_ends_the_tool(
    place: Place, number: signal.Signals, to: str, status: int
) -> None:
    # nohup(1) in front of the tests would have SIGHUP ignored
    command = ["env", "--default-signal", *place.command("drgn", str(place.script))]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with running(command, env=place.environment, **options) as process:
        _, drgn = begun(place, process)
        if to == "both":
            os.killpg(process.pid, number)
        else:
            os.kill(drgn if to == "tool" else process.pid, number)
        assert process.wait(PATIENCE) == status
        assert place.is_empty


def test_the_daemon_goes_even_if_the_command_is_killed(place: Place) -> None:
    command = place.command("drgn", str(place.script))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with running(command, env=place.environment, **options) as process:
        tree, drgn = begun(place, process)
        process.kill()
        try:
            wait_for(lambda: not place.mounted(), "end of the mount")
        finally:
            os.kill(drgn, signal.SIGKILL)
    os.rmdir(tree)  # nobody is left to do that
