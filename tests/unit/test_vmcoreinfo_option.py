"""``--vmcoreinfo`` in its three forms: on the command line, in TOML, and as an argument."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.builders.dead_machines import (
    HIGH,
    bare_machine,
    dead_machine,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.kernels import NOTE_AT, make_kernel
from tests.conftest import Opener
from tests.matching import exactly
from vmcorefs import ConfigError
from vmcorefs.cli import main
from vmcorefs.config import load_capture_file
from vmcorefs.options import parse_vmcoreinfo_choice

OTHER = vmcoreinfo_text("5.10.0-given")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("auto", (None, True)),
        ("none", (None, False)),
        ("0x3ffd0000", (0x3FFD0000, True)),
        ("0X3FFD0000", (0x3FFD0000, True)),
        ("4096", (4096, True)),
        ("AUTO", ("AUTO", True)),
        ("info", ("info", True)),
        ("0x", ("0x", True)),
        ("4G", ("4G", True)),
        ("3ffd0000", ("3ffd0000", True)),
        ("-1", ("-1", True)),
        ("٣", ("٣", True)),
        ("", ("", True)),
    ],
)
def test_it_is_found_or_left_out_or_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    choice: tuple[str | int | None, bool],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_vmcoreinfo_choice(text) == choice


def test_a_file_whose_name_is_a_number_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("4096").touch()
    assert parse_vmcoreinfo_choice("4096") == ("4096", True)
    assert parse_vmcoreinfo_choice("4096", "/nowhere") == (4096, True)
    Path("0x10").symlink_to("nowhere")
    assert parse_vmcoreinfo_choice("0x10") == ("0x10", True)


@pytest.mark.parametrize("text", ["0x" + "f" * 16, "9" * 19, "9" * 5000])
def test_an_address_above_all_memory_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_vmcoreinfo_choice(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"auto"', (None, True)),
        ('"none"', (None, False)),
        ("0x1000", (0x1000, True)),
        ('"0x1000"', (0x1000, True)),
        ('"/abs/info"', ("/abs/info", True)),
    ],
)
def test_the_key_of_a_capture_description(
    tmp_path: Path, value: str, expected: tuple[str | int | None, bool]
) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text(f'vmcoreinfo = {value}\n[[image]]\npath = "ram"\n')
    config = load_capture_file(str(toml))
    assert (config.vmcoreinfo, config.use_vmcoreinfo) == expected


def test_a_path_in_a_capture_description_starts_where_it_is(tmp_path: Path) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text('vmcoreinfo = "info"\n[[image]]\npath = "ram"\n')
    assert load_capture_file(str(toml)).vmcoreinfo == str(tmp_path / "info")


def test_a_number_in_a_capture_description_is_no_file(tmp_path: Path) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text('vmcoreinfo = 4096\n[[image]]\npath = "ram"\n')
    (tmp_path / "4096").touch()
    assert load_capture_file(str(toml)).vmcoreinfo == 4096


@pytest.mark.parametrize("value", ["-1", "1.5", "true", "[]", "1979-05-27"])
def test_what_the_key_cannot_be(tmp_path: Path, value: str) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text(f'vmcoreinfo = {value}\n[[image]]\npath = "ram"\n')
    with pytest.raises(ConfigError):
        load_capture_file(str(toml))


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(one) for one in arguments], catch_exceptions=True)
    return done.exit_code, done.output


def test_the_option(tmp_path: Path) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    info = tmp_path / "info"
    info.write_bytes(kernel.text.replace(b"6.1.0-test", b"6.1.0-told"))
    for choice, words in (
        ("auto", "6.1.0-test"),
        (str(info), "6.1.0-told"),
        (hex(kernel.base + NOTE_AT), "6.1.0-test"),
    ):
        status, output = run("inspect", "--vmcoreinfo", choice, ram)
        assert status == 0
        assert words in output
    status, output = run("inspect", "--json", "--vmcoreinfo", info, ram)
    assert json.loads(output)["inputs"][0]["path"] == str(ram)
    assert len(json.loads(output)["inputs"]) == 1


def test_a_file_that_cannot_be_made_does_not_end_inspect(tmp_path: Path) -> None:
    """These kernels have no banner and no uts namespace, so no ``version``."""
    ram = make_kernel().save(tmp_path / "ram")
    status, output = run("inspect", ram)
    assert status == 0
    assert "version  cannot be made" in output
    status, output = run("inspect", "--json", ram)
    files = json.loads(output)["files"]
    assert files["version"] is None
    assert files["vmcore"] > 0


def test_it_takes_the_place_of_what_the_elfcorehdr_names(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine().save(tmp_path)
    (tmp_path / "info").write_bytes(OTHER)
    capture = open_capture(saved.ram, memory_map=saved.iomem, vmcoreinfo=tmp_path / "info")
    notes = capture.image.notes
    assert notes.vmcoreinfo is not None
    assert notes.vmcoreinfo.release == "5.10.0-given"
    assert not any(slot.is_vmcoreinfo for slot in notes.slots)
    note = vmcoreinfo_note(OTHER)
    assert (notes.given, notes.size) == (note, 356 * 2 + len(note))
    plain = open_capture(saved.ram, memory_map=saved.iomem)
    cpus = plain["crash_notes"].pread(356 * 2, 0)
    assert capture["crash_notes"].pread(notes.size, 0) == cpus + note


def test_it_is_in_the_note_segment_of_vmcore_and_in_layout_json(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = bare_machine().save(tmp_path)
    (tmp_path / "info").write_bytes(OTHER)
    capture = open_capture(saved.ram, memory_map=saved.iomem, vmcoreinfo=tmp_path / "info")
    header = capture["vmcore"].pread(64 + 56, 0)
    offset = int.from_bytes(header[72:80], "little")
    size = int.from_bytes(header[96:104], "little")
    note = vmcoreinfo_note(OTHER)
    assert size == len(note)
    assert capture["vmcore"].pread(size, offset) == note
    layout = json.loads(capture["layout.json"].pread(capture["layout.json"].size, 0))
    (row,) = (
        r
        for r in layout["files"]["vmcore"]["extents"]
        if r.get("from") == "made" and r["offset"] == offset
    )
    assert row == {
        "offset": offset,
        "size": size,
        "kind": "data",
        "from": "made",
        "source": "notes that were added",
        "source_offset": 0,
    }
    # memory is where it was
    assert capture["oldmem"].pread(16, HIGH[0]) == saved.ram.read_bytes()[HIGH[0] : HIGH[0] + 16]


def test_it_is_padded_as_notes_are(tmp_path: Path, open_capture: Opener) -> None:
    saved = bare_machine().save(tmp_path)
    for odd in range(4):
        text = OTHER + b"A=" + b"x" * odd + b"\n"
        (tmp_path / "info").write_bytes(text)
        capture = open_capture(saved.ram, memory_map=saved.iomem, vmcoreinfo=tmp_path / "info")
        assert capture.image.notes.given == vmcoreinfo_note(text)
        assert capture["crash_notes"].size == len(vmcoreinfo_note(text))


def test_a_file_that_is_not_there(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    message = f"{tmp_path}/nowhere: cannot read VMCOREINFO: No such file or directory"
    with pytest.raises(ConfigError, match=exactly(message)):
        open_capture(saved.ram, memory_map=saved.iomem, vmcoreinfo=tmp_path / "nowhere")


def test_an_address_without_a_note(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    for paddr in (0x140000, 1 << 61, 1 << 70):
        with pytest.raises(ConfigError, match=exactly(f"no VMCOREINFO note at {paddr:#x}")):
            open_capture(saved.ram, memory_map=saved.iomem, vmcoreinfo=paddr)
