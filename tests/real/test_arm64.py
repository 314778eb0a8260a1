"""arm64: page tables, symbols and the log of kernels under QEMU, from their memory alone.

Four formats of page tables: with 4 KiB pages 48 bits and 52 bits (LPA2), with 16 KiB pages 47 and
52; and kernels that are made for 52 bits, on a CPU that has them and on one that has not. What is
true comes from the guest: the ELF headers of its /proc/kcore, /proc/iomem, /proc/kallsyms, dmesg;
and from Debian's Image file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.real.marks import REAL, stopped
from tests.real.sums import kallsyms_sums, md5, sum_of
from tests.real.truth import spans
from tests.real.walked import Load, Walked, kcore_loads, walked
from vmcorefs.core.structures.kallsyms import read_symbols
from vmcorefs.core.structures.printk import read_log
from vmcorefs.kernel.symbols import Symbols, find_btf, find_symbols

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.lab.capture import Snapshot

pytestmark = REAL

each = stopped("arm64", "arm64-52-bit", "arm64-52-as-48-bit", "arm64-16k", "arm64-16k-as-47-bit")


@pytest.fixture(scope="module")
def machine(snapshot: Snapshot) -> Iterator[Walked]:
    with walked(snapshot) as found:
        yield found


@each
def test_the_page_tables_have_the_format_that_the_kernel_runs_with(
    snapshot: Snapshot, machine: Walked, request: pytest.FixtureRequest
) -> None:
    # Debian's 6.1 is made for 48 bits, its later kernels for 52
    stable = "52" if "CONFIG_ARM64_VA_BITS_52=y" in snapshot.kernel.config else "48"
    name = {
        "arm64": f"arm64, 4 KiB pages, {stable} bits",
        "arm64-52-bit": "arm64, 4 KiB pages, 52 bits",
        "arm64-52-as-48-bit": "arm64, 4 KiB pages, 48 bits",
        "arm64-16k": "arm64, 16 KiB pages, 52 bits",
        "arm64-16k-as-47-bit": "arm64, 16 KiB pages, 47 bits",
    }[request.node.callspec.params["snapshot"]]
    assert machine.mappings.fmt.name == name
    detected = "52-bit Virtual Addressing (LPA2)" in snapshot.text("dmesg")
    assert detected == name.endswith("52 bits")


@each
def test_the_walk_has_no_problems_and_maps_its_own_root(machine: Walked) -> None:
    mappings = machine.mappings
    assert mappings.problems == ()
    assert mappings.translate(machine.vmcoreinfo.symbol("swapper_pg_dir")) == mappings.root


@each
def test_the_direct_map_covers_all_ram_but_the_kernels_data(
    snapshot: Snapshot, machine: Walked
) -> None:
    """/proc/kcore says at which virtual address each range of RAM stands."""
    _, *direct = _loads(snapshot)
    ((data, data_end),) = spans(snapshot, "Kernel data")
    for start, end in spans(snapshot, "System RAM"):
        (load,) = (load for load in direct if load.paddr <= start < load.end)
        assert end <= load.end
        vaddr = load.vaddr + start - load.paddr
        found = machine.mappings.translate_many(_pages(vaddr, end - start))
        wanted = np.arange(start, end, _PAGE)
        mapped = found >= 0
        assert np.array_equal(found[mapped], wanted[mapped])
        # "arm64: mm: Unmap kernel data/bss entirely from the linear map", of 2026
        has_all = snapshot.kernel.series < (7, 0)
        missing = wanted[~mapped]
        assert has_all == (len(missing) == 0)
        assert ((missing >= data) & (missing < data_end)).all()


@each
def test_the_kernels_image_is_where_kcore_has_it(snapshot: Snapshot, machine: Walked) -> None:
    image, *_ = _loads(snapshot)
    found = machine.mappings.translate_many(_pages(image.vaddr, image.size))
    wanted = np.arange(image.paddr, image.end, _PAGE)
    mapped = found >= 0  # free_initmem takes the init sections away
    assert np.array_equal(found[mapped], wanted[mapped])
    ((code, code_end),) = spans(snapshot, "Kernel code")
    ((data, data_end),) = spans(snapshot, "Kernel data")
    kept = ((wanted >= code) & (wanted < code_end)) | ((wanted >= data) & (wanted < data_end))
    assert kept.sum() > 1000
    assert mapped[kept].all()


@each
def test_the_banner_is_where_the_image_file_has_it(snapshot: Snapshot, machine: Walked) -> None:
    """An Image is the kernel byte for byte, from _text on, which is where kcore's begins."""
    version = snapshot.text("version").encode()
    image, *_ = _loads(snapshot)
    offset = snapshot.kernel.vmlinuz.read_bytes().index(version)
    assert machine.kernel.read(image.vaddr + offset, len(version)) == version


