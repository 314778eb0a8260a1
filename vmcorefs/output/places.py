"""What ``-o`` names: a file of this machine, standard output, another machine, a store."""

from __future__ import annotations

import os
import sys
from urllib.parse import unquote, urlsplit

from vmcorefs.errors import ConfigError
from vmcorefs.output.local import LocalTarget
from vmcorefs.output.stream import StreamTarget
from vmcorefs.output.target import Target
from vmcorefs.sources.evidence import NOTHING, Evidence
from vmcorefs.system import urls
from vmcorefs.system.urls import LOCAL, without_password

STDOUT = "-"


def scheme_of(output: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path.

    Raises:
        ConfigError: if it is neither, but names a file of another machine as scp does.
    """
    scheme = urls.scheme_of(output)
    if scheme is not None:
        return scheme
    meant = find_meant(output)
    if meant is not None:
        raise ConfigError(
            f"{output}: did you mean {meant}? (for a file of that name here, write ./{output})"
        )
    return None


def check_place(output: str) -> None:
    """Refuse what names no place, before there is anything to write.

    Raises:
        ConfigError: if it is no path and no URL, or an incomplete URL of a file or of ssh.
    """
    if is_local(output):
        local_path(output)
    elif scheme_of(output) == "ssh":
        # here and below: most dumps are written to a file
        from vmcorefs.output.ssh import parse_place  # noqa: PLC0415

        parse_place(output)


def find_meant(output: str) -> str | None:
    """The URL that is meant by ``user@host:/path`` and the like; None for a path.

    Taken as a path, each would be a file of this machine.
    """
    front, slash, _ = output.partition("/")
    user, at, host = front.rpartition("@")
    path = output[len(front) :]
    if slash and host.endswith(":") and len(host) > 1:
        host = host[:-1]
    elif user and not host.startswith("[") and host.count(":") == 1:  # below the user's home
        host, _, home = host.partition(":")
        path = f"/{home}{path}"
    elif not user or not host:
        return None
    if slash and os.path.isdir(os.path.dirname(output)):
        return None  # a directory may have such a name
    if host in LOCAL and not user:
        return f"file://{path}"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"ssh://{user}{at}{host}{path or '/PATH'}"


def is_local(output: str) -> bool:
    """Whether it is a file of this machine, which is written in any order and can be resumed."""
    return output != STDOUT and scheme_of(output) in {None, *LOCAL}


def local_path(output: str) -> str:
    """The path in a ``file://`` URL; anything else as it is.

    fsspec would write such a file too, but it syncs nothing.

    Raises:
        ConfigError: if there is none in it.
    """
    if scheme_of(output) not in LOCAL:
        return output
    parts = urlsplit(output)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(f"{without_password(output)}: expected file:///path")
    return unquote(parts.path)


def open_target(
    output: str,
    *,
    force: bool,
    evidence: Evidence = NOTHING,
    resume: bool = False,
    reach: int = 0,
    hashed: bool = True,
) -> Target:
    """Open the place that ``output`` names, as its module says.

    Args:
        output: A path, ``-``, ``ssh://...``, or a URL that fsspec knows.
        force: Replace what is there.
        evidence: What it may not be.
        resume: Continue what an earlier try has left.
        reach: Bytes that the file may get at most.
        hashed: Its sum will be asked for.

    Raises:
        ConfigError: if it exists and is not to be replaced, or cannot be what it should be.
        UnsupportedError: if it needs what is not installed, or cannot be written.
        OutputError: if it cannot be made.
    """
    scheme = scheme_of(output)
    if output == STDOUT:
        return _open_stdout(evidence, resume=resume, hashed=hashed)
    if scheme is None or scheme in LOCAL:
        path = local_path(output)
        return LocalTarget(path, force=force, resume=resume, hashed=hashed, evidence=evidence)
    if scheme == "ssh":
        from vmcorefs.output.ssh import SshTarget  # noqa: PLC0415

        return SshTarget(output, force=force, resume=resume, hashed=hashed)
    from vmcorefs.output.store import StoreTarget  # noqa: PLC0415

    return StoreTarget(output, force=force, resume=resume, reach=reach, hashed=hashed)


def _open_stdout(evidence: Evidence, *, resume: bool, hashed: bool) -> StreamTarget:
    if resume:
        raise ConfigError("standard output cannot be resumed: name a file for --resume")
    if sys.stdout.isatty():
        raise ConfigError("standard output is a terminal: name a file, or use a pipe")
    evidence.refuse_open("standard output", sys.stdout.fileno())
    return StreamTarget("standard output", sys.stdout.fileno(), hashed=hashed)


def log_name(name: str) -> str:
    """What the kernel's log is called beside a dump.

    ``vmcore-dmesg.txt`` beside ``vmcore``, as in kdump-utils (kdump-lib-initramfs.sh), and
    ``dmesg.STAMP`` beside ``dump.STAMP``, as in Debian's kdump-tools (kdump-config): whatever
    collects those finds it.
    """
    directory, file = os.path.split(name)
    if file.startswith("dump."):
        return os.path.join(directory, f"dmesg.{file.removeprefix('dump.')}")
    return os.path.join(directory, f"{file}-dmesg.txt")


def part_names(name: str, count: int) -> list[str]:
    """What the parts of a dump in ``count`` parts are called."""
    return [name] if count == 1 else [f"{name}.{number}" for number in range(1, count + 1)]
