"""/etc/vmcorefs.toml: what is read, and what is refused, with the line that it stands in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmcorefs.capture.prepare.initramfs import format_settings
from vmcorefs.capture.settings import Settings, load_settings, parse_duration, parse_settings
from vmcorefs.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "systemd" / "vmcorefs.toml"

BAD = [
    ("[target\n", r".*: Expected '\]' at the end of a table declaration .*"),
    (
        "[target]\ndirectry = '/x'",
        r"f:2: target\.directry: no such key; there are directory, filesystem, .*, url",
    ),
    ("\n[targets]\na = 1", r"f:2: \[targets\]: no such key; there are target, dump, .*"),
    ("x = 1", r"f:1: x: no such key; there are target, dump, keep, finish, load"),
    ("dump = 3", r"f:1: dump: expected `object`, got `int`"),
    ("[dump]\n\nlevel = 32", r"f:3: dump\.level: dump level '32': expected 0 to 31, .*"),
    ("[dump]\nlevel = '31,triage'", r"f:2: dump\.level: dump level 'triage': expected 0 to 31, .*"),
    ("[dump]\nlevel = 'triage,'", r"f:2: dump\.level: dump level '': expected 0 to 31, .*"),
    ("[dump]\nlevel = '1,x'", r"f:2: dump\.level: dump level 'x': expected 0 to 31, .*"),
    (
        "[dump]\nformat = 'kdmp'",
        r"f:2: dump\.format: 'kdmp': expected kdump, elf or vmcore",
    ),
    (
        "[finish]\nsuccess = 'reboot'\nfailure = 'explode'",
        r"f:3: finish\.failure: 'explode': expected reboot, poweroff, halt or shell",
    ),
    ("[finish]\ntimeout = '3 days'", r"f:2: finish\.timeout: '3 days': expected a time, .*"),
    ("[finish]\ntimeout = 0", r"f:2: finish\.timeout: 0: expected a time, .*"),
    ("[finish]\nstay = 1", r"f:2: finish\.stay: expected `bool`, got `int`"),
    ("[keep]\ndumps = 0", r"f:2: keep\.dumps: expected `int` >= 1"),
    ("[keep]\nfree = 'some'", r"f:2: keep\.free: 'some': expected .* a size, .*"),
    ("[target]\ndirectory = 'crash'", r"f:2: target\.directory: 'crash': .* an absolute path"),
    ("[target]\nfilesystem = 'sda1'", r"f:2: target\.filesystem: 'sda1': expected UUID=, .*"),
    ("[target]\nfilesystem = 'ID=x'", r"f:2: target\.filesystem: 'ID=x': expected UUID=, .*"),
    ("[target]\nurl = 'dir'", r"f:2: target\.url: 'dir': expected a URL, .*"),
    ("[target]\nurl = 'host:/dir'", r"f:2: .*'host:/dir': did you mean ssh://host/dir\?"),
    ("[target]\nurl = 'crash@host'", r"f:2: .*'crash@host': did you mean ssh://crash@host/PATH\?"),
    ("[target]\nurl = 'ssh://host'", r"f:2: target\.url: ssh://host: expected ssh://.*"),
    ("[target]\nurl = 'ssh://[::g]/d'", r"f:2: target\.url: .*'::g' is no IPv6 address.*"),
    ("[target]\nurl = 'ssh://u:p@h/d'", r"f:2: target\.url: ssh://h: ssh takes no password .*"),
    (
        "[target]\nfilesystem = 'LABEL=x'\nurl = 'ssh://host/dir'",
        r"f:3: target\.url: 'ssh://host/dir': either a url or a filesystem, not both",
    ),
    (
        "[target]\nurl = 'ssh://h/d'\n[load]\nsave_from = 'initramfs'",
        r"f:4: load\.save_from: an initramfs has no network: a url needs save_from = 'root'",
    ),
    ("[load]\nremove = ['a', 3]", r"f:2: load\.remove\[1\]: expected `str`, got `int`"),
]


@pytest.mark.parametrize(
    "url",
    [
        "ssh://crash@[fe80::1%eth0]:22/srv/crash/",
        "ssh://[fe80::1%25enp0s31f6]/srv",
        "ssh://a_b.c/%20x",
        "ssh://[2001:db8::5]/x",
    ],
)
def test_a_url_is_taken_as_save_takes_it(url: str) -> None:
    assert parse_settings(f"[target]\nurl = '{url}'").target.url == url


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "f")
    assert re.fullmatch(message, str(caught.value)), caught.value


def test_the_shipped_file_says_the_defaults() -> None:
    assert load_settings(str(SHIPPED)) == Settings()


def test_the_shipped_file_names_every_key() -> None:
    text = SHIPPED.read_text()
    for table in Settings.__struct_fields__:
        for key in type(getattr(Settings(), table)).__struct_fields__:
            assert re.search(rf"^#?{key} = ", text, re.MULTILINE), f"{table}.{key}"


def test_no_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load_settings(str(tmp_path / "none")) == Settings()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("3min", 180), ("2h", 7200)]
)
def test_times(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("level", "has_triage", "levels"),
    [
        ("31", False, (31,)),
        ("'triage'", True, ()),
        ("'triage,31'", True, (31,)),
        ("'triage,1,31'", True, (1, 31)),
    ],
)
def test_a_triage_dump_comes_before_the_levels(
    level: str, has_triage: bool, levels: tuple[int, ...]
) -> None:
    dump = parse_settings(f"[dump]\nlevel = {level}").dump
    assert (dump.has_triage, dump.levels) == (has_triage, levels)


def test_settings_are_written_as_they_are_read() -> None:
    settings = parse_settings(
        """
        [target]
        filesystem = "LABEL=dumps"
        options = 'a="b",c=\\d'
        [dump]
        level = "1,31"
        [finish]
        stay = true
        timeout = 7
        [load]
        remove = ["x", "y"]
        """
    )
    assert settings.target.options == 'a="b",c=\\d'
    assert settings.load.remove == ("x", "y")
    assert parse_settings(format_settings(settings)) == settings
