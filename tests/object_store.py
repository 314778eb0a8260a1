"""An object store that speaks S3, as a server of this process."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer


@contextmanager
def object_store(address: str = "127.0.0.1") -> Iterator[int]:
    """The port at which an empty store answers on address."""
    server = ThreadedMotoServer(address, 0, verbose=False)
    server.start()
    _host, port = server.get_host_and_port()
    try:
        # all of moto's servers in a process share their buckets, and outlive a server that stops
        reset = urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=60).close()  # noqa: S310
        yield port
    finally:
        server.stop()
