"""Debug files of modules: what they are made of, and types that go on where the kernel's end."""

from __future__ import annotations

import json

from tests.builders import btf as btf_kinds
from tests.builders.btf import Writer
from tests.builders.kallsyms import make_table
from tests.builders.module_parts import (
    ARCH,
    BTF_MODULES,
    CODE,
    DATA,
    LAYOUT,
    PERCPU,
    SECT_ATTRS,
    SYMBOLS,
    PartsMachine,
)
from tests.builders.modules import BASE, HEAD
from tests.fuzz.memory import pack, prefixed, split, unpack
from tests.fuzz.target import target
from vmcorefs.core.debuginfo.dwarf import Places, make_dwarf
from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.isf import ModuleTypes, SymbolFile
from vmcorefs.core.debuginfo.module import code_of, lay_out, make_module
from vmcorefs.core.debuginfo.reached import keep_reached, prepare
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.structures.module_parts import ModuleReader
from vmcorefs.core.structures.types.btf_table import read_types
from vmcorefs.errors import VmcorefsError

TABLE = make_table(SYMBOLS)

# --- types ---------------------------------------------------------------------------------------


def _kernel() -> Writer:
    btf = Writer()
    btf.add(btf_kinds.INT, "int", 4, [1 << 24 | 32])
    btf.add_struct("inner", 8, [("next", 3, 0)])
    btf.add(btf_kinds.PTR, "", 2)
    btf.add_struct("outer", 16, [("inner", 2, 0), ("count", 1, 64)])
    btf.add(btf_kinds.ARRAY, "", 0, [4, 1, 3])
    btf.add(btf_kinds.TYPEDEF, "outer_t", 4)
    btf.add(btf_kinds.TYPE_TAG, "rcu", 6)
    return btf


KERNEL = _kernel()
FIRST = 8


def _module() -> Writer:
    btf = Writer(names=len(KERNEL.strings))
    btf.add_struct("own", 24, [("all", 5, 0), ("next", FIRST + 1, 128)])
    btf.add(btf_kinds.PTR, "", 7)
    btf.add_list(btf_kinds.FUNC_PROTO, "", 1, [("own", FIRST + 1), ("", 0)])
    btf.add(btf_kinds.FUNC, "ext4_write", FIRST + 2, vlen=1)
    btf.add(btf_kinds.DECL_TAG, "kfunc", FIRST + 3, [0])
    return btf


def _looping() -> Writer:
    btf = _module()
    btf.add(btf_kinds.TYPEDEF, "loop", FIRST + 6)
    btf.add(btf_kinds.CONST, "", FIRST + 5)
    return btf


def _beyond() -> Writer:
    btf = _module()
    btf.add(btf_kinds.PTR, "", 0xFFFFFFFF)
    return btf


def _deep() -> Writer:
    btf = _module()
    for inner in range(FIRST + 4, FIRST + 3000):
        btf.add_struct("box", 4, [("inner", inner, 0)])
    return btf


def _one_name() -> Writer:
    """Many names that are ends of one long name."""
    btf = _module()
    at = btf.name("x" * 20000)
    for number in range(4000):
        btf.types += (at + number).to_bytes(4, "little") + b"\0\0\0\x08" + b"\1\0\0\0"
    return btf


def _types_seed(module: Writer) -> bytes:
    return prefixed(KERNEL.finish(), module.finish())


@target(
    "module-types",
    valid=[_types_seed(_module())],
    nasty=[
        _types_seed(_looping()),
        _types_seed(_beyond()),
        _types_seed(_deep()),
        _types_seed(_one_name()),
        prefixed(KERNEL.finish(), KERNEL.finish()),
    ],
)
def _make_types(data: bytes) -> None:
    first, rest = split(data)
    own = read_types(first, "<")
    whole = read_types(rest, "<", own)
    types = keep_reached(prepare(own), whole)
    places = Places({"ext4_write": (CODE, 16)}, {"x": 8}, {}, (CODE, 64), "ext4.ko")
    made = make_dwarf(types, places, {}, byte_order="<", char_is_signed=True)
    assert len(made.strings) < len(data) + 100
    assert len(made.entries.info) < 100 * len(data) + 1000
    file = SymbolFile(own, char_is_signed=True)
    file.add_module(ModuleTypes("ext4", whole, len(own)))
    said = json.loads(file.finish(TABLE, {}, b""))
    named = {"struct": said["user_types"], "enum": said["enums"], "base": said["base_types"]}
    for it in said["user_types"].values():
        for field in it["fields"].values():
            described = field["type"].get("type", field["type"])
            if described["kind"] in ("enum", "base"):
                assert described["name"] in named[described["kind"]]


# --- parts ---------------------------------------------------------------------------------------


def _machine(*, newer: bool = False) -> tuple[PartsMachine, int]:
    machine = PartsMachine(newer=newer)
    at = machine.add("ext4", SYMBOLS, {})
    machine.dress(at)
    machine.describe(at, _module().finish(), FIRST, len(KERNEL.strings))
    machine.put(at + PERCPU, "QI", 0x34000, 0x40)
    return machine, at


def _parts_seed(machine: PartsMachine, at: int, outside: int = 0) -> bytes:
    blocks = {HEAD: bytes(machine.image[:32]), BASE: bytes(machine.image[: machine.end])}
    module = f"SYMBOL(module)={BASE + at:x}\n".encode()
    return prefixed(machine.btf(), pack(module, blocks, outside))


def _changed(field: int, layout: str, *values: int, newer: bool = False) -> bytes:
    machine, at = _machine(newer=newer)
    machine.put(at + field, layout, *values)
    return _parts_seed(machine, at, 2)


def _overlapping() -> bytes:
    machine, at = _machine(newer=True)
    machine.dress(at, [(f".text.{n}", CODE + n) for n in range(200)], code=(CODE, 1 << 27))
    machine.put(at + LAYOUT, "QIIQII", CODE, 1 << 27, 0, CODE - 8, 1 << 27, 0)
    return _parts_seed(machine, at)


@target(
    "module-parts",
    valid=[_parts_seed(*_machine()), _parts_seed(*_machine(newer=True))],
    nasty=[
        _parts_seed(*_machine(), 1),
        _parts_seed(*_machine(newer=True), 129),
        _changed(SECT_ATTRS, "Q", 1),
        _changed(SECT_ATTRS, "Q", DATA, newer=True),
        _changed(LAYOUT, "QIII", CODE, *[(1 << 32) - 1] * 3),
        _changed(LAYOUT, "QI", (1 << 64) - 8, 1 << 28, newer=True),
        _changed(PERCPU, "QI", CODE - 8, 1 << 28),
        _changed(ARCH, "QQQ", 0xFFFFFFFF, CODE, CODE),
        _overlapping(),
    ],
)
def _make_parts(data: bytes) -> None:
    btf, packed = split(data)
    told, memory = unpack(packed)
    reader = ModuleReader(memory, btf)
    try:
        found = reader.find_btf(make_table([(BTF_MODULES, "d", "btf_modules")]))
        for at in found.values():
            reader.read_btf(at, FIRST, len(KERNEL.strings))
    except VmcorefsError:
        pass
    parts = reader.read(told.symbol("module"))
    sections = lay_out(parts, TABLE)
    start, size = code_of(sections)
    assert start + size <= 1 << 64
    contents = Contents(build_id=parts.build_id)
    made = make_module(TABLE, sections, contents, machine=EM_X86_64, byte_order="<")
    assert made.startswith(b"\x7fELF")
