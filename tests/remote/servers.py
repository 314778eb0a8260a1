"""A web server that gives parts of one object, and can do everything wrong."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mmap import mmap
from typing import Final

STAMP: Final = "Mon, 30 Nov 2026 00:00:00 GMT"


class Server(ThreadingHTTPServer):
    """Serves ``data`` under any name.

    Attributes:
        data: The object.
        moved: Bytes that were sent.
        has_tags: Whether answers have an ETag, and requests are compared with it.
        has_ranges: Whether parts are given.
        refusals: How many requests for parts are still to be refused, with status 503.
        is_cut: Whether connections are closed without an answer.
        hangs: Cleared while requests for parts get no answer.
    """

    daemon_threads = True

    def __init__(self, data: bytes | mmap) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = data
        self._tagged: tuple[bytes | mmap, str] = b"", ""
        self.moved = 0
        self.has_tags = self.has_ranges = True
        self.refusals = 0
        self.is_cut = False
        self.hangs = threading.Event()
        self.hangs.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/image"

    @property
    def tag(self) -> str:
        if self._tagged[0] is not self.data:
            self._tagged = self.data, f'"{hashlib.sha256(self.data).hexdigest()[:16]}"'
        return self._tagged[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:  # the module's
        self._answer(200, self.server.data, is_head=True)

    def do_GET(self) -> None:
        server = self.server
        server.hangs.wait()
        if server.is_cut:
            self.close_connection = True
            return
        if server.refusals:
            server.refusals -= 1
            self._answer(503, b"")
            return
        wanted = self.headers.get("If-Match")
        if server.has_tags and wanted not in {None, server.tag}:
            self._answer(412, b"")
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part is None or not server.has_ranges:
            self._answer(200, server.data)
            return
        first, last = int(part[1]), min(int(part[2]), len(server.data) - 1)
        self._answer(206, server.data[first : last + 1], f"bytes {first}-{last}/{len(server.data)}")

    def _answer(
        self, status: int, data: bytes | mmap, part: str = "", *, is_head: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes" if self.server.has_ranges else "none")
        if self.server.has_tags:
            self.send_header("ETag", self.server.tag)
        self.send_header("Last-Modified", STAMP)
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        if not is_head:
            self.server.moved += len(data)
            self.wfile.write(data)


@contextmanager
def serving(data: bytes | mmap) -> Iterator[Server]:
    server = Server(data)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hangs.set()
        server.shutdown()
        server.server_close()
        thread.join()
