"""iomem_resource, as nodes in memory."""

from __future__ import annotations

import struct

import pytest

from tests.builders.kernels import virtual
from tests.matching import exactly
from vmcorefs.core.maps.memory_map import format_iomem
from vmcorefs.core.maps.resources import RESOURCE, read_resources, read_span
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FaultError, FormatError, VmcorefsError

ROOT, NAMES = 0xFFFFFFFF82000000, 0xFFFF888000000000
RAM, RESERVED, CODE, CRASH = (NAMES + 16 * number for number in range(4))
STRINGS = b"".join(
    name.ljust(16, b"\0") for name in (b"System RAM", b"Reserved", b"Kernel code", b"Crash kernel")
).ljust(4096, b"\0")
A, B, C, D, E = (ROOT + 64 * number for number in range(1, 6))


def node(start: int, last: int, name: int = RAM, sibling: int = 0, child: int = 0) -> bytes:
    """``struct resource``: the end is inclusive."""
    return struct.pack("<8Q", start, last, name, 0x81000200, 0, 0xBAD, sibling, child)


def tree(*nodes: bytes) -> dict[int, bytes | bytearray]:
    """The root, and nodes behind it at A, B ..."""
    return {ROOT: node(0, 2**64 - 1, 0, 0, A) + b"".join(nodes), NAMES: STRINGS}


def read(blocks: dict[int, bytes | bytearray]) -> str:
    return format_iomem(read_resources(virtual(blocks), ROOT))


def test_a_tree_is_the_text_of_proc_iomem() -> None:
    blocks = tree(
        node(0x0, 0xFFF, RESERVED, B),
        node(0x1000, 0x9FBFF, RAM, C),
        node(0x100000, 0x3FFFFFF, RAM, 0, D),
        node(0x1000000, 0x1FFFFFF, CODE, E),
        node(0x2000000, 0x27FFFFF, CRASH),
    )
    assert read(blocks) == (
        "00000000-00000fff : Reserved\n"
        "00001000-0009fbff : System RAM\n"
        "00100000-03ffffff : System RAM\n"
        "  01000000-01ffffff : Kernel code\n"
        "  02000000-027fffff : Crash kernel\n"
    )


def test_a_node_without_a_name_is_bad_as_in_proc_iomem() -> None:
    assert read(tree(node(0, 0xFFF, 0, B), node(0x1000, 0x1FFF))).startswith(
        "00000000-00000fff : <BAD>\n"
    )


def test_a_name_that_ends_where_mapped_memory_ends() -> None:
    blocks = tree(node(0x1000, 0x1FFF, 0xFFFFC90000000FF5))
    blocks[0xFFFFC90000000FF0] = b".....System RAM\0"
    assert read(blocks) == "00001000-00001fff : System RAM\n"


def test_a_layout_of_another_kernel() -> None:
    layout = Struct("resource", 40, {"end": 0, "start": 8, "child": 16, "name": 24, "sibling": 32})
    root = struct.pack("<5Q", 0, 0, ROOT + 40, 0, 0)
    blocks: dict[int, bytes | bytearray] = {
        ROOT: root + struct.pack("<5Q", 0x1FFF, 0x1000, 0, RAM, 0),
        NAMES: STRINGS,
    }
    found = read_resources(virtual(blocks), ROOT, layout)
    assert format_iomem(found) == "00001000-00001fff : System RAM\n"


@pytest.mark.parametrize(
    "nodes",
    [
        [node(0x1000, 0x1FFF, RAM, A)],
        [node(0x1000, 0x1FFF, RAM, 0, A)],
        [node(0x1000, 0x1FFF, RAM, 0, ROOT)],
        [node(0x1000, 0x1FFF, RAM, B), node(0x2000, 0x2FFF, RAM, A)],
        [node(0x1000, 0x1FFF, RAM, 0, B), node(0x1000, 0x1FFF, RAM, 0, A)],
        [node(0x1000, 0x1FFF, RAM, B, B), node(0x1000, 0x1FFF, RAM)],
    ],
)
def test_a_loop_is_no_tree(nodes: list[bytes]) -> None:
    with pytest.raises(FormatError, match=r"^iomem_resource: not a tree: 0xffffffff82"):
        read(tree(*nodes))


