"""What is to be known of tasks: their structures and stacks, and what those lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np

from vmcorefs.core.structures.tasks import Task
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.tasks import KernelTasks
from vmcorefs.reports.triage.crawl import Crawl, UInt64Array, distinct_words
from vmcorefs.reports.triage.parts import want_functions

_STACK: Final = 1 << 14
"""THREAD_SIZE of most machines, in bytes."""
_MAX_STACK: Final = 1 << 16
_BLOCKED, _IDLE = 0x2, 0x402  # TASK_UNINTERRUPTIBLE, TASK_IDLE (include/linux/sched.h)
_MAX_BLOCKED: Final = 4096
_OBJECT: Final = 256
"""Bytes that are taken for what a word on a stack leads to: a lock, a completion."""
_SP: Final = ("rsp", "sp")


def want_tasks(crawl: Crawl, tasks: KernelTasks) -> None:
    """Want every task, and what it leads to."""
    # a task that has ended may still run, and be on no list
    addresses = [*(task.address for task in tasks.tasks), *_running(crawl)]
    task = crawl.layout("task_struct")
    crawl.follow(task, addresses)
    for pointer, values in crawl.pointers(task, addresses):
        if pointer.to in ("mm_struct", "signal_struct"):
            crawl.follow(crawl.layout(pointer.to), values.tolist())


def _running(crawl: Crawl) -> list[int]:
    """What each CPU runs, by its run queue."""
    kernel = crawl.kernel
    queues = kernel.symbol("runqueues") + kernel.structs("rq")["rq"].offset("curr")
    places = (queues + crawl.cpu_offsets.astype(object)) % (1 << 64)
    return [kernel.virtual.pointer(place) for place in places.tolist()]


def want_stacks(crawl: Crawl, tasks: KernelTasks) -> None:
    """Want what is in use of every stack; all of it of those that run, and of those that wait.

    A task that waits for a lock has it on its stack, and what leads to it.
    """
    size = _stack_size(crawl.kernel)
    for task in tasks.tasks:
        top = task.stack + size
        start = top if not task.stack else _start(tasks, task, top)
        crawl.mark([start], np.array([top - start]))
    blocked = [task for task in tasks.tasks if _is_blocked(task)][:_MAX_BLOCKED]
    crawl.mark([task.stack for task in blocked], size)
    at = crawl.kernel.structs("task_struct")["task_struct"].offset("stack")
    crawl.mark([crawl.kernel.virtual.pointer(task + at) for task in _running(crawl)], size)
    array = _page_array(crawl.kernel)
    for words in _stacks(crawl.kernel, blocked, size):
        crawl.mark(words, _OBJECT)
        for page in words[(words >= array[0]) & (words < array[1])].tolist():
            with suppress(VmcorefsError):
                _want_file(crawl, page)


def want_code_on_stacks(crawl: Crawl, tasks: KernelTasks) -> None:
    """Want the functions that the stacks in use lead to."""
    kernel, size = crawl.kernel, _stack_size(crawl.kernel)
    found = [np.zeros(0, dtype=np.uint64)]
    for task in tasks.tasks:
        with suppress(VmcorefsError):
            start, word = _start(tasks, task, task.stack + size), kernel.word_size
            count = (task.stack + size - start) // word
            found.append(distinct_words(kernel.virtual.integers(start, count, word)))
    want_functions(crawl, distinct_words(np.concatenate(found)))


def _page_array(kernel: Kernel) -> UInt64Array:
    """Where ``struct page`` are, from the first to the last; shape ``(2,)``."""
    nowhere = np.zeros(2, dtype=np.uint64)
    with suppress(VmcorefsError):
        array, size = kernel.pages.array, kernel.pages.layout.size
        if len(array.vaddr):
            ends = array.vaddr[0], array.vaddr[-1] + array.count[-1] * size
            return np.array(ends, dtype=np.int64).view(np.uint64)
    return nowhere


def _want_file(crawl: Crawl, page: int) -> None:
    """Want what tells which file or block device a page that a task waits for is of."""
    kernel = crawl.kernel
    structs = kernel.structs("page", "address_space", "inode", "super_block", "bdev_inode")
    memory = kernel.virtual
    mapping = memory.pointer(page + structs["page"].offset("mapping")) & -4
    crawl.mark([mapping], structs["address_space"].size)
    inode = memory.pointer(mapping + structs["address_space"].offset("host"))
    device = inode - structs["bdev_inode"].offset("vfs_inode")
    crawl.mark([inode, device], [structs["inode"].size, structs["bdev_inode"].size])
    crawl.mark(
        [memory.pointer(inode + structs["inode"].offset("i_sb"))], structs["super_block"].size
    )


def _start(tasks: KernelTasks, task: Task, top: int) -> int:
    """The lowest address of a stack that is in use."""
    if task.is_on_cpu or _is_blocked(task):
        return task.stack
    with suppress(VmcorefsError):
        registers = tasks.registers(task)
        frame = next((registers[name] for name in _SP if name in registers), 0)
        # what the switch has left is below it
        if task.stack + 128 <= frame <= top:
            return frame - 128
    return task.stack


def _is_blocked(task: Task) -> bool:
    return bool(task.state & _BLOCKED) and task.state & _IDLE != _IDLE


def _stack_size(kernel: Kernel) -> int:
    """THREAD_SIZE, as the linker has it (include/asm-generic/vmlinux.lds.h, INIT_TASK_DATA)."""
    with suppress(VmcorefsError):
        for start, end in (
            ("__start_init_stack", "__end_init_stack"),
            ("__start_init_task", "__end_init_task"),
        ):
            low, high = kernel.symbols.lookup(start), kernel.symbols.lookup(end)
            if low is not None and high is not None and 0 < high - low <= _MAX_STACK:
                return high - low
    return _STACK


def _stacks(kernel: Kernel, tasks: list[Task], size: int) -> Iterator[UInt64Array]:
    """The distinct addresses on each stack."""
    for task in tasks:
        with suppress(VmcorefsError):
            yield distinct_words(
                kernel.virtual.integers(task.stack, size // kernel.word_size, kernel.word_size)
            )
