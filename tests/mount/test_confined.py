"""What a daemon has given up, as the kernel says it; and that it still does all of its work."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apart import apart
from tests.mount.machine import Machine, through_api, wait_until_gone
from tests.waiting import PATIENCE, running, wait_for_line
from vmcorefs.confine.process import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN
from vmcorefs.fuse.mounts import find_mount
from vmcorefs.fuse.planes.choose import PLANES

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parents[2]


def status(pid: int, thread: int | None = None) -> dict[str, str]:
    path = Path(f"/proc/{pid}/task/{thread or pid}/status")
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def threads(pid: int) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def capabilities(pid: int) -> set[int]:
    """Of every thread, in every set."""
    found = 0
    for thread in threads(pid):
        said = status(pid, thread)
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            found |= int(said[name], 16)
    return {bit for bit in range(64) if found >> bit & 1}


def read_all(mnt: Path) -> None:
    for directory, _, names in os.walk(mnt):
        for name in names:
            Path(directory, name).read_bytes()


def assert_confined(pid: int) -> None:
    for thread in threads(pid):
        said = status(pid, thread)
        assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2"), said["Name"]
    assert (status(pid)["Name"]) == "vmcorefs"


@pytest.mark.parametrize("plane", PLANES)
def test_a_daemon_keeps_what_unmounting_needs_and_serves(machine: Machine, plane: str) -> None:
    with machine.mounted("-o", f"plane={plane}") as mnt:
        read_all(mnt)
        subprocess.run(["ls", "-lR", mnt], check=True, stdout=subprocess.DEVNULL)
        pid = machine.daemon
        assert_confined(pid)
        assert capabilities(pid) == {CAP_SYS_ADMIN}
        assert f'"name": "{plane}"' in (mnt / "layout.json").read_text()
        os.kill(pid, signal.SIGTERM)
        wait_until_gone(pid)
        assert find_mount(str(mnt)) is None
    assert "confined: no new privileges, capabilities: cap_sys_admin, " in machine.log.read_text()


def test_in_the_foreground_too(machine: Machine) -> None:
    command = machine.command("mount", "-f", "-v", *machine.sources, str(machine.mountpoint))
    with running(command, stderr=subprocess.PIPE) as daemon:
        wait_for_line(daemon, ": ready", stderr=True)
        read_all(machine.mountpoint)
        assert_confined(daemon.pid)
        assert capabilities(daemon.pid) == {CAP_SYS_ADMIN}
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0


def test_without_the_filter_the_rest_is_given_up(machine: Machine) -> None:
    with machine.mounted("--no-seccomp") as mnt:
        read_all(mnt)
        said = status(machine.daemon)
        assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "0")
        assert capabilities(machine.daemon) == {CAP_SYS_ADMIN}
    assert "any system call" in machine.log.read_text()


def test_an_image_that_root_may_read_only_as_root_can_be_opened_again(machine: Machine) -> None:
    ram = machine.directory / "ram"
    ram.chmod(0o600)
    os.chown(ram, 65534, 65534)
    machine.directory.chmod(0o700)
    with machine.mounted() as mnt:
        assert '"name": "kernel"' in (mnt / "layout.json").read_text()
        assert capabilities(machine.daemon) == {CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH}


def test_nobody_else_gets_at_its_memory(machine: Machine) -> None:
    with machine.mounted():
        pid = machine.daemon
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        # what is not dumpable belongs to root, and nobody may trace it (proc_pid_environ(5))
        script = (
            "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
            " os.setresuid(65534, 65534, 65534);"
            " sys.exit(libc.ptrace(16, int(sys.argv[1]), None, None) != -1)"
        )
        subprocess.run([sys.executable, "-c", script, str(pid)], check=True)


TRACED = """
import ctypes, os, signal, sys, time
from vmcorefs.confine.process import forbid_dumps
libc = ctypes.CDLL(None, use_errno=True)
os.setresuid(65534, 65534, 65534)
libc.prctl(4, 1, 0, 0, 0)  # a change of the user makes a process undumpable too
child = os.fork()
if child == 0:
    if sys.argv[1] == "yes":
        forbid_dumps()
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(child, os.WUNTRACED)
PTRACE_SEIZE = 0x4206
outcome = libc.ptrace(PTRACE_SEIZE, child, None, None)
try:
    os.close(os.open(f"/proc/{child}/mem", os.O_RDONLY))
    opened = "opened"
except PermissionError:
    opened = "refused"
