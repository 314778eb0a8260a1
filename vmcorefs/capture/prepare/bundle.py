"""vmcorefs, its Python and its libraries as a few files below a directory, for an initramfs.

::

    DIR/usr/bin/vmcorefs              a shell script that runs the next
    DIR/usr/lib/vmcorefs/bin/         python3; mount and umount, which busybox has in part
    DIR/usr/lib/vmcorefs/lib/python3.11/   modules, compiled, with no source beside them
    DIR/lib/...                       shared libraries, where they are in this system

The interpreter finds its modules by its own place, so nothing of it gets in another Python's way.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from vmcorefs.capture.prepare.closure import (
    Module,
    codec_libraries,
    find_libraries,
    find_modules,
)
from vmcorefs.capture.prepare.without_blas import drop_blas, is_blas, without_sanity_check
from vmcorefs.capture.programs import complaint, run
from vmcorefs.errors import OutputError, UnsupportedError

HOME = "usr/lib/vmcorefs"
_SCRIPT = """\
#!/bin/sh
PATH=/{home}/bin:$PATH
export PATH OPENBLAS_NUM_THREADS=1
exec /{home}/bin/python3 -I -S -B /{home}/main.py "$@"
"""
_MAIN = """\
import os, sys
sys.setdlopenflags(os.RTLD_LAZY)  # Python's own RTLD_NOW asks for functions that are never called
from vmcorefs.cli import main
main(prog_name="vmcorefs")
"""
_PROGRAMS = ("mount", "umount")
_TRIAL = ("capture", "try")


class Bundle(msgspec.Struct, frozen=True):
    """What was put together.

    Attributes:
        modules: How many modules of Python.
        libraries: How many shared libraries.
        size: Bytes of all files.
        has_blas: Whether numpy's linear algebra is among them.
    """

    modules: int
    libraries: int
    size: int
    has_blas: bool


def make_bundle(directory: str, codec: str) -> Bundle:
    """Copy vmcorefs and all that it needs below ``directory``, and see that it runs.

    numpy's linear algebra, 28 MiB that nothing here calls, is carried only if numpy does not load
    without it.

    Args:
        directory: The root of an initramfs that is being made.
        codec: The codec of the dump that it will save.

    Raises:
        OutputError: if a file cannot be written.
        UnsupportedError: if something that it needs is not here, or it does not run there.
    """
    try:
        bundle = _make(directory, codec, blas=False)
        reason = _try(directory)
        if reason is not None:
            shutil.rmtree(os.path.join(directory, HOME))
            bundle = _make(directory, codec, blas=True)
            reason = _try(directory)
    except OSError as error:
        raise OutputError(f"{directory}: cannot copy vmcorefs there: {error}") from error
    if reason is not None:
        raise UnsupportedError(f"{directory}: vmcorefs does not run there: {reason}")
    return bundle


def _make(directory: str, codec: str, *, blas: bool) -> Bundle:
    modules = find_modules(codec)
    home = os.path.join(directory, HOME)
    place = os.path.join(home, "lib", f"python3.{sys.version_info.minor}")
    os.makedirs(os.path.join(place, "lib-dynload"), exist_ok=True)
    copied = [_copy_module(module, place, blas=blas) for module in modules]
    interpreter = os.path.realpath(sys.executable)
    python = os.path.join(home, "bin", "python3")
    _copy(interpreter, python)
    programs = [_find_program(name) for name in _PROGRAMS]
    copied += [_copy(path, os.path.join(home, "bin", os.path.basename(path))) for path in programs]
    extensions = [module.path for module in modules if module.is_extension]
    loaded = codec_libraries(codec)
    linked = {*loaded, *find_libraries([interpreter, *programs, *extensions, *loaded])}
    libraries = [path for path in linked if blas or not is_blas(path)]
    own = _site_directories(modules)
    for library in libraries:
        relative = _below(os.path.normpath(library), own)
        copied.append(
            _copy(library, os.path.join(place, relative))
            if relative is not None
            else _copy(library, directory + os.path.normpath(library))
        )
    script = os.path.join(directory, "usr/bin/vmcorefs")
    os.makedirs(os.path.dirname(script), exist_ok=True)
    Path(script).write_text(_SCRIPT.format(home=HOME), "utf-8")
    os.chmod(script, 0o755)  # noqa: S103  # a program
    main = os.path.join(home, "main.py")
    Path(main).write_text(_MAIN, "utf-8")
    size = sum(os.path.getsize(path) for path in {*copied, python, script})
    return Bundle(len(modules), len(libraries), size, blas)


def _find_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UnsupportedError(f"{name}: not found in {os.environ.get('PATH', '')}")
    return path


def _copy_module(module: Module, place: str, *, blas: bool) -> str:
    path = os.path.join(place, module.place)
    if module.is_extension:
        _copy(module.path, path)
        if not blas:
            drop_blas(path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _compile(module, path, blas=blas)
    return path


def _compile(module: Module, path: str, *, blas: bool) -> None:
    """Compile a module, without its source's path."""
    tree = ast.parse(Path(module.path).read_bytes())
    if module.name == "numpy" and not blas:
        tree = without_sanity_check(tree)
    code = compile(tree, f"<{module.name}>", "exec", dont_inherit=True)
    # Lib/importlib/_bootstrap_external.py, _code_to_hash_pyc: unchecked, as there is no source
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    Path(path).write_bytes(header + marshal.dumps(code))


def _copy(source: str, path: str) -> str:
    """Copy a program or a library, without what only debuggers read.

    Others are left as they are: strip breaks those that auditwheel has patched. What strip cannot
    do is not worth an error: it leaves the file as it was (strip(1) writes another, and renames).
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    shutil.copyfile(source, path)
    os.chmod(path, 0o755)  # noqa: S103  # programs and libraries: not mount's setuid bit
    if shutil.which("strip") is not None and _has_debug_sections(source):
        run(["strip", "--strip-unneeded", path], f"{path}: cannot strip")
    return path


def _has_debug_sections(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            return ELFFile(file).get_section_by_name(".debug_info") is not None
        except ELFError:
            return False


def _site_directories(modules: Iterable[Module]) -> list[str]:
    """Directories of installed packages that have libraries of their own (``numpy.libs``)."""
    tops = {
        os.path.dirname(os.path.dirname(module.path))
        for module in modules
        if module.is_package and "." not in module.name
    }
    return sorted(tops, key=len, reverse=True)


def _below(path: str, directories: Iterable[str]) -> str | None:
    """``path`` relative to the one of ``directories`` that it is below; None if there is none."""
    for directory in directories:
        if path.startswith(f"{directory}/") and "site-packages" in directory:
            return os.path.relpath(path, directory)
    return None


def _try(directory: str) -> str | None:
    """Run it in there; None if it runs, otherwise why not."""
    python = [f"/{HOME}/bin/python3", "-I", "-S", "-B", f"/{HOME}/main.py"]
    done = run(["chroot", directory, *python, *_TRIAL], f"{directory}: cannot try it there")
    return complaint(done) if done.returncode else None
