"""Members of archives: by name, the only one, sparse ones, those that cannot be opened."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.builders.dead_machines import dead_machine
from tests.builders.packed import DATA, gzip_member
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs import ConfigError, FormatError, UnsupportedError
from vmcorefs.config import make_config
from vmcorefs.sources.evidence import gather
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.unwrap import AS_USUAL, unwrap

pytestmark = pytest.mark.usefixtures("cache")


def tar(*members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        directory = tarfile.TarInfo("evidence")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def opened(path: Path, member: str = "") -> File:
    return unwrap(FileSource(str(path), role="image"), AS_USUAL, member)[0]


def whole(file: File) -> bytes:
    buffer = bytearray(file.size)
    file.pread_into(0, memoryview(buffer))
    file.close()
    return bytes(buffer)


@pytest.mark.parametrize(
    ("pack", "wrappers"),
    [
        (tar, ("tar",)),
        (lambda *members: tar(*members, form=tarfile.GNU_FORMAT), ("tar",)),
        (lambda *members: gzip_member(tar(*members)), ("gzip", "tar")),
        (zipped, ("zip",)),
        (lambda *members: zipped(*members, method=zipfile.ZIP_STORED), ("zip",)),
    ],
)
def test_a_member_is_named_or_is_the_only_one(
    pack: object, wrappers: tuple[str, ...], tmp_path: Path
) -> None:
    assert callable(pack)
    path = tmp_path / "archive"
    path.write_bytes(pack(("evidence/" + "x" * 150, DATA)))
    file = opened(path)
    assert file.file.wrappers == wrappers
    same_bytes(whole(file), DATA)
    path.write_bytes(pack(("notes.txt", b"seen"), ("evidence/ram", DATA), ("ram.sum", b"1")))
    same_bytes(whole(opened(path, "evidence/ram")), DATA)
    for member, said in (("", "with not one member"), ("x", "with no member 'x'")):
        with pytest.raises(ConfigError, match=f"{said}, but 'notes.txt', 'evidence/ram'"):
            opened(path, member)


def test_a_sparse_member_of_gnu_tar(tmp_path: Path) -> None:
    """Its holes are holes: nobody reads them."""
    with (tmp_path / "ram").open("wb") as ram:
        for at in (1 << 20, 5 << 20, 6 << 20):
            ram.seek(at)
            ram.write(DATA[:4096])
        ram.truncate(8 << 20)
    for form in ("gnu", "posix"):
        path = tmp_path / form
        command = ["tar", "-C", str(tmp_path), f"--format={form}", "-Scf", str(path), "ram"]
        subprocess.run(command, check=True)
        assert path.stat().st_size < 1 << 20
        file = opened(path)
        assert file.next_data(0, file.size) == 1 << 20
        assert file.is_hole(2 << 20, 1 << 20)
        assert not file.is_hole(4 << 20, 2 << 20)
        same_bytes(whole(file), (tmp_path / "ram").read_bytes())


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(zipped(("ram", DATA), method=zipfile.ZIP_BZIP2))
    with pytest.raises(UnsupportedError, match="compressed by method 12 of zip"):
        opened(path)
    data = bytearray(zipped(("ram", DATA)))
    data[6] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match="it is encrypted"):
        opened(path)
    # of a version that zipfile does not have, by the central directory (APPNOTE, 4.3.12)
    data = bytearray(zipped(("ram", DATA)))
    data[data.index(b"PK\1\2") + 6] = 90
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match="a zip archive that is not read: zip file ve"):
        opened(path)
    path.write_bytes(zipped(("ram", DATA))[:-30])
    with pytest.raises(FormatError, match="a zip archive that cannot be read"):
        opened(path)
    path.write_bytes(tar(("ram", DATA))[:-100_000])
    with pytest.raises(FormatError, match=r"ends past the end|cannot be read"):
        opened(path)
    path.write_bytes(gzip_member(DATA))
    with pytest.raises(ConfigError, match="it is no archive, expected one with 'ram' in it"):
        opened(path, "ram")


def test_an_image_is_named_in_its_archive(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    archive = tmp_path / "evidence.tar.gz"
    ram, low = saved.ram.read_bytes(), saved.lowmem.read_bytes()
    archive.write_bytes(gzip_member(tar(("e/ram", ram), ("e/low", low))))
    given = {"memory_map": saved.iomem}
    plain = open_capture(saved.ram, backup=saved.lowmem, **given)["vmcore"]
    capture = open_capture(archive / "e/ram", backup=archive / "e/low", **given)
    vmcore = capture["vmcore"]
    same_bytes(vmcore.pread(vmcore.size, 0), plain.pread(plain.size, 0))
    assert capture.image.inputs[0].wrappers == ("gzip", "tar")


def test_an_archive_is_evidence(tmp_path: Path) -> None:
    archive = tmp_path / "evidence.tar"
    archive.write_bytes(tar(("ram", DATA)))
    evidence = gather(make_config([archive / "ram"]))
    with pytest.raises(ConfigError, match="this is the input"):
        evidence.refuse(str(archive))
