"""An object store that speaks S3, as a server of this process.

``python -m tests.object_store ADDRESS FILE`` serves one with the file in it, as
``s3://crash/FILE``, and says where.
"""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from moto.server import ThreadedMotoServer


@contextmanager
def object_store(address: str = "127.0.0.1") -> Iterator[int]:
    """The port at which an empty store answers on address."""
    server = ThreadedMotoServer(address, 0, verbose=False)
    server.start()
    _host, port = server.get_host_and_port()
    try:
        # all of moto's servers in a process share their buckets, and outlive a server that stops
        reset = urllib.request.Request(f"http://{address}:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=60).close()  # noqa: S310
        yield port
    finally:
        server.stop()


def main(address: str, file: str) -> None:
    """Serve until this is killed."""
    with object_store(address) as port:
        url = f"http://{address}:{port}"
        store = fsspec.filesystem("s3", endpoint_url=url, key="key", secret="secret")  # noqa: S106
        store.mkdir("crash")
        store.pipe(f"crash/{Path(file).name}", Path(file).read_bytes())
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