def test_nodes_without_end_are_no_tree() -> None:
    count = 70_000
    chain = b"".join(
        node(4096 * n, 4096 * n + 4095, RAM, ROOT + 64 * (n + 2)) for n in range(count)
    )
    with pytest.raises(FormatError, match=r"not a tree: .* after 65537 nodes"):
        read(tree(chain))


def test_children_without_end_are_no_tree() -> None:
    deep = b"".join(node(0, 2**40, RAM, 0, ROOT + 64 * (n + 2)) for n in range(100))
    with pytest.raises(FormatError, match=r"not a tree: .* after 65 nodes"):
        read(tree(deep))


@pytest.mark.parametrize("pointer", [1, 0xDEADBEEF, NAMES + 4096, 2**64 - 8, 2**64 - 1])
@pytest.mark.parametrize("field", ["name", "sibling", "child"])
def test_a_pointer_to_nowhere_is_an_error(field: str, pointer: int) -> None:
    fields = {"name": RAM} | {field: pointer}
    with pytest.raises(FaultError):
        read(tree(node(0x1000, 0x1FFF, **fields)))


@pytest.mark.parametrize("name", [b"System\nRAM\0", b"\x1b[31mSystem RAM\0", b"\x7f\0", b"a\tb\0"])
def test_a_name_that_would_break_a_line_or_a_terminal_is_refused(name: bytes) -> None:
    blocks = tree(node(0x1000, 0x1FFF))
    blocks[NAMES] = name.ljust(4096, b"\0")
    with pytest.raises(FormatError, match=r"^iomem_resource: a name is b"):
        read(blocks)


def test_a_name_that_does_not_end_is_cut() -> None:
    blocks = tree(node(0x1000, 0x1FFF))
    blocks[NAMES] = b"System RAM" + b"x" * 4096
    assert len(read(blocks)) == len("00001000-00001fff : \n") + 256


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node(0x1000, 0x2FFF, RAM, B), node(0x2000, 0x3FFF, RESERVED)],
            "Reserved [0x2000, 0x4000): overlaps System RAM [0x1000, 0x3000)",
        ),
        (
            [node(0x1000, 0x2FFF, RAM, 0, B), node(0x2000, 0x3FFF, CODE)],
            "Kernel code [0x2000, 0x4000): not inside System RAM [0x1000, 0x3000)",
        ),
        ([node(0x1000, 0x1FFF, RESERVED)], "1 region, none of which is System RAM"),
        (
            [node(0x1000, 2**64 - 1)],
            "System RAM [0x1000, 0x10000000000000000): empty, or it ends beyond 0x4000000000000000",
        ),
        (
            [node(0x2000, 0x1000)],
            "System RAM [0x2000, 0x1001): empty, or it ends beyond 0x4000000000000000",
        ),
    ],
)
def test_a_tree_that_contradicts_itself(nodes: list[bytes], message: str) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        read(tree(*nodes))


def test_no_nodes_at_all() -> None:
    with pytest.raises(FormatError, match="none of which is System RAM"):
        read({ROOT: node(0, 2**64 - 1)})


@pytest.mark.parametrize("size", [0, 1 << 31])
def test_a_size_that_no_structure_has_is_refused(size: int) -> None:
    layout = Struct("resource", size, RESOURCE.offsets)
    with pytest.raises(VmcorefsError):
        read_resources(virtual(tree(node(0x1000, 0x1FFF))), ROOT, layout)


@pytest.mark.parametrize(
    ("first", "last", "span"),
    [
        (0x2000000, 0x27FFFFF, (0x2000000, 0x2800000)),
        (0, 0, (0, 0)),  # crashk_res of a kernel that has none
        (0x5000, 0x1000, (0, 0)),
    ],
)
def test_the_range_of_one_node(first: int, last: int, span: tuple[int, int]) -> None:
    assert read_span(virtual({ROOT: node(first, last)}), ROOT) == span


@pytest.mark.parametrize("last", [2**63, 2**64 - 1])
def test_a_range_that_no_memory_has_is_refused(last: int) -> None:
    with pytest.raises(FormatError, match="ends beyond memory"):
        read_span(virtual({ROOT: node(0x1000, last)}), ROOT)