os.kill(child, signal.SIGKILL)
print("traced" if outcome == 0 else "refused", opened)
"""


@pytest.mark.parametrize(
    ("forbidden", "outcome"), [("no", "traced opened"), ("yes", "refused refused")]
)
def test_its_users_other_processes_do_not_get_at_its_memory(forbidden: str, outcome: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACED, forbidden],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == f"{outcome}\n"


CRASH = """
import ctypes, os, resource, sys
from vmcorefs.confine.process import forbid_dumps
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if sys.argv[1] == "yes":
    forbid_dumps()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
os.abort()
"""


@pytest.mark.parametrize(
    ("forbidden", "dumpable", "end"), [("no", "1", os.CLD_DUMPED), ("yes", "0", os.CLD_KILLED)]
)
def test_a_crash_leaves_no_core(tmp_path: Path, forbidden: str, dumpable: str, end: int) -> None:
    # by what the kernel says: a core may go to a program, or to a file of any name (core(5))
    with running(
        [sys.executable, "-c", CRASH, forbidden],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == f"{dumpable}\n"
        said = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert said is not None
        assert (said.si_code, said.si_status) == (end, signal.SIGABRT)


def test_the_command_that_reads_an_image_forbids_dumps(machine: Machine) -> None:
    script = (
        "import ctypes, resource, sys; from vmcorefs.cli import main;"
        " main(sys.argv[1:], standalone_mode=False);"
        " print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),"
        " resource.getrlimit(resource.RLIMIT_CORE))"
    )
    out = str(machine.directory / "out")
    ram = machine.directory / "ram"
    Path(f"{ram}.sha256").write_text(hashlib.sha256(ram.read_bytes()).hexdigest())
    for command in (
        ["inspect", *machine.sources],
        ["check", *machine.sources],
        ["extract", "-o", out, "iomem", *machine.sources],
        ["estimate", *machine.sources],
        ["save", "-o", f"{out}.dump", *machine.sources],
        ["verify", str(ram)],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *command],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "0 (0, 0)"


# --- the filter ----------------------------------------------------------------------------------

REFUSED = {
    "a program": "os.execv('/bin/true', ['true'])",
    "a child": "os.fork()",
    "the network": "socket.socket(socket.AF_INET)",
    "a file that goes": "os.unlink(sys.argv[1])",
    "a file of another name": "os.rename(sys.argv[1], sys.argv[1] + 'x')",
    "a link": "os.link(sys.argv[1], sys.argv[1] + 'x')",
    "a symbolic link": "os.symlink('x', sys.argv[1] + 'x')",
    "a mode": "os.chmod(sys.argv[1], 0o777)",
    "an owner": "os.chown(sys.argv[1], 65534, 65534)",
    "another mount namespace": "check(libc.unshare(0x20000))",
    "a mount": "check(libc.mount(b'none', b'/mnt', b'tmpfs', 0, None))",
    "tracing": "check(libc.ptrace(0, 0, 0, 0))",
    "code": "check(libc.mprotect(ctypes.c_void_p(libc.mmap(None, 4096, 3, 0x22, -1, 0)), 4096, 5))",
    "code at once": "mmap.mmap(-1, 4096, prot=7)",
    "a signal to another": "os.kill(os.getppid(), 0)",
    "limits": "check(libc.prlimit(0, 7, ctypes.byref((ctypes.c_ulong * 2)(5, 5)), None))",
}
ALLOWED = """
done = []
thread = threading.Thread(target=done.append, args=(1,))
thread.start()
thread.join()
assert done
open(sys.argv[1]).read()
socket.socket(socket.AF_UNIX).close()
os.memfd_create("x")
import sqlite3
"""
FILTERED = """
import ctypes, errno, json, mmap, os, socket, sys, threading
from vmcorefs.confine.process import forbid_new_privileges
from vmcorefs.confine.seccomp import load_bindings, load_filter
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
forbid_new_privileges()
assert load_filter(load_bindings(), privileged=False) > 80
outcomes = {}
for name, code in json.loads(sys.argv[2]).items():
    try:
        exec(code)
    except OSError as error:
        outcomes[name] = errno.errorcode[error.errno]
    else:
        outcomes[name] = "done"
print(json.dumps(outcomes))
"""


def test_the_filter_refuses_all_but_what_a_daemon_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    codes = {**REFUSED, "a daemon's work": ALLOWED}
    done = subprocess.run(
        [sys.executable, "-c", FILTERED, str(path), json.dumps(codes)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert json.loads(done.stdout) == {**dict.fromkeys(REFUSED, "EPERM"), "a daemon's work": "done"}
    assert path.read_text() == "text"
    assert path.stat().st_mode & 0o777 != 0o777
    assert path.stat().st_uid == os.getuid()
    assert not Path(f"{path}x").is_symlink()


WITHOUT = """
import sys
sys.modules["seccomp"] = sys.modules["pyseccomp"] = None
from vmcorefs.cli import main
main(sys.argv[1:])
"""
BROKEN = """
import sys
import pyseccomp
def load(self):
    raise {error}
