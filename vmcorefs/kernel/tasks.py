"""The tasks of the kernel that died, and the registers of those that no CPU was running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vmcorefs.core.structures.per_cpu import cpu_offsets
from vmcorefs.core.structures.switch_frame import SWITCH_FRAMES
from vmcorefs.core.structures.tasks import STRUCTS, Task, TaskLists
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import UnsupportedError, VmcorefsError

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

_ADDRESSES = 1 << 64


class KernelTasks(msgspec.Struct, frozen=True, eq=False):
    """The tasks of one kernel.

    Attributes:
        kernel: The kernel.
        structs: The layouts of what keeps its tasks and their registers.
        tasks: Its tasks, as ``TaskLists.iter_tasks`` has them.
        warnings: Which of them are missing, and why, a line each.
    """

    kernel: Kernel
    structs: dict[str, Struct]
    tasks: tuple[Task, ...]
    warnings: tuple[str, ...]

    def registers(self, task: Task) -> dict[str, int]:
        """The registers that a task was switched out with; of one that a CPU runs, stale ones.

        Raises:
            UnsupportedError: if it is not known where the architecture keeps them.
            VmcorefsError: if they cannot be read.
        """
        frame = SWITCH_FRAMES.get(self.kernel.machine)
        if frame is None:
            raise UnsupportedError("no registers of tasks: unknown where this machine keeps them")
        return frame.read(self.kernel.virtual, self.structs, task.address)


def find_tasks(kernel: Kernel) -> KernelTasks:
    """Follow a kernel's lists of tasks; what came before an error is kept.

    Raises:
        VmcorefsError: if no task can be found: there are no symbols, no BTF or no page tables.
    """
    frame = SWITCH_FRAMES.get(kernel.machine)
    init_task = kernel.symbol("init_task")
    structs = kernel.structs(*STRUCTS, "rq", *(frame.structs if frame is not None else ()))
    warnings: list[str] = []
    idle, current = [init_task], [init_task]
    try:
        idle = _read_queues(kernel, structs["rq"].offset("idle"))
        current = _read_queues(kernel, structs["rq"].offset("curr"))
    except VmcorefsError as error:
        warnings.append(f"no idle tasks but CPU 0's: {error}")
    lists = TaskLists(kernel.virtual, structs, frozenset(current))
    tasks: list[Task] = []
    lost: list[str] = []

    def lose(leader: Task, error: VmcorefsError) -> None:
        lost.append(f"pid {leader.pid}: {error}")

    try:
        tasks.extend(lists.iter_tasks(init_task, idle, lose))
    except VmcorefsError as error:
        warnings.append(f"{len(tasks)} tasks, then: {error}")
    if lost:
        warnings.append(f"not all threads of {len(lost)} processes, first {lost[0]}")
    return KernelTasks(kernel, structs, tuple(tasks), tuple(warnings))


def _read_queues(kernel: Kernel, offset: int) -> list[int]:
    """The pointer at an offset of each CPU's ``struct rq``."""
    queues = kernel.symbol("runqueues") + offset
    offsets = cpu_offsets(kernel.image, kernel.symbols).values()
    return [kernel.virtual.pointer((queues + moved) % _ADDRESSES) for moved in offsets]