@each
def test_variables_have_the_values_that_the_guest_gave_them(
    snapshot: Snapshot, machine: Walked
) -> None:
    info = machine.vmcoreinfo
    names = info.symbol("init_uts_ns") + info.offset("uts_namespace.name")
    # struct new_utsname: six strings of 65 bytes; the host name was set by the lab's init
    read = machine.kernel.read(names, 5 * 65)
    words = [read[at : at + 65].partition(b"\0")[0].decode() for at in range(0, 5 * 65, 65)]
    assert words[1] == "vmcorefs-lab"
    assert " ".join(words) == snapshot.text("uname").removesuffix(" GNU/Linux\n")


@each
def test_kallsyms_are_the_guests_to_the_byte(snapshot: Snapshot, machine: Walked) -> None:
    found = _symbols(machine)
    text = found.kernel.format()
    assert sum_of(text) == kallsyms_sums(snapshot)["kernel"]
    assert set(snapshot.text("symbols").splitlines()) <= set(text.decode().splitlines())
    assert len(snapshot.text("symbols").splitlines()) >= 4


@each
def test_modules_are_among_them_if_kallsyms_have_variables(
    snapshot: Snapshot, machine: Walked
) -> None:
    """Debian's 6.1 for arm64 is built without CONFIG_KALLSYMS_ALL, and has modules."""
    found = _symbols(machine)
    if "CONFIG_KALLSYMS_ALL=y" in snapshot.kernel.config:
        assert found.warnings == ()
        assert len(found.modules) > 0
        assert sum_of(found.format()) == kallsyms_sums(snapshot)["all"]
    else:
        assert found.kernel.lookup("init_task") is None
        assert found.modules == ()
        (warning,) = found.warnings
        assert "CONFIG_KALLSYMS_ALL" in warning


@each
def test_btf_is_the_guests(snapshot: Snapshot, machine: Walked) -> None:
    """No symbol says where it is in the kernel without variables."""
    btf = _symbols(machine).btf
    assert btf is not None
    assert md5(btf) == snapshot.text("btf-sum").split()[0]


@each
def test_the_log_is_what_dmesg_printed(snapshot: Snapshot, machine: Walked) -> None:
    log = read_log(machine.vmcoreinfo, machine.kernel)
    assert log.text.decode().startswith(snapshot.text("dmesg"))


_PAGE = 4096


def _pages(vaddr: int, size: int) -> npt.NDArray[np.uint64]:
    return np.uint64(vaddr) + np.arange(0, size, _PAGE, dtype=np.uint64)


def _loads(snapshot: Snapshot) -> list[Load]:
    """The kernel's image, then RAM, as the guest's /proc/kcore has them."""
    loads = kcore_loads(snapshot)
    ((code, _),) = spans(snapshot, "Kernel code")
    assert loads[0].paddr <= code < loads[0].end
    assert len(loads) > 1
    return loads


def _symbols(machine: Walked) -> Symbols:
    kernel = read_symbols(machine.vmcoreinfo, machine.kernel)
    return find_symbols(kernel, find_btf(kernel, machine.kernel), machine.kernel)
