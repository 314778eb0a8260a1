"""What the kernel keeps of its modules' sections, notes, BTF and memory, laid out by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.builders.btf import ENUM, Writer
from tests.builders.dead_machines import pack_note
from tests.builders.modules import BASE, HEAD, Machine

SECT_ATTRS, NOTES_ATTRS, PERCPU, PERCPU_SIZE, ARCH, LAYOUT = 104, 112, 120, 128, 136, 160
ATTRIBUTE, BIN_ATTRIBUTE, SECT_ATTR = 16, 40, 48
PRIVATE, SIZE, GROUP, BIN_ATTRS = 24, 16, 40, 32
BTF_MODULES = HEAD + 16
BUILD_ID = bytes(range(20))

CODE, CONSTANTS, DATA = BASE + 0x8000, BASE + 0x9000, BASE + 0xA000
SECTIONS = [
    (".text", CODE),
    (".exit.text", CODE + 0x80),
    (".rodata", CONSTANTS),
    ("__param", CONSTANTS + 0x40),
    (".data", DATA),
    (".init.text", BASE + 0xF000),  # freed
]
SYMBOLS = [
    (CODE, "t", "ext4_read"),
    (CODE + 0x20, "t", "ext4_write"),
    (CODE + 0x80, "t", "ext4_exit"),
    (CONSTANTS + 0x8, "r", "ext4_constant"),
    (DATA + 0x10, "d", "ext4_data"),
]
Region = tuple[int, int]


class PartsMachine(Machine):
    """Kernel memory with modules whose parts are known, as Linux 6.1 keeps them, or as 6.14."""

    def __init__(self, *, newer: bool = False) -> None:
        super().__init__()
        self.newer = newer
        self.end = 32  # the head of btf_modules is behind that of modules
        self.put(16, "Q", BTF_MODULES)
        self.last_btf = 16

    def dress(
        self,
        at: int,
        sections: Sequence[tuple[str, int]] = SECTIONS,
        *,
        code: Region = (CODE, 0x100),
        constants: Region = (CONSTANTS, 0x100),
        data: Region = (DATA, 0x100),
        build_id: bytes = BUILD_ID,
    ) -> None:
        """Give the module at ``at`` sections, memory and a build id."""
        note = self.store(pack_note(b"GNU", 3, build_id))
        attrs = [(name, 0, start) for name, start in sections]
        notes = [(".note.gnu.build-id", 20 + len(build_id) - 4, BASE + note)]
        self.put(at + SECT_ATTRS, "Q", self.attributes(attrs, sections=True))
        self.put(at + NOTES_ATTRS, "Q", self.attributes(notes, sections=False))
        if self.newer:
            for kind, (start, size) in enumerate((code, data, constants, (0, 0), (0, 0))):
                self.put(at + LAYOUT + 16 * kind, "QI", start, size)
        else:  # one behind the other
            ends = [start + size - code[0] for start, size in (code, constants, data)]
            self.put(at + LAYOUT, "QIII", code[0], ends[2], ends[0], ends[1])

    def attributes(self, rows: Sequence[tuple[str, int, int]], *, sections: bool) -> int:
        """A table of attributes: name, size, and what is private to it."""
        names = [BASE + self.store(name.encode() + b"\0") for name, _, _ in rows]
        own = [
            struct.pack("<QQQQQ", name, 0, size, private, 0)
            for name, (_, size, private) in zip(names, rows, strict=True)
        ]
        if self.newer:
            pointers = [BASE + self.store(entry) for entry in own]
            table = self.store(struct.pack(f"<{len(own) + 1}Q", *pointers, 0))
            return BASE + self.store(bytes(BIN_ATTRS) + struct.pack("<Q", BASE + table))
        if not sections:  # dir, notes, attrs
            return BASE + self.store(struct.pack("<QQ", 0, len(own)) + b"".join(own))
        entries = [
            entry + struct.pack("<Q", start) for entry, (*_, start) in zip(own, rows, strict=True)
        ]
        head = bytes(GROUP) + struct.pack("<Q", len(own))  # grp, nsections, attrs
        return BASE + self.store(head + b"".join(entries))

    def describe(self, at: int, btf: bytes, types: int, names: int) -> int:
        """Give the module at ``at`` BTF that goes on from these many types and bytes of names."""
        data = BASE + self.store(btf)
        held = self.store(struct.pack("<QIII", data, len(btf), types, names))
        node = self.store(struct.pack("<QQQQ", BTF_MODULES, 0, BASE + at, BASE + held))
        self.put(self.last_btf, "Q", BASE + node)
        self.last_btf = node
        return held

    def read(self, vaddr: int, size: int) -> bytes:
        if HEAD <= vaddr < HEAD + 32:
            return bytes(self.image[vaddr - HEAD : vaddr - HEAD + size])
        return super().read(vaddr, size)

    def fields(self) -> dict[str, int]:
        fields = {"sect_attrs": SECT_ATTRS, "notes_attrs": NOTES_ATTRS, "percpu": PERCPU}
        fields |= {"percpu_size": PERCPU_SIZE, "arch": ARCH}
        layout = {"mem": LAYOUT} if self.newer else {"core_layout": LAYOUT, "init_layout": 192}
        return super().fields() | fields | layout

    def types(self) -> Writer:
        btf = super().types()

        def add(struct_name: str, struct_size: int, /, **fields: int) -> None:
            members = [(field, 1, at * 8) for field, at in fields.items()]
            btf.add_struct(struct_name, struct_size, members)

        add("attribute", ATTRIBUTE, name=0, mode=8)
        add("bin_attribute", BIN_ATTRIBUTE, attr=0, size=SIZE, private=PRIVATE)
        add("attribute_group", GROUP, name=0, bin_attrs=BIN_ATTRS)
        add("mod_arch_specific", 24, num_orcs=0, orc_unwind_ip=8, orc_unwind=16)
        add("btf_module", 32, list=0, module=16, btf=24)
        add("btf", 24, data=0, data_size=8, start_id=12, start_str_off=16)
        if self.newer:
            add("module_memory", 16, base=0, size=8)
            add("module_sect_attrs", 40, grp=0, attrs=40)
            add("module_notes_attrs", 40, grp=0, attrs=40)
            kinds = ("MOD_TEXT", "MOD_DATA", "MOD_RODATA", "MOD_INIT_TEXT", "MOD_INIT_RODATA")
            rows = [(name, number) for number, name in enumerate((*kinds, "MOD_MEM_NUM_TYPES"))]
            btf.add_list(ENUM, "mod_mem_type", 4, rows)
        else:
            add("module_layout", 32, base=0, size=8, text_size=12, ro_size=16)
            add("module_sect_attrs", 48, grp=0, nsections=40, attrs=48)
            add("module_sect_attr", SECT_ATTR, battr=0, address=40)
            add("module_notes_attrs", 16, dir=0, notes=8, attrs=16)
        return btf
