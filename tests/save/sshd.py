"""An sshd of this machine alone, with keys that are thrown away, and the ssh that talks to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import PATIENCE

_SERVER = """\
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""
_CLIENT = """\
Host there
  HostName {address}
  Port {port}
  IdentityFile {directory}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
Host nobody
  HostName {address}
  Port {port}
  IdentityFile {directory}/host_key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
"""


@dataclass(frozen=True)
class Server:
    """A server of this machine.

    Attributes:
        process: The sshd that listens.
        path: A PATH whose ssh knows it as ``there``, and as ``nobody`` with a key it does not take.
    """

    process: subprocess.Popen[bytes]
    path: str


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: list[str], directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start it on a port that is free; another process may take that one first."""
    log = directory / "sshd_log"
    for _ in range(5):
        port = _free_port()
        with log.open("wb") as said:
            process = subprocess.Popen([*command, "-p", str(port)], stderr=said)
        while process.poll() is None:
            if f" port {port}." in log.read_text():
                return process, port
            time.sleep(0.01)
    raise ChildProcessError(f"sshd does not listen: {log.read_text()}")


@contextmanager
def serve(directory: Path, address: str = "127.0.0.1") -> Iterator[Server]:
    """Run one until the end of the block."""
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ["PATH"])
    ssh = shutil.which("ssh")
    assert sshd, "openssh-server is not installed: ./run setup"
    assert ssh, "openssh-client is not installed: ./run setup"
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it; a service would have made it
    for key in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
        subprocess.run(command, check=True)
    (directory / "sshd_config").write_text(_SERVER.format(directory=directory, address=address))
    process, port = _start([sshd, "-D", "-e", "-f", str(directory / "sshd_config")], directory)
    host_key = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"[{address}]:{port} {host_key}")
    (directory / "ssh_config").write_text(
        _CLIENT.format(port=port, directory=directory, address=address)
    )
    programs = directory / "bin"
    programs.mkdir()
    wrapper = programs / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {ssh} -F {directory}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    try:
        yield Server(process, f"{programs}:{os.environ['PATH']}")
    finally:
        process.terminate()
        process.wait(PATIENCE)
