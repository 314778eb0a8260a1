"""What the user asks for: pieces, and the TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.matching import exactly
from vmcorefs.config import (
    CaptureConfig,
    Options,
    is_capture_file,
    load_capture_file,
    make_config,
    options,
    override,
)
from vmcorefs.errors import ConfigError
from vmcorefs.options import parse_elfcorehdr_choice, parse_machine
from vmcorefs.piece import Piece, parse_piece


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("ram", Piece("ram")),
        ("ram@0", Piece("ram", 0)),
        ("ram@4G", Piece("ram", 4 << 30)),
        ("ram@4G:2G", Piece("ram", 4 << 30, 2 << 30)),
        ("ram@0+2G", Piece("ram", 0, 0, 2 << 30)),
        ("ram@0x100000000:0x80000000+640K", Piece("ram", 1 << 32, 1 << 31, 640 << 10)),
        ("user@host/ram@0x1000", Piece("user@host/ram", 0x1000)),
        ("dir:a+b/ram@16", Piece("dir:a+b/ram", 16)),
        ("a\nb\n@4G:2G+1G", Piece("a\nb\n", 4 << 30, 2 << 30, 1 << 30)),
        ("@4G", Piece("@4G")),
        ("ram@", Piece("ram@")),
        ("", Piece("")),
    ],
)
def test_a_piece_is_a_file_and_where_it_belongs(text: str, piece: Piece) -> None:
    assert parse_piece(text) == piece


def test_a_file_whose_name_looks_like_a_piece_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ram@4G").touch()
    assert parse_piece("ram@4G") == Piece("ram@4G")
    assert parse_piece("ram@5G") == Piece("ram", 5 << 30)


def test_a_piece_whose_address_is_none_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(
            "ram@here: 'here': expected an address or a size, such as 0x100000, 640K or 4G"
            " (FILE@PADDR[:OFFSET][+SIZE])"
        ),
    ):
        parse_piece("ram@here")


@pytest.mark.parametrize("text", ["ram@0:x", "ram@0+x", "ram@0x8000000000000000", "ram@-1"])
def test_each_part_of_a_piece_is_checked(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_piece(text)


@pytest.mark.parametrize(
    ("text", "choice"),
    [("auto", (None, True)), ("none", (None, False)), ("0x27000000", (0x27000000, True))],
)
def test_the_elfcorehdr_is_found_or_ignored_or_given(
    text: str, choice: tuple[int | None, bool]
) -> None:
    assert parse_elfcorehdr_choice(text) == choice


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("x86_64", 62),
        ("AARCH64", 183),
        ("s390", 22),
        ("ppc64", 21),
        ("62", 62),
        ("armv7l", 40),
        ("386", 3),
        ("alpha", 0x9026),
    ],
)
def test_a_machine_is_any_of_its_names_or_a_number(text: str, machine: int) -> None:
    assert parse_machine(text) == machine


@pytest.mark.parametrize("text", ["vax9000", "65536", "", "-1", "6\u0662"])
def test_an_unknown_machine_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(f"{text!r}: not an ELF machine; expected a name such as x86_64 or aarch64"),
    ):
        parse_machine(text)


def test_a_machine_number_with_more_digits_than_python_converts_is_refused() -> None:
    with pytest.raises(ConfigError):
        parse_machine("9" * 5000)


def test_one_toml_file_stands_for_a_whole_capture() -> None:
    assert is_capture_file(("capture.toml",))
    assert not is_capture_file(("ram",))
    assert not is_capture_file(("a.toml", "b.toml"))


def load(directory: Path, text: str) -> CaptureConfig:
    (directory / "capture.toml").write_text(text)
    return load_capture_file(str(directory / "capture.toml"))


WHOLE = """\
map = "iomem"
crash_kernel = ["512M+256M", "0x40000000-0x4fffffff"]
elfcorehdr = 0x2f000000
machine = "aarch64"
holes = "error"
layout = "universal"
dump_level = 31
raw_reserved = true
truncated = true
drop_torn_notes = true
pause = true

[[image]]
path = "ram"
size = "2G"

[[image]]
path = "/elsewhere/ram"
paddr = "4G"
offset = 0x80000000

