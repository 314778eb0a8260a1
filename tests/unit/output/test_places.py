"""What -o names."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.matching import exactly
from vmcorefs.cli import main
from vmcorefs.errors import ConfigError
from vmcorefs.output.places import is_local, local_path, log_name, open_target, part_names
from vmcorefs.output.ssh import SshPlace, parse_place


@pytest.mark.parametrize(
    ("output", "log"),
    [
        # kdump-utils and Debian's kdump-tools
        ("/var/crash/127.0.0.1-2024-01-02-03:04:05/vmcore", "vmcore-dmesg.txt"),
        ("/var/crash/202401020304/dump.202401020304", "dmesg.202401020304"),
        ("vmcore", "vmcore-dmesg.txt"),
        ("ssh://h/crash/vmcore", "vmcore-dmesg.txt"),
        ("a.kdump", "a.kdump-dmesg.txt"),
    ],
)
def test_the_log_is_called_what_the_distributions_call_it(output: str, log: str) -> None:
    assert log_name(output) == output.rpartition("/")[0] + ("/" if "/" in output else "") + log


def test_parts_have_numbers() -> None:
    assert part_names("vmcore", 1) == ["vmcore"]
    assert part_names("vmcore", 3) == ["vmcore.1", "vmcore.2", "vmcore.3"]


@pytest.mark.parametrize(
    ("output", "local"),
    [
        ("vmcore", True),
        ("./s3:/x", True),
        ("file:///vmcore", True),
        ("-", False),
        ("ssh://h/x", False),
        ("S3://b/k", False),
    ],
)
def test_files_of_this_machine_are_told_from_others(output: str, *, local: bool) -> None:
    assert is_local(output) is local


def test_a_file_url_is_a_path() -> None:
    assert local_path("file:///var/my%20crash") == "/var/my crash"
    assert local_path("var/my%20crash") == "var/my%20crash"
    with pytest.raises(ConfigError, match=exactly("file://host/x: expected file:///path")):
        local_path("file://host/x")


def test_an_ssh_url_is_taken_apart() -> None:
    assert parse_place("ssh://root@[::1]:2222/var/my%20crash") == SshPlace(
        "root@::1", 2222, "/var/my crash"
    )
    assert parse_place("ssh://host/x") == SshPlace("host", None, "/x")


@pytest.mark.parametrize(
    "url",
    ["ssh://host", "ssh://host/", "ssh:///x", "ssh://h/a%00b", "ssh://h/a%0Ab", "ssh://h:x/y"],
)
def test_an_ssh_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^ssh://.*: expected ssh://"):
        parse_place(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_place("ssh://root:secret@host/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),  # RFC 6874
        ("root@[fe80::a:b%25enp0s31f6]:22", "root@fe80::a:b%enp0s31f6"),
        ("[fe80::1%wl-bond.1_x]", "fe80::1%wl-bond.1_x"),
        ("[fe80::1%25br%2d0]", "fe80::1%br-0"),
        ("[fe80::1%25]", "fe80::1%25"),  # interface 25
        ("[fe80::1%ab]", "fe80::1%ab"),
        ("[fe80::1%25ab]", "fe80::1%ab"),
        ("[::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
        ("my%2dhost", "my-host"),
        ("me%40corp@host", "me@corp@host"),
    ],
)
def test_any_host_is_taken_as_ssh_takes_it(host: str, destination: str) -> None:
    assert parse_place(f"ssh://{host}/x").destination == destination


@pytest.mark.parametrize("host", ["[::g]", "[fe80]", "[]", "[::1%]x", "[%eth0]"])
def test_what_is_no_address_is_refused_in_brackets(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^ssh://.*(is no IPv6 address|expected ssh://)"):
        parse_place(f"ssh://{host}/x")


def test_an_address_without_brackets_is_told_where_they_go() -> None:
    with pytest.raises(ConfigError, match=r"; an IPv6 address stands in \[\]$"):
        parse_place("ssh://fe80::1%eth0/x")


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "%2doProxyCommand=x", "a;b", "a%20b", "$(x)"])
@pytest.mark.parametrize("front", ["", "user@"])
def test_a_host_or_user_cannot_pass_for_something_else(host: str, front: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be the name of a (host|user)$"):
        parse_place(f"ssh://{front}{host}/y")
    with pytest.raises(ConfigError, match=r"cannot be the name of a (host|user)$"):
        parse_place(f"ssh://{host}@host/y")


@pytest.mark.parametrize(
    ("output", "meant"),
    [
        ("core@host:/var/crash/x", "ssh://core@host/var/crash/x"),
        ("core@host:x", "ssh://core@host/x"),
        ("core@host:", "ssh://core@host/"),
        ("core@host", "ssh://core@host/PATH"),
        ("core@host/var/crash", "ssh://core@host/var/crash"),
        ("host:/var/crash", "ssh://host/var/crash"),
        ("core@192.0.2.1:/x", "ssh://core@192.0.2.1/x"),
        ("core@[fe80::1%eth0]:/x", "ssh://core@[fe80::1%eth0]/x"),
        ("[2001:db8::5]:/x", "ssh://[2001:db8::5]/x"),
        ("core@fe80::1%eth0:/x", "ssh://core@[fe80::1%eth0]/x"),
        ("file:/x/y", "file:///x/y"),
    ],
)
def test_what_scp_would_take_is_no_file_of_this_machine(output: str, meant: str) -> None:
    message = f"{output}: did you mean {meant}? (for a file of that name here, write ./{output})"
    for take in (is_local, local_path):
        with pytest.raises(ConfigError, match=exactly(message)):
            take(output)
    with pytest.raises(ConfigError, match=exactly(message)):
        open_target(output, force=False)


@pytest.mark.parametrize("output", ["core@host:/x", "ssh://[::g]/x", "file://host/x", "ssh://h/"])
@pytest.mark.parametrize("command", [["save"], ["extract", "vmcore"]])
def test_what_names_no_place_is_refused_before_the_image_is_opened(
    output: str, command: list[str]
) -> None:
    done = CliRunner().invoke(main, [*command, "/no such image", "-o", output])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"vmcorefs: {output}: ")


@pytest.mark.parametrize(
    "output", ["./core@host", "/a@b/c:/d", "a:b", "dump:2026", "x/core@host:/y", "@x", "x@", ":/x"]
)
def test_other_names_are_paths(output: str) -> None:
    assert is_local(output)
    assert local_path(output) == output


def test_a_directory_may_look_like_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("core@host", "host:"):
        (tmp_path / name).mkdir()
        assert is_local(f"{name}/vmcore")


@pytest.mark.parametrize("letter", [*"'\"\\!$`%;&|<>(){}[]*?~#^ \n\t", "é", "\udcff"])
def test_a_script_reaches_sh_through_any_login_shell(letter: str, tmp_path: Path) -> None:
    """What csh and fish change in quotes is not in it; seen with tcsh 6.24 and fish 3.6 too."""
    out = tmp_path / "out"
    script = f"printf %s {shlex.quote('a' + letter + 'b')} >{shlex.quote(str(out))}\n"
    *_, remote = parse_place("ssh://host/x").command(script)
    inside = remote.removeprefix("exec sh -c '").removesuffix("'")
    assert not {*inside} & {*"'!\n"}
    assert all(part[:1] == "0" and part[1:4].isdigit() for part in inside.split("\\")[1:])
    subprocess.run(["sh", "-c", remote], check=True)
    assert out.read_bytes() == os.fsencode(f"a{letter}b")


@pytest.mark.parametrize("output", ["-", "ssh://host/x", "memory://x"])
def test_only_a_local_file_is_gone_on_from(output: str) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        open_target(output, force=False, resume=True)
