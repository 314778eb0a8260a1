"""What -o names."""

from __future__ import annotations

import pytest

from tests.matching import exactly
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


def test_a_host_cannot_pass_for_an_option() -> None:
    command = parse_place("ssh://-oProxyCommand=x/y").command("true")
    assert command[command.index("--") + 1 :][0] == "-oProxyCommand=x"


@pytest.mark.parametrize("output", ["-", "ssh://host/x", "memory://x"])
def test_only_a_local_file_is_gone_on_from(output: str) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        open_target(output, force=False, resume=True)
