"""Which files vmcorefs needs to run: modules of Python, and shared libraries.

Found by importing everything of vmcorefs in a Python of its own, and by reading what its functions
import when they are called. A capture initramfs lies in memory: what is not used stays out.
"""

from __future__ import annotations

import json
import os
import re
import sys

import msgspec

from vmcorefs.capture.programs import complaint, run
from vmcorefs.errors import UnsupportedError
from vmcorefs.native import pages as native
from vmcorefs.save.codecs import find_codec

_LIST_MODULES = r"""
import ast, importlib, importlib.util, json, pkgutil, sys
# 100 MiB that a report alone can use, and do without; and what shares out the work of `triage`
LEFT_OUT = ("dask", "distributed", "drgn", "pyarrow")
sys.modules.update(dict.fromkeys(LEFT_OUT))
import vmcorefs

def load_if_here(name):
    # a name in a module is tried too: most of these are none
    try:
        importlib.import_module(name)
    except Exception:  # one for another system, or an optional one
        pass

def load_own():
    for module in pkgutil.walk_packages(vmcorefs.__path__, "vmcorefs."):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            if (getattr(error, "name", None) or "").partition(".")[0] in LEFT_OUT:
                continue
            sys.exit(f"{module.name}: {type(error).__name__}: {error}")

def imports_of(module):
    if not module.__file__.endswith(".py"):
        return  # an extension
    with open(module.__file__, "rb") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            name = importlib.util.resolve_name(name, module.__spec__.parent)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)

load_own()
# what functions import when they are called
ours = ("vmcorefs", "click")
own = [module for name, module in sys.modules.items() if name.split(".")[0] in ours]
for name in {name for module in own for name in imports_of(module)}:
    load_if_here(name)
from vmcorefs.save.codecs import find_codec
find_codec(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
found = {}
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None)
    if path and name not in ("__main__", "__mp_main__") and getattr(module, "__spec__", None):
        found[module.__spec__.name] = [path, hasattr(module, "__path__")]
json.dump(found, sys.stdout)
"""

ALWAYS = (
    *("encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.utf_8"),
    *("subprocess", "ctypes", "zlib", "traceback", "linecache", "pkgutil"),
)
"""Modules that Python, click and argument handling import by name, when they need them."""

_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)


class Module(msgspec.Struct, frozen=True):
    """One module of Python.

    Attributes:
        name: Its full name.
        path: Its file: source, or an extension.
        is_package: Whether it may hold others.
    """

    name: str
    path: str
    is_package: bool

    @property
    def is_extension(self) -> bool:
        """Whether it is machine code."""
        return not self.path.endswith(".py")

    @property
    def place(self) -> str:
        """Where it belongs below a directory of modules; a source is there as ``.pyc``."""
        base = self.name.replace(".", "/")
        if self.is_extension:
            directory = base if self.is_package else os.path.dirname(base)
            return os.path.join(directory, os.path.basename(self.path))
        return f"{base}/__init__.pyc" if self.is_package else f"{base}.pyc"


def find_modules(codec: str, python: str = sys.executable) -> list[Module]:
    """Every module that vmcorefs, and Python itself, needs.

    Args:
        codec: The codec that is to be used: it may have a library.
        python: The interpreter that has vmcorefs.

    Raises:
        UnsupportedError: if it cannot run vmcorefs; names a module of vmcorefs that fails.
        OutputError: if there is no such interpreter.
    """
    failure = f"{python}: cannot list vmcorefs' modules"
    done = run([python, "-P", "-c", _LIST_MODULES, codec, *ALWAYS], failure)
    if done.returncode:
        raise UnsupportedError(f"{failure}: {complaint(done)}")
    found = json.loads(done.stdout)
    return [Module(name, path, package) for name, (path, package) in sorted(found.items())]


def codec_libraries(codec: str) -> list[str]:
    """The shared libraries that are loaded for a codec when a dump is written, as no dependency."""
    library = native.library_of(int(find_codec(codec).flag))
    return [library] if library is not None else []


def find_libraries(paths: list[str]) -> set[str]:
    """Absolute paths of the shared libraries that programs and extensions need, by ldd(1).

    Raises:
        UnsupportedError: if one is missing, or ldd does not know.
        OutputError: if ldd cannot be run.
    """
    libraries: set[str] = set()
    for path in paths:
        done = run(["ldd", path], "cannot run ldd")
        if done.returncode and "not a dynamic executable" not in done.stdout + done.stderr:
            raise UnsupportedError(f"{path}: ldd does not know what it needs: {complaint(done)}")
        missing = _MISSING.findall(done.stdout)
        if missing:
            raise UnsupportedError(f"{path}: needs {', '.join(missing)}, which is not here")
        libraries.update(_LIBRARY.findall(done.stdout))
    return libraries
