"""Putting a report together."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vmcorefs.core.elf.registers import CpuState
from vmcorefs.errors import VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.cpu_slots import has_saved_registers, slots_of_cpus
from vmcorefs.kernel.debug.installed import find_vmlinux
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.crash import report_image, report_log
from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.by_stack import title_by_stack
from vmcorefs.reports.report.hardware import find_device_dumps, read_recovered
from vmcorefs.reports.report.logged import hardware_errors, last_oom, last_warnings
from vmcorefs.reports.report.machine import (
    UNKNOWN_MACHINE,
    describe_machine,
    panicked_cpu,
    read_taints,
)
from vmcorefs.reports.report.schema import VERSION, Report, Why
from vmcorefs.reports.report.watchdogs import read_watchdogs

if TYPE_CHECKING:
    from vmcorefs.reports.report.walk.walk import Walked

HAS_DRGN = find_spec("drgn") is not None

_WALKED = "cpus, tasks, blocked, memory, modules, disks"
NOTHING_KNOWN = Report(
    schema=VERSION,
    died=UNKNOWN_MACHINE,
    crash=report_log(b""),
    why=Why(panicked=None, taints=[], cpu=None, task=None, stack=None),
    cpus=[],
    tasks={},
    threads=[],
    blocked=[],
    memory=None,
    modules=[],
    disks=[],
    oom=None,
    watchdogs={},
    hardware=[],
    recovered=None,
    devices=[],
    warnings=[],
    unknown=[],
)

NO_DRGN = (
    "drgn is not installed, which follows the kernel's structures: pip install 'vmcorefs[report]'"
)


def make_report(image: MemoryImage, *, without_drgn: str = "") -> Report:
    """Say why a machine died, as far as its image tells; it reads some ten MiB of it.

    Args:
        image: The dead machine.
        without_drgn: Why drgn, which takes memory and time, is not to be used here, if it is not.
    """
    kernel, asked = image.kernel, Asked()
    crash = report_image(image)
    if image.log is None:
        asked.miss("crash", crash.reason)
    elif kernel is not None and kernel.log[1]:
        asked.miss("crash", kernel.log[1])
    if kernel is None:
        asked.miss("all else", f"no kernel to ask: {image.no_kernel}")
        return replace(NOTHING_KNOWN, crash=crash, unknown=asked.unknown)
    log = (image.log or b"").decode("utf-8", "backslashreplace")
    died = describe_machine(asked, image, kernel, log)
    cpu, panicked = _who_panicked(asked, kernel)
    if without_drgn:
        asked.miss(_WALKED, without_drgn)
    walked = _walk(asked, image, kernel, cpu) if not without_drgn else None
    last = next((one for one in walked.cpus if one.number == cpu), None) if walked else None
    if image.log is None and last is not None and last.stack is not None:
        crash = replace(crash, title=title_by_stack(last.stack))
    return Report(
        schema=VERSION,
        died=died,
        crash=crash,
        why=Why(
            panicked=panicked,
            taints=asked.get("why.taints", lambda: read_taints(kernel)) or [],
            cpu=cpu,
            task=last.task if last else None,
            stack=last.stack if last else None,
        ),
        cpus=walked.cpus if walked else [],
        tasks=walked.tasks if walked else {},
        threads=walked.threads if walked else [],
        blocked=walked.blocked if walked else [],
        memory=walked.memory if walked else None,
        modules=walked.modules if walked else [],
        disks=walked.disks if walked else [],
        oom=last_oom(log),
        watchdogs=read_watchdogs(asked, kernel),
        hardware=hardware_errors(log),
        recovered=asked.get("recovered", lambda: read_recovered(kernel)),
        devices=find_device_dumps(image.notes),
        warnings=last_warnings(log),
        unknown=asked.unknown,
    )


def _who_panicked(asked: Asked, kernel: Kernel) -> tuple[int | None, bool | None]:
    try:
        cpu = panicked_cpu(kernel)
    except VmcorefsError as error:
        asked.miss("why.panicked", str(error))
        return None, None
    return cpu, cpu is not None


def _hypervisors_states(image: MemoryImage, kernel: Kernel) -> dict[int, CpuState]:
    """The registers that a hypervisor kept, by number of the CPU; none if the kernel has its own.

    Raises:
        VmcorefsError: if it cannot be read where the kernel keeps them.
    """
    if has_saved_registers(kernel):
        return {}
    header = image.plan.elfcorehdr.header
    slots = slots_of_cpus(kernel, image.notes.cpu_slots)
    states = {cpu: slot.state(header) for cpu, slot in slots.items()}
    return {cpu: state for cpu, state in states.items() if state is not None}


def _walk(asked: Asked, image: MemoryImage, kernel: Kernel, cpu: int | None) -> Walked | None:
    if not HAS_DRGN:
        asked.miss(_WALKED, NO_DRGN)
        return None
    try:
        # here: a capture initramfs has neither drgn nor what needs it
        from vmcorefs.reports.report.walk.walk import walk  # noqa: PLC0415
    except ImportError as error:
        if not (error.name or "").startswith("drgn"):
            raise
        asked.miss(_WALKED, f"drgn is too old, expected 0.1 or later: {error}")
        return None
    vmlinux = image.config.vmlinux or find_vmlinux(kernel.vmcoreinfo)
    try:
        return walk(asked, kernel, cpu, vmlinux, _hypervisors_states(image, kernel))
    except VmcorefsError as error:
        asked.miss(_WALKED, str(error))
        return None
