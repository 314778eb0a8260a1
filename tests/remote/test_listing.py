"""Dumps of `vmcorefs triage` on a web server."""

from __future__ import annotations

from tests.remote.servers import serving
from vmcorefs.fleet.listing import find_dumps


def test_a_file_on_a_web_server_is_listed_and_not_read() -> None:
    with serving(bytes(1 << 20)) as web:
        (dump,) = find_dumps([web.url], "elsewhere")

        assert (dump.place, dump.size) == (web.url, 1 << 20)
        assert dump.etag != ""
        assert web.moved == 0
