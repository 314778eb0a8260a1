"""Inputs against digests that were taken before, by coreutils; and which files they are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.builders.dead_machines import Saved, dead_machine
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import ConfigError, DigestError, FormatError
from vmcorefs.cli import main
from vmcorefs.core.digests import AUTO
from vmcorefs.reports.verify import expected_digests, verify
from vmcorefs.sources.file import FileSource

NAMES = "sha512, sha384, sha256, sha224, sha1, md5"


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return dead_machine().save(tmp_path)


@pytest.fixture
def source(saved: Saved) -> Iterator[FileSource]:
    source = FileSource(str(saved.ram), role="image")
    yield source
    source.close()


def sums(directory: Path, *names: str, algorithm: str = "sha256") -> Path:
    """What coreutils say of files of a directory, in one file there."""
    command = [f"{algorithm}sum", "--", *names]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=True)
    path = directory / f"{algorithm.upper()}SUMS"
    path.write_bytes(done.stdout)
    return path


def sidecar(path: Path, algorithm: str) -> str:
    done = subprocess.run([f"{algorithm}sum", path], capture_output=True, text=True, check=True)
    value = done.stdout.split()[0]
    Path(f"{path}.{algorithm}").write_text(value)  # LiME ends it with no line feed
    return value


def check(source: FileSource, where: Path | str) -> list[str]:
    return list(verify(expected_digests([source], str(where)), lambda *_: None))


def test_an_input_that_is_as_it_was(saved: Saved, source: FileSource) -> None:
    read: list[tuple[int, int]] = []
    expected = expected_digests([source], str(sums(saved.ram.parent, "ram", "iomem")))
    (line,) = verify(expected, lambda *how_far: read.append(how_far))
    assert line.startswith(f"{saved.ram}: 3 MiB, sha256 ")
    assert line.endswith(": as expected")
    assert read[-1] == (source.size, source.size)
    assert source.digest == expected[0][1]


def test_one_byte_that_is_another_is_told_with_both_digests(
    saved: Saved, source: FileSource
) -> None:
    path = sums(saved.ram.parent, "ram")
    expected = path.read_text().split()[0]
    with saved.ram.open("rb+") as file:
        file.seek(0x123456)
        file.write(b"\xa5")
    identity = source.identity_now
    assert identity != source.identity
    again = FileSource(str(saved.ram), role="image")
    assert again.identity == identity
    found = sums(saved.ram.parent, "ram").read_text().split()[0]
    path.write_text(f"{expected}  ram\n")
    with pytest.raises(
        DigestError, match=exactly(f"{saved.ram}: its sha256 is {found}, expected {expected}")
    ):
        check(again, path)
    assert again.digest is None
    again.close()


def test_the_file_that_is_open_is_verified_whatever_takes_its_name(
    saved: Saved, source: FileSource
) -> None:
    path = sums(saved.ram.parent, "ram")
    other = saved.ram.parent / "other"
    other.write_bytes(b"another machine")
    os.replace(other, saved.ram)
    (line,) = check(source, path)
    assert line.endswith(f"sha256 {path.read_text().split()[0]}: as expected")


def test_an_input_that_changes_while_it_is_read(saved: Saved, source: FileSource) -> None:
    path = sums(saved.ram.parent, "ram")

    def touch(*_: int) -> None:
        os.utime(saved.ram, ns=(1, 1))

    with pytest.raises(DigestError, match=r"ram: changed while it was read: .*1970-01-01"):
        list(verify(expected_digests([source], str(path)), touch))
    assert source.digest is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_a_digest_beside_the_image(saved: Saved, source: FileSource, algorithm: str) -> None:
    value = sidecar(saved.ram, algorithm)
    assert check(source, AUTO) == [f"{saved.ram}: 3 MiB, {algorithm} {value}: as expected"]
    Path(f"{saved.ram}.{algorithm}").write_text("0" * len(value))
    with pytest.raises(DigestError, match=f"is {value}, expected 000"):
        check(source, AUTO)


def test_of_several_digests_beside_it_the_strongest_counts(
    saved: Saved, source: FileSource
) -> None:
    sidecar(saved.ram, "sha256")
    Path(f"{saved.ram}.md5").write_text("0" * 32)
    assert "sha256" in check(source, AUTO)[0]


def test_holes_are_zeros(tmp_path: Path) -> None:
    with (tmp_path / "ram").open("wb") as file:
        file.seek(9 << 20)
        file.write(b"end")
    source = FileSource(str(tmp_path / "ram"), role="image")
    assert len(check(source, sums(tmp_path, "ram"))) == 1
    source.close()


def test_a_file_of_that_name_elsewhere_and_the_file_itself(
    saved: Saved, source: FileSource
) -> None:
    path = sums(saved.ram.parent, "ram")
    line = path.read_text()
    path.write_text(f"{'0' * 64}  elsewhere/ram\n{line}")
    assert len(check(source, path)) == 1
    # its directory has been renamed, and the name alone is left to go by
    path.write_text(line.replace("ram", "/no/longer/ram"))
    assert len(check(source, path)) == 1
    path.write_text(f"{'0' * 64}  elsewhere/ram\n{line.replace('ram', '/no/longer/ram')}")
    with pytest.raises(ConfigError, match="2 digests for files named ram, expected one"):
        check(source, path)


def test_what_cannot_be_verified_says_why(saved: Saved, source: FileSource) -> None:
    at = saved.ram.parent
    for where, message in (
        (at / "no", f"{at}/no: cannot read the digests: No such file or directory"),
        (sums(at, "iomem"), f"{at}/SHA256SUMS: no line for ram, expected one"),
        (
            AUTO,
            f"{at}/ram: no digest beside it: expected {at}/ram.sha256, or of another of {NAMES}",
        ),
    ):
        with pytest.raises(ConfigError, match=exactly(message)):
            check(source, where)
    (at / "SUMS").write_text("nothing\n")
    with pytest.raises(FormatError, match=r"SUMS: line 1: 'nothing', expected a digest"):
        check(source, at / "SUMS")
    (at / "ram.md5").write_text("nothing\n")
    with pytest.raises(FormatError, match=r"ram\.md5: 'nothing', expected 32 hexadecimal digits"):
        check(source, AUTO)


def test_a_character_device_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "SUMS").write_text("0" * 64 + "  /dev/zero\n")
    source = FileSource("/dev/zero", role="image", size_if_unknown=4096)
    with pytest.raises(ConfigError, match="a character device has no end, and so no digest"):
        check(source, tmp_path / "SUMS")
    source.close()


# --- the command ---------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_says_a_line_for_each_input(saved: Saved) -> None:
    at = saved.ram.parent
    (at / "capture.toml").write_text(
        'map = "iomem"\n[[image]]\npath = "ram"\n[backup]\npath = "lowmem"\n'
    )
    path = sums(at, "ram", "lowmem")
    done = run("verify", "--sums", path, at / "capture.toml")
    assert done.exit_code == 0
    assert [line.split(":")[0] for line in done.output.splitlines()] == [
        f"{at}/ram",
        f"{at}/lowmem",
    ]
    saved.lowmem.write_bytes(saved.lowmem.read_bytes()[::-1])
    done = run("verify", "--sums", path, at / "capture.toml")
    assert done.exit_code == 4
    assert f"vmcorefs: {at}/lowmem: its sha256 is " in done.output


def test_two_pieces_of_one_file_are_read_once(saved: Saved) -> None:
    value = sidecar(saved.ram, "sha1")
    done = run("verify", f"{saved.ram}@0+1M", f"{saved.ram}@1M:1M")
    assert done.output == f"{saved.ram}: 3 MiB, sha1 {value}: as expected\n"


def test_every_command_verifies_first_and_then_tells_the_digest(saved: Saved) -> None:
    at = saved.ram.parent
    path = sums(at, "ram")
    value = path.read_text().split()[0]
    given = ["--verify", path, "--map", saved.iomem, saved.ram]
    report = json.loads(run("inspect", "--json", *given).output)
    assert report["inputs"][0]["digest"] == {"sha256": value}
    done = run("extract", "layout.json", *given, "-o", at / "layout")
    assert done.exit_code == 0, done.output
    assert json.loads((at / "layout").read_text())["inputs"][0]["digest"] == {"sha256": value}
    saved.ram.write_bytes(saved.ram.read_bytes() + b"\0")
    for command in (["inspect"], ["check"], ["extract", "vmcore", "-o", at / "out"]):
        done = run(*command, *given)
        assert done.exit_code == 4, done.output
        assert f"expected {value}" in done.output
    assert not (at / "out").exists()


# --- identity ------------------------------------------------------------------------------------


def test_layout_json_and_inspect_say_which_files_they_are(
    saved: Saved, open_capture: Opener
) -> None:
    os.utime(saved.ram, ns=(0, 1_700_000_000_123_456_789))
    status = saved.ram.stat()
    expected = {
        "path": str(saved.ram),
        "role": "image",
        "kind": "file",
        "size": 3 << 20,
        "device": f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}",
        "inode": status.st_ino,
        "mtime_ns": 1_700_000_000_123_456_789,
        "version": None,
        "wrappers": [],
        "format": "raw memory",
        "digest": None,
    }
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=f"{saved.lowmem}@0x1000")
    layout = json.loads(capture["layout.json"].pread(1 << 20, 0))
    assert layout["inputs"][0] == expected
    assert layout["inputs"][1]["role"] == "backup"
    assert layout["inputs"][1]["size"] == saved.lowmem.stat().st_size
    done = run("inspect", "--json", "--map", saved.iomem, saved.ram)
    assert json.loads(done.output)["inputs"][0].items() >= expected.items()


def test_an_identity_in_words(saved: Saved) -> None:
    for time, words in (
        (1_700_000_000_123_456_789, "written 2023-11-14T22:13:20.123456789Z"),
        (1, "written 1970-01-01T00:00:00.000000001Z"),
    ):
        os.utime(saved.ram, ns=(0, time))
        source = FileSource(str(saved.ram), role="image")
        assert str(source.identity).startswith("3145728 bytes, device ")
        assert str(source.identity).endswith(words)
        source.close()
