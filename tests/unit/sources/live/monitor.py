"""A monitor that answers as QEMU's does, for a guest whose memory is in this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
EVENT = b'{"event": "RTC_CHANGE", "data": {"offset": 0}}\r\n'


@contextmanager
def monitor(
    path: Path, answers: Mapping[str, object], greeting: bytes = GREETING
) -> Iterator[list[str]]:
    """Answer one client on a socket.

    Args:
        path: The socket.
        answers: Of commands, those for people too; others are refused.
        greeting: What is sent first.

    Yields:
        The commands that came, in order.
    """
    seen: list[str] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(60)
        thread = threading.Thread(target=_serve, args=(listening, answers, greeting, seen))
        thread.start()
        try:
            yield seen
        finally:
            thread.join(60)


def _serve(
    listening: socket.socket, answers: Mapping[str, object], greeting: bytes, seen: list[str]
) -> None:
    connection = listening.accept()[0]
    with connection, connection.makefile("rwb") as stream:
        stream.write(greeting)
        stream.flush()
        try:
            for line in stream:
                request = json.loads(line)
                command = request.get("arguments", {}).get("command-line", request["execute"])
                seen.append(command)
                known = command in answers or command == "qmp_capabilities"
                answer = {"return": answers.get(command, "")} if known else {"error": "unknown"}
                if "id" in request:
                    answer["id"] = request["id"]
                if command == "stop":
                    time.sleep(0.3)  # QEMU's takes its time: whoever else reads is there by then
                stream.write(EVENT + json.dumps(answer).encode() + b"\r\n")
                stream.flush()
        except OSError:
            return  # it has what it wanted
