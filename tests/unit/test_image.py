"""All inputs together: which low memory is shown, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders import maps
from tests.builders.dead_machines import (
    BACKUP,
    CRASH_KERNEL,
    CRASH_TIME,
    ELFCOREHDR,
    HIGH,
    LOW,
    OVERWRITTEN,
    Phdr,
    Saved,
    bare_machine,
    dead_machine,
    kernel_phdrs,
    kexec_tools_phdrs,
    stamped,
)
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import (
    ConfigError,
    FaultError,
    FormatError,
    LayoutError,
    Piece,
    SourceIOError,
    TruncatedError,
)

LOW_SIZE = LOW[1] - LOW[0]


def test_everything_is_found_in_an_ordinary_capture(tmp_path: Path, open_capture: Opener) -> None:
    saved = dead_machine().save(tmp_path)
    image = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem).image
    assert image.plan.origin == f"the elfcorehdr found at {ELFCOREHDR:#x}"
    assert image.plan.paddr == ELFCOREHDR
    assert image.backup is not None
    assert (image.backup.start, image.backup.end) == LOW
    assert image.backup.origin == str(saved.lowmem)
    assert image.time == CRASH_TIME
    assert image.warnings == ()
    assert image.missing.tolist() == []


def test_without_a_crash_time_the_machine_died_when_its_image_was_written(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = bare_machine().save(tmp_path)
    os.utime(saved.ram, (5, 1234567890))
    image = open_capture(saved.ram, memory_map=saved.iomem).image
    assert image.time == 1234567890


def low_memory(open_capture: Opener, saved: Saved, **options: object) -> bytes:
    """Low memory as ``oldmem`` shows it, by its physical address."""
    capture = open_capture(saved.ram, memory_map=saved.iomem, **options)
    return capture["oldmem"].pread(LOW_SIZE, LOW[0])


@pytest.mark.parametrize("given", [False, True])
def test_low_memory_is_as_the_crashed_kernel_left_it(
    tmp_path: Path, open_capture: Opener, given: bool
) -> None:
    saved = dead_machine().save(tmp_path)
    options = {"backup": saved.lowmem} if given else {}
    same_bytes(low_memory(open_capture, saved, **options), stamped(*LOW))


def test_a_backup_that_was_never_filled_leaves_low_memory_as_the_image_has_it(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    machine.put(BACKUP, bytes(LOW_SIZE))
    saved = machine.save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem)
    same_bytes(capture["oldmem"].pread(LOW_SIZE, LOW[0]), stamped(*LOW, OVERWRITTEN))
    assert capture.image.warnings == (
        (
            "the backup region at [0x200400, 0x29f000) was never filled: low memory is used as it"
            " is in the image"
        ),
    )


def test_a_given_backup_that_differs_from_the_images_is_used_with_a_warning(
    tmp_path: Path, open_capture: Opener
) -> None:
    machine = dead_machine()
    machine.lowmem = machine.lowmem[:-2] + b"??"
    saved = machine.save(tmp_path)
    capture = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)
    same_bytes(capture["oldmem"].pread(LOW_SIZE, LOW[0]), machine.lowmem)
    assert capture["vmcore"].pread(2, _vmcore_end_of_low(capture["vmcore"].size)) == b"??"
    assert capture.image.warnings == (
        (
            "the given backup differs in 2 bytes from the backup region in the image at"
            " [0x200400, 0x29f000); the given one is used"
        ),
    )


def _vmcore_end_of_low(size: int) -> int:
    # headers, notes, kernel text; then low memory from 0x400 into its first page on
    text, high = 0x21000, 0x100000 + 0x40000
    start = 0x2000 + text
    assert size == start + 0x9F000 + high
    return start + 0x400 + LOW_SIZE - 2


def test_a_backup_may_be_a_part_of_a_file_with_its_place_given(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = bare_machine().save(tmp_path)
    saved.lowmem.write_bytes(b"header: " + stamped(*LOW))
    piece = Piece(str(saved.lowmem), LOW[0], 8)
    same_bytes(low_memory(open_capture, saved, backup=piece), stamped(*LOW))


def test_what_a_short_backup_lacks_is_not_taken_from_the_capture_kernels_memory(
    tmp_path: Path, open_capture: Opener
) -> None:
    # given     |1000 .. 2000|
    # in image  |1000 ................ 9fc00|  in the backup region
    saved = dead_machine().save(tmp_path)
    piece = Piece(str(saved.lowmem), LOW[0], 0, 0x1000)
    same_bytes(low_memory(open_capture, saved, backup=piece), stamped(*LOW))


@pytest.mark.parametrize("size", [LOW_SIZE - 1, LOW_SIZE + 1, 0xA0000, 512])
def test_a_backup_of_the_wrong_size_is_refused(
    tmp_path: Path, open_capture: Opener, size: int
) -> None:
    saved = dead_machine().save(tmp_path)
    saved.lowmem.write_bytes(bytes(size))
    with pytest.raises(
        LayoutError,
        match=exactly(
            f"{saved.lowmem}: {size} bytes, but the backup region [0x1000, 0x9fc00) has 650240; if"
            f" it belongs elsewhere, give its address: --backup {saved.lowmem}@PADDR"
        ),
    ):
        open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)


def test_low_memory_whose_backup_lies_behind_the_images_end_is_missing(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine().save(tmp_path)
    os.truncate(saved.ram, BACKUP + 0x1000)
    capture = open_capture(
        saved.ram, memory_map=saved.iomem, truncated=True, elfcorehdr=_copy_of_header(saved)
    )
    assert capture.image.missing.tolist() == [list(LOW), [CRASH_KERNEL[1], HIGH[1]]]
    with pytest.raises(FaultError):
        capture["oldmem"].pread(1, LOW[0])


def _copy_of_header(saved: Saved) -> int:
    """Put the elfcorehdr where a truncated image still holds it."""
    with saved.ram.open("r+b") as file:
        file.seek(ELFCOREHDR - CRASH_KERNEL[0] + 0x180000)
        place = file.tell()
        file.write(dead_machine().elfcorehdr)
    return place


class TestTruncatedImage:
    END = 0x180800

    def save(self, tmp_path: Path) -> Saved:
        saved = bare_machine().save(tmp_path)
        os.truncate(saved.ram, self.END)
        return saved

    def test_it_is_refused_and_the_message_says_what_is_missing(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = self.save(tmp_path)
        with pytest.raises(
            TruncatedError,
            match=exactly(
                f"{saved.ram}: 1574912 bytes, but the memory map ends at 0x300000 (3145728 bytes);"
                " 766 KiB of RAM are in no input, first [0x180800, 0x200000); pass --truncated to"
                " serve the rest, with EIO for what is missing"
            ),
        ):
            open_capture(saved.ram, memory_map=saved.iomem)

    def test_reads_of_what_is_missing_fail_and_all_else_is_right(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = self.save(tmp_path)
        capture = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)
        oldmem = capture["oldmem"]
        assert oldmem.size == HIGH[1]
        assert oldmem.pread(0x800, 0x180000) == stamped(0x180000, 0x180800)
        assert oldmem.pread(16, CRASH_KERNEL[0]) == bytes(16)
        for offset in (self.END, CRASH_KERNEL[0] - 1, CRASH_KERNEL[1], HIGH[1] - 1):
            with pytest.raises(
                FaultError,
                match=exactly(
                    f"oldmem: no input holds [{offset:#x}, {offset + 1:#x}) (missing, 1 byte)"
                ),
            ):
                oldmem.pread(1, offset)

    def test_the_vmcore_has_the_size_that_it_would_have_and_the_same_gaps(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = self.save(tmp_path)
        vmcore = open_capture(saved.ram, memory_map=saved.iomem, truncated=True)["vmcore"]
        high = vmcore.size - 0x40000 - 0x100000
        same_bytes(vmcore.pread(0x80800, high), stamped(HIGH[0], self.END))
        with pytest.raises(FaultError):
            vmcore.pread(1, high + 0x80800)


def test_qemus_memory_file_given_as_one_piece_is_recognised(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.touch()
    os.truncate(ram, 6 << 30)
    iomem.write_text(
        maps.iomem_text([(0x100000, 3 << 30, "System RAM"), (4 << 30, 7 << 30, "System RAM")])
    )
    with pytest.raises(
        TruncatedError,
        match=exactly(
            f"{ram}: 6442450944 bytes, but the memory map ends at 0x1c0000000 (7516192768 bytes);"
            " 1 GiB of RAM are in no input, first [0x180000000, 0x1c0000000); if it is QEMU's"
            " memory file, which keeps RAM above 4 GiB right behind RAM below it, give its two"
            f" pieces: {ram}@0+0xc0000000 {ram}@0x100000000:0xc0000000"
        ),
    ):
        open_capture(ram, memory_map=iomem)


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        # as if its low piece ended within a page, or below the RAM that the map has there
        ((6 << 30) - 1, "pass --truncated"),
        ((6 << 30) - 4096, "pass --truncated"),
        ((1 << 32) - 1, "4 GiB - 1 is the most that QEMU's pmemsave saves at once, so what lies"),
        # as if more lay below 4 GiB than firmware reserves there
        ((6 << 30) + (65 << 20), "pass --truncated"),
        ((6 << 30) + (64 << 20), "if it is QEMU's memory file"),
    ],
)
def test_two_pieces_are_advised_only_if_the_map_allows_them(
    tmp_path: Path, open_capture: Opener, size: int, advice: str
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.touch()
    os.truncate(ram, size)
    iomem.write_text(
        maps.iomem_text([(0x100000, 3 << 30, "System RAM"), (4 << 30, 7 << 30, "System RAM")])
    )
    with pytest.raises(TruncatedError) as caught:
        open_capture(ram, memory_map=iomem)
    assert str(caught.value).partition("); ")[2].partition("; ")[2].startswith(advice)


def test_one_piece_above_4_gib_is_no_file_of_qemus(tmp_path: Path, open_capture: Opener) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.touch()
    os.truncate(ram, 2 << 30)
    iomem.write_text(maps.iomem_text([(4 << 30, 5 << 30, "System RAM")]))
    with pytest.raises(TruncatedError, match=r"first \[0x100000000, 0x140000000\); pass --trunc"):
        open_capture(ram, memory_map=iomem)


def test_what_pmemsave_saves_at_most_is_told_without_a_map_too(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = tmp_path / "ram"
    ram.touch()
    os.truncate(ram, (1 << 32) - 1)
    with pytest.raises(ConfigError, match="4 GiB - 1 is the most that QEMU's pmemsave saves"):
        open_capture(ram)


def test_the_pieces_of_ranges_that_follow_each_other_are_at_their_addresses(
    tmp_path: Path, open_capture: Opener
) -> None:
    ranges = ((0x1000, 0x9F000), (0x100000, 0x300000), (0x500000, 0x540000))
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.write_bytes(b"".join(stamped(start, end) for start, end in ranges))
    iomem.write_text(maps.iomem_text([(start, end, "System RAM") for start, end in ranges]))
    with pytest.raises(TruncatedError, match="as LiME's raw format has them") as caught:
        open_capture(ram, memory_map=iomem)
    pieces = str(caught.value).partition("as a piece: ")[2].split()
    oldmem = open_capture(pieces, memory_map=iomem)["oldmem"]
    for start, end in ranges:
        same_bytes(oldmem.pread(end - start, start), stamped(start, end))


def test_an_image_that_shrinks_after_it_was_opened_fails_there_and_nowhere_else(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = dead_machine().save(tmp_path)
    oldmem = open_capture(saved.ram, memory_map=saved.iomem)["oldmem"]
    os.truncate(saved.ram, 0x150000)
    assert oldmem.pread(0x1000, 0x14F000) == stamped(0x14F000, 0x150000)
    with pytest.raises(
        SourceIOError,
        match=exactly(
            f"{saved.ram}: cannot read 4096 bytes at offset 0x150000: it ends there now, but had"
            " 3145728 bytes when it was opened"
        ),
    ):
        oldmem.pread(0x1800, 0x14F800)
    assert oldmem.pread(16, CRASH_KERNEL[0]) == bytes(16)
    assert oldmem.pread(0x1000, 0x130000) == stamped(0x130000, 0x131000)


class TestMemoryMap:
    def test_there_must_be_one_given_or_in_the_image(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = bare_machine().save(tmp_path)
        with pytest.raises(
            ConfigError,
            match=exactly(
                f"{saved.ram}: no memory map is given, and no VMCOREINFO note and no elfcorehdr was"
                " found in it; if it is plain memory, in which offsets are physical addresses, pass"
                " --map with the text of /proc/iomem, a copy of /sys/firmware/memmap, the e820"
                " lines of dmesg, or an elfcorehdr"
            ),
        ):
            open_capture(saved.ram)

    def test_a_missing_one_is_named(self, tmp_path: Path, open_capture: Opener) -> None:
        saved = bare_machine().save(tmp_path)
        with pytest.raises(
            ConfigError,
            match=exactly(
                f"{tmp_path}/none: cannot read the memory map: No such file or directory"
            ),
        ):
            open_capture(saved.ram, memory_map=tmp_path / "none")

    def test_a_bad_one_is_named_with_its_line(self, tmp_path: Path, open_capture: Opener) -> None:
        saved = bare_machine().save(tmp_path)
        saved.iomem.write_text("00001000-0009fbff : System RAM\nnoise\n")
        with pytest.raises(
            FormatError,
            match=exactly(f"{saved.iomem}: line 2: 'noise' is not a line of /proc/iomem"),
        ):
            open_capture(saved.ram, memory_map=saved.iomem)

    def test_a_directory_that_is_no_copy_of_sysfs_is_refused(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = bare_machine().save(tmp_path)
        (tmp_path / "map/0").mkdir(parents=True)
        (tmp_path / "map/0/start").write_bytes(b"\xff\xfe")
        with pytest.raises(FormatError):
            open_capture(saved.ram, memory_map=tmp_path / "map")

    def test_a_crash_kernel_that_it_does_not_name_can_be_given(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        machine = bare_machine()
        machine.iomem = maps.iomem_text([(0, HIGH[1], maps.RAM)])
        saved = machine.save(tmp_path)
        capture = open_capture(saved.ram, memory_map=saved.iomem, crash_kernel=[CRASH_KERNEL])
        assert capture.image.memory_map.crash_kernel.tolist() == [list(CRASH_KERNEL)]
        assert not any(capture["oldmem"].pread(CRASH_KERNEL[1] - CRASH_KERNEL[0], CRASH_KERNEL[0]))

    def test_a_crash_kernel_outside_of_it_is_refused(
        self, tmp_path: Path, open_capture: Opener
    ) -> None:
        saved = bare_machine().save(tmp_path)
        with pytest.raises(
            FormatError,
            match=exactly(
                f"{saved.iomem}: Crash kernel [0x10000000, 0x20000000): not inside one region of"
                " the map"
            ),
        ):
            open_capture(saved.ram, memory_map=saved.iomem, crash_kernel=[(0x10000000, 0x20000000)])

    @pytest.mark.parametrize("phdrs", [kexec_tools_phdrs(), kernel_phdrs()])
    def test_where_it_does_not_name_the_crash_kernel_the_elfcorehdr_tells(
        self, tmp_path: Path, open_capture: Opener, phdrs: list[Phdr]
    ) -> None:
        # the kernel's elfcorehdr leaves out low memory too
        machine = dead_machine(phdrs)
        machine.iomem = maps.iomem_text([(*LOW, "System RAM"), (*HIGH, "System RAM")])
        saved = machine.save(tmp_path)
        memory_map = open_capture(saved.ram, memory_map=saved.iomem).image.memory_map
        assert memory_map.crash_kernel.tolist() == [list(CRASH_KERNEL)]


def test_nothing_is_left_open_if_the_capture_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    saved = bare_machine().save(tmp_path)
    saved.lowmem.write_bytes(b"short")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LayoutError):
        open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)
    assert len(os.listdir("/proc/self/fd")) == before
