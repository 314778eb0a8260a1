"""A dump on another machine, by the ssh program and a shell there.

The bytes and the name are two connections. In one, ``cat > X.incomplete && mv X.incomplete X``
would give the name to half a dump: when this side dies, the other sees only the end of its input,
and continues. So a second command gives the name; it is sent once everything has been sent, and
compares the size first.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from contextlib import suppress
from ipaddress import IPv6Address
from typing import IO, cast
from urllib.parse import unquote

import msgspec

from vmcorefs.errors import ConfigError, DiskFullError, OutputError, UnsupportedError
from vmcorefs.output.stream import SequentialTarget
from vmcorefs.output.target import INCOMPLETE
from vmcorefs.system.urls import without_password

# no question can be answered from a capture kernel, and a dead link must not hang it
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)
_READY = b"ready\n"
_EXISTS, _LEFT = 17, 18
_PATIENCE = 60.0

_REFUSE = """
if [ -e {path} ] || [ -L {path} ]; then exit {exists}; fi
if [ -e {incomplete} ] || [ -L {incomplete} ]; then exit {left}; fi
"""
_REMOVE = "rm -f -- {incomplete}"

# coreutils' sync takes files; older and smaller ones ignore them and sync the whole machine
_RECEIVE = """
umask 077
{prepare}
set -C
exec 3>{incomplete} || exit 1
echo ready
cat >&3 || exit 1
exec 3>&-
sync -- {incomplete}
"""

_PUBLISH = """
size=$(wc -c <{incomplete}) || exit 1
if [ "$size" -ne {size} ]; then
  echo "{size} bytes were sent, but $size arrived" >&2
  exit 1
