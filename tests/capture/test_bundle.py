"""vmcorefs as a capture initramfs carries it: run in a root that holds nothing else."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmcorefs
from tests.capture.conftest import Programs
from vmcorefs.capture.prepare.closure import find_libraries, find_modules
from vmcorefs.capture.prepare.initramfs import fill
from vmcorefs.capture.settings import DumpSettings, KeepSettings, Settings, TargetSettings
from vmcorefs.errors import UnsupportedError
from vmcorefs.native import pages as native

SETTINGS = Settings(
    target=TargetSettings(filesystem="LABEL=unused"), dump=DumpSettings(), keep=KeepSettings(free=1)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What an initramfs has besides: a shell, and a few directories."""
    root = tmp_path_factory.mktemp("initramfs")
    for name in ("bin", "dev", "proc", "run", "tmp"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "dev/null").touch()
    bundle = fill(str(root), SETTINGS)
    assert not bundle.has_blas
    assert bundle.size < 64 << 20
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    yield root
    subprocess.run(["umount", root / "proc"], check=True)


def chroot(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["chroot", root, *command], capture_output=True, text=True, check=False, timeout=60
    )


def test_it_saves_there_as_here(root: Path, vmcore: Path) -> None:
    shutil.copy(vmcore, root / "vmcore")
    for number, (kind, level) in enumerate([("vmcore", 0), ("kdump", 0), ("kdump", 31)]):
        (root / f"{number}.toml").write_text(
            f'[target]\ndirectory = "/crash{number}"\n[keep]\nfree = 0\n'
            f'[dump]\nformat = "{kind}"\nlevel = {level}\n'
        )
        done = chroot(
            root,
            "/usr/bin/vmcorefs",
            *("capture", "save", "--config", f"/{number}.toml", "--vmcore", "/vmcore"),
        )
        assert done.returncode == 0, done.stderr
        (dump,) = (root / f"crash{number}").iterdir()
        assert json.loads((dump / "summary.json").read_text())["complete"] is True
        if kind == "vmcore":
            assert filecmp.cmp(dump / "vmcore", vmcore, shallow=False)


def test_pages_are_compressed_in_machine_code_there(root: Path) -> None:
    lazily = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)"  # as main.py does
    code = f"{lazily}; from vmcorefs.native import pages; print(pages.library_of(1))"
    done = chroot(root, "/usr/lib/vmcorefs/bin/python3", "-I", "-S", "-B", "-c", code)
    assert done.returncode == 0, done.stderr
    assert native.library_of(1) is not None
    assert done.stdout.strip() == native.library_of(1)


@pytest.mark.parametrize(
    "command", [["--help"], ["capture", "--help"], ["mount", "--help"], ["capture", "try"]]
)
def test_every_module_is_there(root: Path, command: list[str]) -> None:
    done = chroot(root, "/usr/bin/vmcorefs", *command)
    assert done.returncode == 0, done.stderr


def test_the_trial_misses_what_a_single_command_needs(root: Path) -> None:
    (module,) = (root / "usr/lib/vmcorefs").rglob("commands/check.pyc")
    aside = module.rename(root / "check.pyc")
    done = chroot(root, "/usr/bin/vmcorefs", "capture", "try")
    aside.rename(module)
    assert done.returncode == 1
    assert "vmcorefs.commands.check" in done.stderr


def test_a_module_of_ours_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(vmcorefs.__file__).parent, tmp_path / "vmcorefs")
    (tmp_path / "vmcorefs/commands/broken.py").write_text("raise ValueError('no such CPU')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        UnsupportedError,
        match=r"^.*: cannot list .*: vmcorefs[.]commands[.]broken: ValueError: no such CPU$",
    ):
        find_modules("zlib")


def test_libraries_that_ldd_does_not_tell(programs: Programs) -> None:
    programs.add("ldd", "echo '\tnot a dynamic executable' >&2; exit 1")
    assert find_libraries(["/bin/static"]) == set()
    programs.add("ldd", "echo 'ldd: exited with unknown exit code (139)' >&2; exit 1")
    with pytest.raises(UnsupportedError, match=r"^/bin/x: ldd does not know .*: ldd: exited .*$"):
        find_libraries(["/bin/x"])


def test_what_only_a_report_uses_is_not_carried(root: Path) -> None:
    assert list((root / "usr/lib/vmcorefs").rglob("reports/report/gather.pyc"))
    for name in ("dask", "distributed", "drgn", "pyarrow"):
        assert not list((root / "usr").rglob(name))
    assert not list((root / "usr").rglob("reports/report/walk/walk.pyc"))


def test_no_source_and_no_linear_algebra_is_carried(root: Path) -> None:
    names = {path.name for path in (root / "usr").rglob("*") if path.is_file()}
    assert [name for name in names if name.endswith(".py")] == ["main.py"]
    assert [name for name in names if re.search("(blas|gfortran).*[.]so", name)] == []


def test_mount_is_util_linux_without_its_setuid_bit(root: Path) -> None:
    assert (root / "usr/lib/vmcorefs/bin/mount").stat().st_mode & 0o7777 == 0o755
    done = chroot(root, "/usr/lib/vmcorefs/bin/mount", "--version")
    assert "util-linux" in done.stdout


def test_the_settings_are_there_with_the_limits_of_the_shell_that_watches(root: Path) -> None:
    assert 'filesystem = "LABEL=unused"' in (root / "etc/vmcorefs.toml").read_text()
    run = (root / "usr/lib/vmcorefs/run.conf").read_text()
    assert run == "limit=1890\npatience=180\nmount=no\n"  # 30 min, 60 s for the device, 30 s
