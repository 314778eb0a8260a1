"""Asking debuginfod servers for a debug file, with elfutils' ``debuginfod-find``."""

from __future__ import annotations

import os

from vmcorefs.errors import ConfigError

PROGRAM = "debuginfod-find"
SERVERS = "DEBUGINFOD_URLS"
"""The variable of the environment that names the servers (debuginfod-client-config(7))."""

LIMIT = 900.0
"""Seconds that an answer may take: a kernel's debug file has some 600 MiB."""


def fetch_debuginfo(build_id: str, limit: float = LIMIT) -> str:
    """The path of the debug file of a build, which the program keeps in its own cache.

    Args:
        build_id: In hexadecimal.
        limit: Seconds that it may take.

    Raises:
        ConfigError: if it cannot be asked, or has none.
    """
    if not os.environ.get(SERVERS):
        raise ConfigError(f"debuginfod: no servers to ask, set {SERVERS}")
    import subprocess  # noqa: PLC0415  # few who open an image ask

    try:
        done = subprocess.run(
            [PROGRAM, "debuginfo", build_id],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"debuginfod: no {PROGRAM} here, install elfutils' client") from error
    except OSError as error:
        raise ConfigError(f"debuginfod: cannot run {PROGRAM}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"debuginfod: no answer within {limit:g} s") from error
    path = os.fsdecode(done.stdout.strip())
    if done.returncode or not path:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise ConfigError(f"debuginfod: no debug file of build {build_id}: {reason}")
    return path