fi
{refuse}
mv -f -- {incomplete} {path} || exit 1
sync -- {directory}
"""


class SshPlace(msgspec.Struct, frozen=True):
    """``ssh://[user@]host[:port]/path``, taken apart.

    Attributes:
        destination: What the ssh program is given, ``user@host``.
        port: Its port, or None for what ssh's own configuration says.
        path: The absolute path there.
    """

    destination: str
    port: int | None
    path: str

    def command(self, script: str) -> list[str]:
        r"""The command that runs ``script`` there, whatever the user's login shell is.

        ssh gives a command to that shell. csh ends a quoted word at a newline and takes ``!`` out
        of it, fish unescapes backslashes in it: the word has none of these but ``\0`` and digits,
        which all leave as they are, and the sh that it starts decodes (printf(1), ``%b``).
        """
        port = ["-p", str(self.port)] if self.port is not None else []
        word = "".join(chr(b) if b in _PLAIN else f"\\0{b:03o}" for b in os.fsencode(script))
        remote = f"""exec sh -c 'eval "$(printf %b "{word}")"'"""
        return ["ssh", *_OPTIONS, *port, "--", self.destination, remote]


_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b"'\"\\!$`")
"""What stands for itself in both kinds of quotes, in any shell."""

_PLACE = re.compile(
    r"ssh://(?:(?P<user>[^@:/]+)(?P<password>:[^@/]*)?@)?"
    r"(?P<host>\[[^\[\]/]+\]|[^@:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>/.*[^/])",
    re.IGNORECASE,
)
# what OpenSSH takes itself (ssh.c, valid_hostname and valid_ruser), as a ProxyCommand may get it
_NAME = re.compile(r"(?!-)[^\s'`\"$\\;&<>|(){}/\x00-\x1f\x7f]+")


def parse_place(url: str) -> SshPlace:
    """Take an ``ssh://`` URL apart.

    Raises:
        ConfigError: if it lacks its host or path, or has a password in it.
    """
    match = _PLACE.fullmatch(url)
    path = unquote(match["path"]) if match else ""
    if match is None or any(character in path for character in "\0\n"):
        brackets = (
            "; an IPv6 address stands in []" if url.partition("://")[2].count(":") > 1 else ""
        )
        shown = without_password(url)
        raise ConfigError(f"{shown}: expected ssh://[user@]host[:port]/path/of/a/file{brackets}")
    host, user = _read_host(url, match["host"]), unquote(match["user"] or "")
    if match["password"] is not None:
        raise ConfigError(f"ssh://{host}: ssh takes no password here; give it a key")
    for what, name in (("host", host), ("user", user)):
        if name and not _NAME.fullmatch(name):
            raise ConfigError(f"{url}: {name!r} cannot be the name of a {what}")
    destination = f"{user}@{host}" if user else host
    return SshPlace(destination, int(match["port"]) if match["port"] else None, path)


def _read_host(url: str, text: str) -> str:
    """A host as ssh takes it: an IPv6 address with its zone and without its brackets."""
    if not text.startswith("["):
        return unquote(text)
    address, percent, zone = text[1:-1].partition("%")
    if zone.startswith("25") and len(zone) > 2:  # %25eth0: RFC 6874 quotes the % in a URL
        zone = unquote(zone[2:])
    try:
        IPv6Address(address)
    except ValueError:
        raise ConfigError(f"{url}: {address!r} is no IPv6 address, which stands in []") from None
    return f"{address}{percent}{zone}"


class SshTarget(SequentialTarget):
    """A file on another machine; see ``Target``."""

    def __init__(self, url: str, *, force: bool, resume: bool = False, hashed: bool = True) -> None:
        """Connect, and make ``path.incomplete`` there.

        Raises:
            ConfigError: if the path exists there, or ``resume`` is asked for.
            OutputError: if the file cannot be made there; the message is ssh's own, or the shell's.
            UnsupportedError: if there is no ssh program.
        """
        if resume:
            raise ConfigError(
                f"{url}: --resume works for local files only: what has arrived there cannot be"
                " checked from here"
            )
        super().__init__(url, hashed=hashed)
        self.incomplete = f"{url}{INCOMPLETE}"
        self._place = parse_place(url)
        self._force = force
        # a file: a pipe would fill up, as it is not read while the dump is sent
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            self._ssh = self._start()
        except BaseException:
            self._errors.close()
            raise
        # both are pipes: _start says so
        self._input: IO[bytes] = cast("IO[bytes]", self._ssh.stdin)
        self._answer: IO[bytes] = cast("IO[bytes]", self._ssh.stdout)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        names = {
            "path": shlex.quote(self._place.path),
            "incomplete": shlex.quote(self._place.path + INCOMPLETE),
        }
        prepare = _REMOVE if self._force else _REFUSE
        prepare = prepare.format(exists=_EXISTS, left=_LEFT, **names)
        script = _RECEIVE.format(prepare=prepare, **names)
        try:
            return subprocess.Popen(
                self._place.command(script),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the saver: it says how far it got
            )
        except OSError as error:
            raise UnsupportedError(f"{self.name}: cannot run ssh: {error.strerror}") from error

    def _wait_until_ready(self) -> None:
        # not the first line: a login may greet
        for line in self._answer:
            if line == _READY:
                return
        status = self._ssh.wait()
        if status == _EXISTS:
            raise ConfigError(f"{self.name}: exists already; pass --force to replace it")
        if status == _LEFT:
            raise ConfigError(
                f"{self.incomplete}: an earlier try has left it, or another process is writing it;"
                " pass --force to start over"
            )
        raise self._failed(f"ssh ended with status {status}")

    def _send(self, data: memoryview) -> None:
        try:
            self._input.write(data)
        except OSError as error:
            self._end()
            raise self._failed(error.strerror or str(error)) from error

    def sync(self) -> None:
        """See ``Target.sync``: the other side syncs when its input ends."""
        try:
            self._input.close()
        except OSError as error:
            self._end()
            raise self._failed(error.strerror or str(error)) from error
        status = self._ssh.wait()
        if status != 0:
            raise self._failed(f"ssh ended with status {status}")

    def publish(self) -> None:
        """See ``Target.publish``."""
        path = self._place.path
        quoted = shlex.quote(path)
        script = _PUBLISH.format(
            path=quoted,
            incomplete=shlex.quote(path + INCOMPLETE),
            size=self.sent,
            refuse=""
            if self._force
            else f"if [ -e {quoted} ] || [ -L {quoted} ]; then echo exists >&2; exit 1; fi",
            directory=shlex.quote(path.rpartition("/")[0] or "/"),
        )
        done = subprocess.run(
            self._place.command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            raise self._failed(f"ssh ended with status {done.returncode}")

    def close(self) -> None:
        """See ``Target.close``."""
        self._end()
        self._errors.close()

    def _end(self) -> None:
        """Close the connection; what has arrived there stays there."""
        for pipe in (self._input, self._answer):
            with suppress(OSError):  # it may be broken already
                pipe.close()
        try:
            self._ssh.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()

    def _failed(self, reason: str) -> OutputError:
        """The error to raise: the messages of ssh or the shell, or else ``reason``."""
        self._errors.seek(0)
        said = self._errors.read(65536).decode("utf-8", "replace").strip().splitlines()
        words = "; ".join(line.strip() for line in said[-4:] if line.strip())
        words = "".join(letter if letter.isprintable() else "?" for letter in words)
        message = f"{self.name}: {words or reason}"
        return (DiskFullError if "No space left" in words else OutputError)(message)
