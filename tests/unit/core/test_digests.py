"""Files of digests, as coreutils and LiME write them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.matching import exactly
from vmcorefs import FormatError
from vmcorefs.core.digests import ALGORITHMS, Digest, parse_sidecar, parse_sums

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
NAMES = "sha512, sha384, sha256, sha224, sha1, md5"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]], ids=["plain", "tag", "binary"])
@pytest.mark.parametrize(
    "name", ["ram", "a b", "line\nfeed", "back\\slash", "(x) = y", "ä", "\x85\u2028"]
)
def test_what_coreutils_print(
    tmp_path: Path, algorithm: str, options: list[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"memory")
    command = [f"{algorithm}sum", *options, "--", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    text = done.stdout.decode()
    ((found, digest),) = parse_sums(text)
    assert found == name
    assert digest.algorithm == algorithm
    assert digest.value in text


def test_comments_and_empty_lines_are_passed_over() -> None:
    assert list(parse_sums(f"# taken 2026-11-25\n\n{EMPTY_MD5.upper()}  ram\n")) == [
        ("ram", Digest("md5", EMPTY_MD5))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ram", "line 1: 'ram', expected a digest and a file name"),
        (f"\n{EMPTY_MD5}\n", f"line 2: '{EMPTY_MD5}', expected a digest and a file name"),
        (
            f"{EMPTY_MD5}00  ram",
            f"line 1: '{EMPTY_MD5}00  ram', expected a digest of {NAMES}",
        ),
        (
            f"SHA1 (ram) = {EMPTY_MD5}",
            f"line 1: 'SHA1 (ram) = {EMPTY_MD5}', expected a digest of {NAMES}",
        ),
    ],
)
def test_what_is_no_file_of_sums_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        list(parse_sums(text))


@pytest.mark.parametrize("text", [EMPTY_MD5, f"{EMPTY_MD5}\n", f" {EMPTY_MD5.upper()}  ram.lime\n"])
def test_a_sidecar(text: str) -> None:
    assert parse_sidecar(text, "md5") == Digest("md5", EMPTY_MD5)


@pytest.mark.parametrize("text", ["", "\n", "md5", EMPTY_MD5[1:], "g" + EMPTY_MD5[1:]])
def test_what_is_no_sidecar_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="expected 32 hexadecimal digits of md5"):
        parse_sidecar(text, "md5")
    with pytest.raises(FormatError, match="expected 40 hexadecimal digits of sha1"):
        parse_sidecar(EMPTY_MD5, "sha1")