pyseccomp.SyscallFilter.load = load
sys.modules["seccomp"] = None
from vmcorefs.cli import main
main(sys.argv[1:])
"""


def run_changed(machine: Machine, code: str) -> subprocess.CompletedProcess[str]:
    arguments = ["mount", "--log", str(machine.log), *machine.sources, str(machine.mountpoint)]
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip


def test_without_libseccomp_it_says_so_and_mounts(machine: Machine) -> None:
    done = run_changed(machine, WITHOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert status(machine.daemon)["Seccomp"] == "0"
    assert "INFO no system call filter: neither python3-seccomp" in machine.log.read_text()
    assert machine.run("umount", str(machine.mountpoint)).returncode == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("OSError(22, 'Invalid argument')", "Invalid argument"),  # pyseccomp's
        ("RuntimeError('Library error (errno = -22)')", "Library error (errno = -22)"),  # Debian's
    ],
)
def test_a_filter_that_cannot_be_loaded_is_no_mount(
    machine: Machine, error: str, reason: str
) -> None:
    done = run_changed(machine, BROKEN.format(error=error))
    assert done.returncode == 3
    assert done.stderr == (
        f"vmcorefs: {machine.mountpoint}: cannot give up system calls: {reason};"
        " --no-seccomp mounts without the filter\n"
    )
    assert "cannot give up system calls" in machine.log.read_text()
    assert find_mount(str(machine.mountpoint)) is None


# --- no privileges -------------------------------------------------------------------------------


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
AS_NOBODY = """
set -e
at=$1 repository=$2 prefix=$3
mount -t tmpfs -o mode=755 none /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
mkdir /mnt/repository /mnt/prefix /mnt/at
mount --bind "$repository" /mnt/repository
mount --bind "$prefix" /mnt/prefix
mount --bind "$at" /mnt/at
chown 65534:65534 /mnt/at/*
cd /mnt/repository
shift 3
exec "$@"
"""
SESSION = """
set -e
python=/mnt/prefix/$1
vmcorefs() { $python -m vmcorefs "$@"; }
daemon() { awk '$2 == "/mnt/at/mnt" { sub("vmcorefs:", "", $1); print $1 }' /proc/mounts; }
# a dead one that nobody has reaped is gone too: process 1 may be these tests
wait_until_gone() { while ps -o stat= -p $pid | grep -qv Z; do sleep 0.1; done; }
cd /mnt/repository
at=/mnt/at mnt=/mnt/at/mnt
mount() { vmcorefs mount --log $at/log --map $at/iomem --backup $at/lowmem $at/ram $mnt; }

mount
ls -lR $mnt > /dev/null
cat $mnt/vmcore > $at/copy
cat $mnt/layout.json > $at/layout
grep -E '^(CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/$(daemon)/status
mount 2>&1 | sed 's/[0-9][0-9]*/N/' || :
pid=$(daemon)
kill $pid
wait_until_gone
echo "after SIGTERM: $(daemon)"

mount
pid=$(daemon)
vmcorefs umount $mnt
echo "after umount: $(daemon)$(ps -o stat= -p $pid | grep -v Z)"

mount
pid=$(daemon)
kill -KILL $pid
wait_until_gone
mount 2>&1 | grep -o 'has died; clean up with' || :
vmcorefs umount $mnt
echo "after SIGKILL: $(daemon)"
"""


def test_a_user_without_privileges_mounts_through_fusermount3(machine: Machine) -> None:
    for parent in [machine.directory, *list(machine.directory.parents)[:-2]]:
        parent.chmod(parent.stat().st_mode | 0o011)
    (machine.directory / "log").touch()
    (machine.directory / "copy").touch()
    (machine.directory / "layout").touch()
    expected = through_api(machine, "vmcore")
    namespace = [*apart(), "sh", "-c", AS_NOBODY, "sh"]
    session = [*NOBODY, "sh", "-c", SESSION, "sh", os.path.relpath(sys.executable, sys.prefix)]
    done = subprocess.run(
        [*namespace, str(machine.directory), str(ROOT), sys.prefix, *session],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"CapPrm:\t0+", lines[0])
    assert lines[2:] == [
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "vmcorefs: /mnt/at/mnt: a tree is mounted there already (daemon N)",
        "after SIGTERM: ",
        "after umount: ",
        "has died; clean up with",
        "after SIGKILL: ",
    ]
    assert (machine.directory / "copy").read_bytes() == expected
    assert '"name": "mapped"' in (machine.directory / "layout").read_text()
    assert "capabilities: none" in machine.log.read_text()
    machine.check_log()
