"""volatility3's symbol file of a kernel that answers as it is told."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest

from tests.builders.btf import INT, Writer
from tests.builders.kallsyms import SYMBOLS, write_kernel
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.kernel.debug.debug_modules import DebugModules
from vmcorefs.kernel.debug.debug_vmlinux import NEEDED
from vmcorefs.kernel.debug.isf import isf_name, recover_isf
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.symbols import Symbols

BUILD_ID = "ab" * 20
BANNER = b"Linux version 6.1.0 (me@here) #1\n"
OFFSET = 0x1000000
NO_MODULES = cast("DebugModules", SimpleNamespace(iter_types=lambda: ()))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"OSRELEASE=6.1.0-57-amd64\nBUILD-ID={BUILD_ID}\n", f"6.1.0-57-amd64-{BUILD_ID}.json"),
        ("OSRELEASE=6.12.117+deb12\n", "6.12.117+deb12.json"),
        (f"OSRELEASE=../../etc\nBUILD-ID={BUILD_ID}\n", f"{BUILD_ID}.json"),
        ("OSRELEASE=6.1\x1b[2J\nBUILD-ID=../ab\n", "linux.json"),
        ("", "linux.json"),
    ],
)
def test_each_build_has_a_name_of_its_own(text: str, name: str) -> None:
    kernel = SimpleNamespace(vmcoreinfo=parse_vmcoreinfo(text.encode()))
    assert isf_name(cast("Kernel", kernel)) == name


def dead() -> tuple[Kernel, Symbols]:
    btf = Writer()
    btf.add(INT, "unsigned int", 4, [32])
    written = write_kernel([*SYMBOLS, (SYMBOLS[-1][0] + 64, "D", "linux_banner")])
    told = written.vmcoreinfo.text + b"\nKERNELOFFSET=%x\nOSRELEASE=6.1.0\n" % OFFSET
    symbols = written.read()

    def symbol(name: str) -> int:
        raise FormatError(f"no {name}")

    kernel = SimpleNamespace(
        image=written.memory,
        vmcoreinfo=parse_vmcoreinfo(told),
        banner=BANNER,
        symbol=symbol,
        machine=EM_X86_64,
        byte_order="<",
        word_size=8,
    )
    return cast("Kernel", kernel), Symbols(symbols, (), btf.finish(), ())


def test_addresses_are_those_that_the_kernel_was_linked_at() -> None:
    kernel, symbols = dead()

    said = json.loads(recover_isf(kernel, symbols, NO_MODULES, NEEDED))["symbols"]

    names = ("_stext", "kallsyms_names", "kallsyms_markers")
    assert said.keys() >= {*names, "linux_banner"}
    stext = symbols.kernel.lookup("_stext") or 0
    assert said["_stext"]["address"] == stext - OFFSET
    tables = [said[name]["address"] for name in names[1:]]
    assert stext - OFFSET < tables[0] < tables[1] < tables[0] + OFFSET
    assert said["kallsyms_num_syms"]["type"] == {"kind": "base", "name": "unsigned int"}


def test_what_lacks_is_said() -> None:
    kernel, symbols = dead()
    with pytest.raises(UnsupportedError, match="too little memory"):
        recover_isf(kernel, symbols, NO_MODULES, NEEDED - 1)
    with pytest.raises(UnsupportedError, match="without the kernel's BTF"):
        recover_isf(kernel, Symbols(symbols.kernel, (), None, ()), NO_MODULES)
