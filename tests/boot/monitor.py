"""QEMU's monitor protocol, QMP (docs/interop/qmp-spec.txt): commands, and events as they come."""

from __future__ import annotations

import json
import select
import time
from typing import TYPE_CHECKING, Any, Final

from tests.lab.host import GuestError

if TYPE_CHECKING:
    import socket

_ANSWER_SECONDS: Final = 120.0


class Monitor:
    """A connection to a QEMU that nobody has spoken to yet.

    Attributes:
        events: name, data and the time on ``time.monotonic``, in the order in which they came.
        is_open: whether QEMU is still there.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self.events: list[tuple[str, dict[str, Any], float]] = []
        self.is_open = True

    def fileno(self) -> int:
        """For ``select``."""
        return self._connection.fileno()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its answer.

        Raises:
            GuestError: if QEMU refuses, or has ended.
        """
        message = {"execute": command, "arguments": arguments}
        self._connection.sendall(json.dumps(message).encode() + b"\n")
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self.is_open and time.monotonic() < deadline:
            for answer in self._messages(1.0):
                if "error" in answer:
                    raise GuestError(f"QEMU's monitor refused {command}: {answer['error']}")
                return answer["return"]
        raise GuestError(f"QEMU's monitor did not answer {command}")

    def pump(self) -> None:
        """Take up the events that have come."""
        for answer in self._messages(0.0):
            raise GuestError(f"QEMU's monitor answered what nobody asked: {answer}")

    def event(self, name: str, after: int = 0) -> tuple[dict[str, Any], float] | None:
        """Return data and time of the first event of a name; None if there was none.

        Args:
            name: of the event.
            after: how many events, of any name, to pass over.
        """
        for found, data, when in self.events[after:]:
            if found == name:
                return data, when
        return None

    def _messages(self, seconds: float) -> list[dict[str, Any]]:
        """Read what is there, or comes within ``seconds``; events are kept, answers returned."""
        if not self.is_open or not select.select([self._connection], [], [], seconds)[0]:
            return []
        try:
            data = self._connection.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self.is_open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        answers = []
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "event" in message:
                data_of = message.get("data", {})
                self.events.append((message["event"], data_of, time.monotonic()))
            elif "QMP" not in message:
                answers.append(message)
        return answers
