"""Which errors of a fetch are of use to try again."""

from __future__ import annotations

import pytest

from vmcorefs.sources.remote.messages import ChangedError
from vmcorefs.sources.remote.objects import is_final


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 428])
def test_what_a_server_will_say_again_is_final(status: int) -> None:
    assert is_final(StatusError(status))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert not is_final(StatusError(status))


def test_the_error_behind_another_decides() -> None:
    outer = FileNotFoundError("as fsspec says of many things")
    outer.__cause__ = StatusError(503)
    assert not is_final(outer)
    assert is_final(ChangedError())
    assert not is_final(ConnectionResetError())
