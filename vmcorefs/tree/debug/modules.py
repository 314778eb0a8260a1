"""``modules/NAME.ko.debug``: a debug file for each loaded module, and how gdb gets them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile, text_file

log = logging.getLogger(__name__)

MODULES: Final = "modules"
"""The directory of the tree that has the files."""


def modules_directory(find: Callable[[], DebugModules]) -> TreeDirectory:
    """The directory; each file is made when it is first asked for."""

    def find_files() -> Iterator[TreeFile]:
        modules = find()
        for name in modules.tables:
            yield text_file(_path_of(name), partial(modules.make, name))

    return TreeDirectory(MODULES, find_files)


def iter_gdb_commands(find: Callable[[], DebugModules], location: str) -> Iterator[str]:
    """What has gdb load the files, a line each; what cannot be had is left out and logged."""
    try:
        modules = find()
        for name in modules.tables:
            file = os.path.join(location, _path_of(name))
            places = "".join(f" -s {section} {at:#x}" for section, at in modules.sections(name))
            yield f"add-symbol-file {quote(file)}{places}"
    except VmcorefsError as error:
        log.warning("gdbinit: not all modules: %s", error)


def quote(path: str) -> str:
    """A path as one word of a command of gdb's that takes several (libiberty's ``buildargv``)."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _path_of(name: str) -> str:
    return f"{MODULES}/{name}.ko.debug"
