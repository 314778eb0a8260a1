"""One machine in every format that has memory by physical address: whole, and cut in ten places."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.builders.dead_machines import HIGH, LOW, Machine, stamped
from tests.builders.encodings import ENCODINGS, NOT_IF_CUT, Encode, machine
from tests.builders.lime import pack_lime
from tests.builders.maps import RAM, iomem_text
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import Capture, FaultError, SourceIOError, TruncatedError, VmcorefsError
from vmcorefs.core.formats.cloud_hypervisor import STATE
from vmcorefs.core.formats.lime import BLOCK
from vmcorefs.core.formats.ramdump import TABLE

PAGE = 4096
CUTS = 10

encoded = pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())

DIRECTORIES = ("ramdump", "cloud-hypervisor")
EVERY = ENCODINGS | NOT_IF_CUT
ALONE = {name: EVERY[name] for name in EVERY if name not in ("vmware", *DIRECTORIES)}
"""Those of one file."""


@pytest.fixture
def made() -> Machine:
    return machine()


def save(directory: Path, files: dict[str, bytes], made: Machine) -> tuple[Path, Path]:
    """The file to be given, or the directory if that is to be given, and a map."""
    for name, data in files.items():
        (directory / name).write_bytes(data)
    iomem = directory / "iomem"
    iomem.write_text(made.iomem)
    return directory if TABLE in files or STATE in files else directory / next(iter(files)), iomem


@pytest.fixture
def truth(tmp_path: Path, open_capture: Opener, made: Machine) -> Capture:
    """The machine's tree as it is made of raw memory."""
    saved = made.save(tmp_path)
    return open_capture(saved.ram, memory_map=saved.iomem)


@pytest.mark.parametrize("encode", EVERY.values(), ids=EVERY.keys())
def test_the_tree_is_that_of_the_raw_memory(
    tmp_path: Path, open_capture: Opener, made: Machine, truth: Capture, encode: Encode
) -> None:
    path, iomem = save(tmp_path, encode(made), made)
    capture = open_capture(path, memory_map=iomem)
    # formats with registers have notes where the kernel left none
    behind = {"vmcore": 2 * PAGE} if capture.image.notes.made else {"vmcore": 0, "crash_notes": 0}
    for name in ("oldmem", "dmesg", "vmcoreinfo", *behind):
        assert (name in capture.files) == (name in truth.files)
        if name in truth.files:
            at = behind.get(name, 0)
            expected = truth[name].pread(truth[name].size - at, at)
            same_bytes(capture[name].pread(capture[name].size - at, at), expected, name)
    assert capture.image.missing.tolist() == []
    (placement,) = (one for one in capture.image.findings if one.what == "placement")
    assert placement.value.startswith("as a")
    assert {f"as {one.format} says" for one in capture.image.inputs} == {placement.value}


@pytest.mark.parametrize("encode", ALONE.values(), ids=ALONE.keys())
def test_each_format_may_be_compressed(
    tmp_path: Path,
    open_capture: Opener,
    made: Machine,
    truth: Capture,
    encode: Encode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {name: gzip.compress(data, 1) for name, data in encode(made).items()}
    path, iomem = save(tmp_path, files, made)
    oldmem = open_capture(path, memory_map=iomem)["oldmem"]
    same_bytes(oldmem.pread(oldmem.size, 0), truth["oldmem"].pread(oldmem.size, 0))


@encoded
@pytest.mark.parametrize("cut", range(1, CUTS + 1))
def test_a_file_that_is_cut_opens_up_to_there(
    tmp_path: Path,
    open_capture: Opener,
    made: Machine,
    truth: Capture,
    encode: Encode,
    cut: int,
) -> None:
    files = encode(made)
    name = next(iter(files))
    files[name] = files[name][: len(files[name]) * cut // (CUTS + 1)]
    path, iomem = save(tmp_path, files, made)
    with pytest.raises(TruncatedError, match=str(path)):
        open_capture(path, memory_map=iomem)
    capture = open_capture(path, memory_map=iomem, truncated=True)
    ram, lost = capture["oldmem"], 0
    for at in range(0, ram.size, PAGE):
        size = min(PAGE, ram.size - at)
        try:
            found = ram.pread(size, at)
        except (FaultError, SourceIOError):
            lost += 1
        else:
            same_bytes(found, truth["oldmem"].pread(size, at), f"the page at {at:#x}")
    missing = sum(end - start for start, end in capture.image.missing.tolist())
    assert 0 < lost < ram.size // PAGE
    assert (lost - 4) * PAGE < missing <= lost * PAGE  # not all of a page need be lost


def test_zeros_that_avml_leaves_out_are_zeros_and_its_cut_ends_are_no_loss(
    tmp_path: Path, open_capture: Opener, made: Machine
) -> None:
    ranges = [(LOW[0], bytes(made.memory[LOW[0] : LOW[1] - 1])), (HIGH[0], bytes(BLOCK))]
    path = tmp_path / "ram.avml"
    path.write_bytes(pack_lime(ranges))
    iomem = tmp_path / "iomem"
    end = HIGH[0] + BLOCK
    iomem.write_text(iomem_text([(*LOW, RAM), (0xB0000, 0xC0000, RAM), (HIGH[0], end, RAM)]))
    capture = open_capture(path, memory_map=iomem)
    assert capture.image.missing.tolist() == [[LOW[1] - 1, LOW[1]]]
    same_bytes(capture["oldmem"].pread(0x10000, 0xB0000), bytes(0x10000))
    with pytest.raises(FaultError):
        capture["oldmem"].pread(1, LOW[1] - 1)


def test_ram_that_a_lime_file_does_not_name_is_missing(
    tmp_path: Path, open_capture: Opener, made: Machine
) -> None:
    path, iomem = save(tmp_path, {"ram.lime": pack_lime([(HIGH[0], bytes(0x200000))])}, made)
    expected = (
        f"{path}: a LiME file, but 635 KiB of RAM are in no input, first [0x1000, 0x9fc00);"
        " pass --truncated to serve the rest, with EIO for what is missing"
    )
    with pytest.raises(TruncatedError, match=exactly(expected)):
        open_capture(path, memory_map=iomem)


def test_the_ranges_are_the_map_where_the_kernel_has_none(
    tmp_path: Path, open_capture: Opener, made: Machine
) -> None:
    path, _ = save(tmp_path, ENCODINGS["lime"](made), made)
    memory_map = open_capture(path).image.memory_map
    assert memory_map.dialect == "the RAM of a LiME file"
    assert memory_map.ram.tolist() == [list(LOW), list(HIGH)]


def test_a_chunk_that_is_damaged_is_an_error_and_its_neighbours_are_not(
    tmp_path: Path, open_capture: Opener, made: Machine
) -> None:
    files = ENCODINGS["avml-2"](made)
    data = bytearray(files["ram.avml"])
    data[60] ^= 1  # in the first chunk of 64 KiB
    path, iomem = save(tmp_path, {"ram.avml": bytes(data)}, made)
    oldmem = open_capture(path, memory_map=iomem)["oldmem"]
    for at in (0x1000, 0x10FFF):
        with pytest.raises(SourceIOError):
            oldmem.pread(1, at)
    same_bytes(oldmem.pread(0x1000, 0x11000), stamped(0x11000, 0x12000))


@encoded
def test_a_piece_of_such_a_file_is_refused(
    tmp_path: Path, open_capture: Opener, made: Machine, encode: Encode
) -> None:
    path, iomem = save(tmp_path, encode(made), made)
    with pytest.raises(VmcorefsError):
        open_capture(f"{path}:0+4K", memory_map=iomem)
