"""QEMU's monitor: what it says of its guest (docs/interop/qmp-spec.rst, qapi/misc.json)."""

from __future__ import annotations

import re
import socket
import struct
from subprocess import SubprocessError
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from vmcorefs.core.maps.flat_view import Run, parse_flat_view
from vmcorefs.errors import ConfigError
from vmcorefs.sources.live.pause import hand_over, keep_paused

_SECONDS: Final = 30.0
_MOST: Final = 16 << 20  # bytes of an answer
_UCRED: Final = struct.Struct("=iII")  # unix(7), SO_PEERCRED
_HOST_ADDRESS: Final = re.compile(r"\) is (0x[0-9a-f]+)\s*$")


class Monitor:
    """A QEMU that answers.

    Attributes:
        name: The socket's path, as the user gave it.
        pid: QEMU's process.
    """

    def __init__(self, path: str) -> None:
        """Connect to a monitor.

        Raises:
            ConfigError: if nothing that is a QEMU answers there.
        """
        self.name = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(_SECONDS)
            self._socket.connect(path)
            size = _UCRED.size
            peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            self.pid: int = _UCRED.unpack(peer)[0]
            self._stream = self._socket.makefile("rwb")
            self._greet()
        except (OSError, ValueError) as error:
            self._socket.close()
            why = "no answer; does another program, such as libvirt, use it?"
            reason = why if isinstance(error, TimeoutError) else str(error)
            raise ConfigError(f"{path}: cannot ask QEMU's monitor: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def pause(self) -> socket.socket | None:
        """Stop the guest until what is returned is closed; None if it is stopped already.

        Nothing else may be asked afterwards.

        Raises:
            ConfigError: if QEMU does not do that.
        """
        try:
            if not self._execute("query-status")["running"]:
                return None
            held = keep_paused(self._socket)
            try:
                self._execute("stop")
                self._hand_over(held)
            except BaseException:
                held.close()
                raise
        except (OSError, ValueError, LookupError, TypeError, SubprocessError) as error:
            raise ConfigError(f"{self.name}: QEMU's monitor: cannot stop it: {error}") from error
        return held

    def _hand_over(self, held: socket.socket) -> None:
        try:
            hand_over(held)
        except OSError:
            self._execute("cont")  # nobody else is left who would
            raise

    def list_ram(self) -> list[tuple[Run, int]]:
        """The guest's RAM, and where QEMU has the first byte of each run, in its own memory.

        Raises:
            ConfigError: if QEMU does not answer, or lists no RAM.
        """
        runs = parse_flat_view(self._ask("info mtree -f"))
        if not runs:
            raise ConfigError(f"{self.name}: QEMU lists no RAM (info mtree -f)")
        return [(run, self._host_address(run.start)) for run in runs]

    def _greet(self) -> None:
        if "QMP" not in self._receive():
            raise ValueError("its greeting is not QMP's")
        self._execute("qmp_capabilities")

    def _host_address(self, paddr: int) -> int:
        answer = self._ask(f"gpa2hva {paddr:#x}")
        match = _HOST_ADDRESS.search(answer)
        if match is None:
            raise ConfigError(f"{self.name}: QEMU does not say where {paddr:#x} lies: {answer!r}")
        return int(match[1], 16)

    def _ask(self, line: str) -> str:
        """What the monitor for people answers."""
        try:
            answer = self._execute("human-monitor-command", {"command-line": line})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.name}: QEMU's monitor: {line}: {error}") from error
        if not isinstance(answer, str):
            raise ConfigError(f"{self.name}: QEMU's monitor: {line}: expected a text")
        return answer

    def _execute(self, command: str, arguments: dict[str, str] | None = None) -> Any:  # noqa: ANN401
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._stream.write(msgspec.json.encode(request) + b"\n")
        self._stream.flush()
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ValueError(f"it refused {command}: {answer['error']}")
            # an event

    def _receive(self) -> dict[str, Any]:
        line = self._stream.readline(_MOST)
        if not line.endswith(b"\n"):
            raise ValueError("it closed the connection, or answers without end")
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValueError(f"that is not QMP: {error}") from error
