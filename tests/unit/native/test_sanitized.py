"""The machine code's tests once more, where it is built with the compiler's sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import vmcorefs.native

HERE = Path(vmcorefs.native.__file__).parent
TREE = HERE.parents[1]
TESTS = ("tests/unit/native/test_pages.py", "tests/property/test_native_pages.py")
RUN = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("vmcorefs.native._pages", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["vmcorefs.native._pages"] = module
import vmcorefs.native
vmcorefs.native._pages = module
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""


def build(path: Path) -> None:
    include = sysconfig.get_paths()["include"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    command = ["gcc", "-shared", "-fPIC", "-DPy_LIMITED_API=0x030b0000", f"-I{include}", *checks]
    subprocess.run([*command, "-o", path, *HERE.glob("*.c")], check=True)


@pytest.mark.needs("gcc")
@pytest.mark.timeout(600)
def test_no_sanitizer_complains(tmp_path: Path) -> None:
    library = tmp_path / "_pages.so"
    build(library)
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        # Python itself keeps memory to its end
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, library, *TESTS],
        cwd=TREE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
