"""URLs that are shown."""

from __future__ import annotations

import pytest

from vmcorefs.system.urls import hide, without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/a/b?key=c", "/a/b?key=c"),
        ("https://host/x?part=2&y", "https://host/x?part=2&y"),
        ("https://me@host:80/x", "https://me@host:80/x"),
        ("https://me:pass@word@host/x", "https://me:***@host/x"),
        ("s3://key:secret@bucket/x", "s3://key:***@bucket/x"),
        ("smb://me:pw@[::1/x", "smb://***@[::1/x"),
        (
            "https://b.s3.amazonaws.com/x?X-Amz-Date=1&X-Amz-Credential=AK/1&X-Amz-Signature=ab#f",
            "https://b.s3.amazonaws.com/x?X-Amz-Date=1&X-Amz-Credential=***&X-Amz-Signature=***#f",
        ),
        (
            "https://s.blob.core.windows.net/c/x?sv=2021-08-06&sig=a%2Fb%3D",
            "https://s.blob.core.windows.net/c/x?sv=2021-08-06&sig=***",
        ),
        ("https://h/x?access_token=a;b=c", "https://h/x?access_token=***;b=c"),
    ],
)
def test_what_lets_others_in_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_nor_is_it_in_what_others_say_of_it() -> None:
    url = "https://me:se%40cret@host/x?sig=a%2Fbcd"
    for said in (url, "login me:se%40cret refused", "se@cret is wrong", "signature a/bcd expired"):
        told = hide(f"error: {said}.", url)
        assert "***" in told
        assert not any(one in told for one in ("se%40cret", "se@cret", "a%2Fbcd", "a/bcd"))
    assert hide("not found", url) == "not found"