[backup]
path = "sub/lowmem"
paddr = 0x1000
"""


def test_every_key_of_a_capture_description_is_read_and_paths_are_relative_to_it(
    tmp_path: Path,
) -> None:
    assert load(tmp_path, WHOLE) == CaptureConfig(
        images=(
            Piece(f"{tmp_path}/ram", None, 0, 2 << 30),
            Piece("/elsewhere/ram", 4 << 30, 2 << 30),
        ),
        memory_map=f"{tmp_path}/iomem",
        backup=Piece(f"{tmp_path}/sub/lowmem", 0x1000),
        crash_kernel=((512 << 20, 768 << 20), (1 << 30, 0x50000000)),
        elfcorehdr=0x2F000000,
        use_elfcorehdr=True,
        machine=183,
        holes="error",
        layout="universal",
        dump_level=31,
        raw_reserved=True,
        truncated=True,
        drop_torn_notes=True,
        pause=True,
    )


def test_all_but_the_image_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, '[[image]]\npath = "ram"\n') == CaptureConfig(
        images=(Piece(f"{tmp_path}/ram"),)
    )


@pytest.mark.parametrize(
    ("text", "choice"),
    [('"auto"', (None, True)), ('"none"', (None, False)), ('"1G"', (1 << 30, True))],
)
def test_the_elfcorehdrs_words_stand_in_the_file_too(
    tmp_path: Path, text: str, choice: tuple[int | None, bool]
) -> None:
    config = load(tmp_path, f'elfcorehdr = {text}\n[[image]]\npath = "ram"\n')
    assert (config.elfcorehdr, config.use_elfcorehdr) == choice


IMAGE = '[[image]]\npath = "ram"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[image]]: expected one or more, each with a path"),
        ('mapp = "iomem"\n' + IMAGE, "Object contains unknown field `mapp`"),
        (IMAGE + "addr = 0\n", "Object contains unknown field `addr` - at `$.image[0]`"),
        ("map = 1\n" + IMAGE, "Expected `str | null`, got `int` - at `$.map`"),
        ("truncated = 1\n" + IMAGE, "Expected `bool`, got `int` - at `$.truncated`"),
        ('holes = "eio"\n' + IMAGE, "Invalid enum value 'eio' - at `$.holes`"),
        ("dump_level = 32\n" + IMAGE, "Expected `int` <= 31 - at `$.dump_level`"),
        ("dump_level = -1\n" + IMAGE, "Expected `int` >= 0 - at `$.dump_level`"),
        ('layout = "h"\n' + IMAGE, "Invalid enum value 'h' - at `$.layout`"),
        ("[[image]]\n", "Object missing required field `path` - at `$.image[0]`"),
        ("[image]\n", "Expected `array`, got `object` - at `$.image`"),
        (
            IMAGE + "paddr = -1\n",
            "-1: expected an address or size from 0 to 0x4000000000000000",
        ),
        (
            IMAGE + 'size = "2X"\n',
            "'2X': expected an address or a size, such as 0x100000, 640K or 4G",
        ),
        (
            'elfcorehdr = "maybe"\n' + IMAGE,
            "'maybe': expected an address or a size, such as 0x100000, 640K or 4G",
        ),
        (
            'machine = "vax9000"\n' + IMAGE,
            "'vax9000': not an ELF machine; expected a name such as x86_64 or aarch64",
        ),
        (
            'crash_kernel = ["0x1000"]\n' + IMAGE,
            "'0x1000': expected START-END (inclusive, as in /proc/iomem) or START+SIZE",
        ),
        ("map =\n" + IMAGE, "Invalid value (at line 1, column 6)"),
    ],
)
def test_a_description_with_a_mistake_is_refused_by_its_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=exactly(f"{tmp_path}/capture.toml: {message}")):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"elfcorehdr = {'9' * 5000}\n" + IMAGE,
        f"x = {'[' * 5000}\n" + IMAGE,
        f"elfcorehdr = {10**30}\n" + IMAGE,
        "x = 1979-13-40\n",
    ],
)
def test_a_description_that_toml_itself_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, text)


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    path = f"{tmp_path}/none.toml"
    with pytest.raises(
        ConfigError,
        match=exactly(f"{path}: cannot read the capture description: No such file or directory"),
    ):
        load_capture_file(path)


def test_a_description_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "capture.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        ConfigError, match=r"^.*capture\.toml: cannot read the capture description:"
    ):
        load_capture_file(str(path))


def test_what_is_given_overrides_and_what_is_none_does_not() -> None:
    config = CaptureConfig(images=(Piece("ram"),), memory_map="iomem", holes="error")
    assert override(config, memory_map="other", holes=None, truncated=True) == CaptureConfig(
        images=(Piece("ram"),), memory_map="other", holes="error", truncated=True
    )


def test_a_word_on_the_command_line_overrides_an_address_in_the_file(tmp_path: Path) -> None:
    toml = tmp_path / "capture.toml"
    toml.write_text(f"elfcorehdr = 4096\nvmcoreinfo = 4096\n{IMAGE}")
    given: Any = {"elfcorehdr": "auto", "vmcoreinfo": "none"}  # the command gives text
    config = make_config([toml], **given)
    assert (config.elfcorehdr, config.use_elfcorehdr) == (None, True)
    assert (config.vmcoreinfo, config.use_vmcoreinfo) == (None, False)


def test_every_field_is_a_keyword_of_open_and_all_but_switches_an_option() -> None:
    fields = {*CaptureConfig.__struct_fields__} - {"images", "description", "far"}
    assert {*Options.__annotations__} == fields
    assert fields - {*options()} == {option.switch for option in options().values()} - {None}


def test_what_is_no_option_is_an_error_of_the_program() -> None:
    wrong: Any = {"hole": "error"}
    with pytest.raises(TypeError, match="hole"):
        make_config(["ram"], **wrong)
