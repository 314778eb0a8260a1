"""Which VMCOREINFO is the one, if there are several in memory, or one is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.dead_machines import CRASH_TIME, vmcoreinfo_note
from tests.builders.kernels import (
    LOW,
    MIB,
    NOTE_AT,
    X86_RAM,
    Span,
    fake_text,
    make_kernel,
)
from tests.conftest import Opener
from tests.found import against, release
from tests.matching import exactly
from vmcorefs import ConfigError

CRASH: Span = (32 * MIB, 40 * MIB)


# --- several notes ---------------------------------------------------------------------------


@pytest.mark.parametrize("crashed", [False, True], ids=["it runs", "it crashed too"])
@pytest.mark.parametrize("base", [8 * MIB, 48 * MIB], ids=["behind", "in front"])
def test_the_capture_kernel_is_not_taken_for_the_one_that_crashed(
    tmp_path: Path, open_capture: Opener, base: int, crashed: bool
) -> None:
    kernel = make_kernel(base=base, crash_kernel=CRASH)
    capture_kernel = make_kernel(
        ram=[LOW, CRASH], base=34 * MIB, release="6.1.0-capture", crashed=crashed
    )
    kernel.chunks = capture_kernel.chunks + kernel.chunks
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert release(image) == "6.1.0-test"
    assert image.memory_map.crash_kernel.tolist() == [list(CRASH)]
    (other,) = against(image, "VMCOREINFO")
    assert other.startswith(
        "another at 0x2410000 (Linux 6.1.0-capture): the capture kernel's own: it is in the"
        " crash kernel's range"
    )


@pytest.mark.parametrize("crashed", [False, True], ids=["it runs", "it crashed too"])
def test_a_capture_kernel_alone_is_no_kernel_that_crashed(
    tmp_path: Path, open_capture: Opener, crashed: bool
) -> None:
    """What is left of an image whose end, with the crashed kernel in it, is lost."""
    kernel = make_kernel(
        ram=[LOW, CRASH], base=34 * MIB, release="6.1.0-capture", crashed=crashed, captures=True
    )
    ram = kernel.save(tmp_path / "ram")
    with pytest.raises(
        ConfigError,
        match=r"the only kernel in it, 6\.1\.0-capture, is a capture kernel; the VMCOREINFO of the",
    ):
        open_capture(ram)
    # it may be what is wanted, if somebody says so
    image = open_capture(ram, vmcoreinfo=34 * MIB + NOTE_AT).image
    assert release(image) == "6.1.0-capture"
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-0009fbff : System RAM\n00100000-027fffff : System RAM\n")
    image = open_capture(ram, memory_map=iomem).image
    assert release(image) is None
    assert image.notes.slots == ()


def test_a_capture_kernel_is_told_by_itself_where_the_crashed_one_names_no_range(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel(crashed=False)
    other = make_kernel(ram=[LOW, CRASH], base=34 * MIB, release="6.1.0-capture", captures=True)
    kernel.chunks = other.chunks + kernel.chunks
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert release(image) == "6.1.0-test"
    (found,) = (line for line in against(image, "VMCOREINFO") if "6.1.0-capture" in line)
    assert "it is a capture kernel: its elfcorehdr_addr is set" in found


@pytest.mark.parametrize("at", [2 * MIB, 50 * MIB])
def test_a_copy_is_not_taken_for_the_note_itself(
    tmp_path: Path, open_capture: Opener, at: int
) -> None:
    kernel = make_kernel()
    kernel.put(at, vmcoreinfo_note(kernel.text))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.notes.slots[-1].start == kernel.base + NOTE_AT
    assert against(image, "VMCOREINFO") == ()


@pytest.mark.parametrize("at", [2 * MIB, 50 * MIB])
def test_what_an_earlier_kernel_left_does_not_count(
    tmp_path: Path, open_capture: Opener, at: int
) -> None:
    kernel = make_kernel(crashed=False)
    kernel.put(at, vmcoreinfo_note(fake_text(7)))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert release(image) == "6.1.0-test"
    (other,) = against(image, "VMCOREINFO")[1:]
    assert other.startswith(f"another at {at:#x} (Linux 5.10.7): no page tables at ")


def test_an_older_text_of_the_same_kernel_does_not_count(
    tmp_path: Path, open_capture: Opener
) -> None:
    """As it was before the crash: it leads to the same page tables, but lies elsewhere."""
    kernel = make_kernel()
    kernel.put(2 * MIB, vmcoreinfo_note(make_kernel(crashed=False).text))
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.notes.slots[-1].start == kernel.base + NOTE_AT
    assert image.time == CRASH_TIME
    (other,) = against(image, "VMCOREINFO")
    assert "vmcoreinfo_note points elsewhere, to 0x1210000; no CRASHTIME" in other


@pytest.mark.parametrize("kept", [10, 24, 60, 200])
def test_a_note_that_was_cut_off_is_none(tmp_path: Path, open_capture: Opener, kept: int) -> None:
    kernel = make_kernel()
    kernel.put(2 * MIB, vmcoreinfo_note(kernel.text)[:kept])
    kernel.put(3 * MIB - 1024, vmcoreinfo_note(kernel.text)[:1024])
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert image.notes.slots[-1].start == kernel.base + NOTE_AT
    assert against(image, "VMCOREINFO") == ()


def test_a_note_at_the_end_of_the_image(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    kernel.put(64 * MIB - 1024, vmcoreinfo_note(kernel.text)[:1024])
    assert release(open_capture(kernel.save(tmp_path / "ram")).image) == "6.1.0-test"


@pytest.mark.parametrize(
    ("base", "copies"), [(2 * MIB, 100), (110 * MIB, 55)], ids=["100,000 behind", "60,000 in front"]
)
def test_many_notes_that_lead_nowhere(
    tmp_path: Path, open_capture: Opener, base: int, copies: int
) -> None:
    """A host has those of all its guests; here each KiB has one."""
    kernel = make_kernel(ram=[LOW, (MIB, 120 * MIB)], base=base)
    notes = [vmcoreinfo_note(fake_text(n)).ljust(1024, b"\0") for n in range(4000)]
    for n in range(copies):
        kernel.chunks.insert(0, (9 * MIB + n * 1000 * 1024, b"".join(notes[:1000])))
    kernel.chunks.insert(0, (5 * MIB, b"".join(notes[1000:])))
    assert release(open_capture(kernel.save(tmp_path / "ram")).image) == "6.1.0-test"


# --- VMCOREINFO is given ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "note", "sysfs"])
@pytest.mark.parametrize("placed", [None, "concatenated"])
def test_a_given_one_leads_to_the_kernel(
    tmp_path: Path, open_capture: Opener, form: str, placed: str | None
) -> None:
    kernel = make_kernel()
    note = kernel.base + NOTE_AT
    if form != "sysfs":  # the image need not have it
        kernel.put(note, bytes(4096))
    path = tmp_path / "vmcoreinfo"
    path.write_bytes(
        {
            "text": kernel.text,
            "note": vmcoreinfo_note(kernel.text),
            "sysfs": f"{note:#x} 1024\n".encode(),
        }[form]
    )
    ram = kernel.save(tmp_path / "ram", kernel.concatenated() if placed else None)
    capture = open_capture(ram, vmcoreinfo=path)
    image = capture.image
    assert image.notes.vmcoreinfo is not None
    assert image.notes.vmcoreinfo.text == kernel.text
    assert image.notes.given == vmcoreinfo_note(kernel.text)
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]
    end = capture["crash_notes"].size
    tail = vmcoreinfo_note(kernel.text)
    assert capture["crash_notes"].pread(len(tail), end - len(tail)) == tail
    assert capture["vmcoreinfo"].pread(len(kernel.text), 0) == kernel.text


def test_one_given_by_its_address_is_chosen_among_several(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel(crash_kernel=CRASH)
    capture_kernel = make_kernel(ram=[LOW, CRASH], base=34 * MIB, release="6.1.0-capture")
    kernel.chunks = capture_kernel.chunks + kernel.chunks
    ram = kernel.save(tmp_path / "ram")
    image = open_capture(ram, vmcoreinfo=34 * MIB + NOTE_AT).image
    assert release(image) == "6.1.0-capture"
    assert image.memory_map.ram.tolist() == [list(LOW), list(CRASH)]
    with pytest.raises(
        ConfigError,
        match=exactly("no VMCOREINFO note at 0x5000; the image has 0x1210000, 0x2410000"),
    ):
        open_capture(ram, vmcoreinfo=0x5000)


def test_one_given_by_its_address_behind_many_others(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    at = 60 * MIB
    for n in range(100):
        kernel.put(2 * MIB + 4096 * n, vmcoreinfo_note(fake_text(n)))
    kernel.put(at, vmcoreinfo_note(fake_text(1000)))
    ram = kernel.save(tmp_path / "ram")
    with pytest.raises(ConfigError, match=r"the kernel 5\.10\.1000 cannot be followed: "):
        open_capture(ram, vmcoreinfo=at)


def test_one_given_by_its_address_need_not_be_where_a_page_starts(
    tmp_path: Path, open_capture: Opener
) -> None:
    """Kernels before 4.13 have it in a static buffer."""
    kernel = make_kernel()
    kernel.put(kernel.base + NOTE_AT, bytes(4096))
    kernel.put(2 * MIB + 0x124, vmcoreinfo_note(kernel.text))
    ram = kernel.save(tmp_path / "ram")
    with pytest.raises(ConfigError, match="no VMCOREINFO note and no elfcorehdr"):
        open_capture(ram)
    image = open_capture(ram, vmcoreinfo=2 * MIB + 0x124).image
    assert release(image) == "6.1.0-test"
    assert image.memory_map.ram.tolist() == [list(span) for span in X86_RAM]


def test_more_notes_than_are_followed_are_told(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    for n in range(17):
        kernel.put(2 * MIB + 4096 * n, vmcoreinfo_note(fake_text(n)))
    words = "there are more VMCOREINFO notes than the 16 that were followed"
    image = open_capture(kernel.save(tmp_path / "ram")).image
    assert release(image) == "6.1.0-test"
    assert against(image, "VMCOREINFO")[-1] == words
    kernel.put(kernel.base + NOTE_AT, bytes(4096))
    with pytest.raises(ConfigError, match=words):
        open_capture(kernel.save(tmp_path / "ram"))


def test_one_that_is_not_to_be_looked_for(tmp_path: Path, open_capture: Opener) -> None:
    ram = make_kernel().save(tmp_path / "ram")
    with pytest.raises(ConfigError, match="VMCOREINFO was not searched for, and no elfcorehdr"):
        open_capture(ram, use_vmcoreinfo=False)


def test_a_given_one_of_another_kernel(tmp_path: Path, open_capture: Opener) -> None:
    path = tmp_path / "vmcoreinfo"
    path.write_bytes(fake_text(5))
    with pytest.raises(ConfigError, match=r"the kernel 5\.10\.5 cannot be followed: no page tab"):
        open_capture(make_kernel().save(tmp_path / "ram"), vmcoreinfo=path)


def test_nothing_else_is_looked_through_where_the_address_is_given(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    (tmp_path / "iomem").write_text(
        "".join(f"{start:08x}-{end - 1:08x} : System RAM\n" for start, end in X86_RAM)
    )
    note = kernel.base + NOTE_AT
    given = {"memory_map": tmp_path / "iomem", "use_elfcorehdr": False, "vmcoreinfo": note}
    monkeypatch.setattr("vmcorefs.discovery.explore.scan", None)
    assert release(open_capture(ram, **given).image) == "6.1.0-test"
