"""The switch between /dev/fuse and libfuse: reads are answered here, the rest is passed on.

Threads, one at a time, read the true device; libfuse reads a socket that stands where it stood
(``fuse/libfuse``). A READ costs no turn of trio's loop (docs/decisions/0010).

::

    /dev/fuse --> lanes: READ, LSEEK --> /dev/fuse
                    | all else                ^
                    v                         |
                  socket --> libfuse, pyfuse3 on trio --> answers: INIT and OPEN patched
"""

from __future__ import annotations

import _thread
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from vmcorefs.fuse import wire
from vmcorefs.fuse.deadlines import Deadlines, Pending
from vmcorefs.fuse.libfuse import Libfuse
from vmcorefs.fuse.planes.linux import has_cpus

log = logging.getLogger(__name__)

_MAX_LANES = 64
"""Requests that may wait for a disk at once, and are not late."""
_MOMENT = 100e-6
"""Seconds that the lane that leads stays awake. To wake a CPU of a virtual machine takes 40 µs."""
_REST = 0.1
"""Seconds between two attempts to answer where there is no memory."""


class Answers(Protocol):
    """What the switch asks about the files of the tree."""

    def read_at_once(self, device: int, unique: int, node: int, offset: int, size: int) -> bool:
        """Answer a READ if that takes no waiting, and return whether it was.

        Nothing but OSError of writing to ``device`` may leave it.
        """

    def read(
        self, device: int, unique: int, node: int, offset: int, size: int, *, direct: bool
    ) -> None:
        """Answer a READ by writing to ``device``; nothing but OSError of that may leave it.

        ``direct`` says that the answer goes to the reader, and not into the page cache.
        """

    def seek(self, node: int, offset: int, whence: int) -> int:
        """Answer an LSEEK with an offset, or a negative errno."""

    def backing_of(self, node: int) -> int:
        """The number of the file that a node's reads are passed to; 0 for none."""

    def give_up(self, late: Pending, seconds: float) -> None:
        """Take note that the work on a request takes too long; it has been answered with EIO."""

    def came_back(self, late: Pending) -> None:
        """Take note that it is over after all."""

    def out_of_memory(self) -> None:
        """Take note that a request was answered with EIO, as there was no memory for it."""


class Switch:
    """Stands between the kernel and libfuse for one mount."""

    def __init__(self, descriptor: int, answers: Answers, timeout: float = 0) -> None:
        """Put a socket in the place of /dev/fuse.

        Args:
            descriptor: What libfuse reads; it must not have read anything yet.
            answers: Serves the files.
            timeout: Seconds that a read may take before it is answered with EIO; 0 for any time.
                After twice as long the kernel is to give up the daemon itself.
        """
        self._answers = answers
        self._timeout = timeout
        self.deadlines = Deadlines(timeout, self._give_up)
        self._ended: Callable[[], None] = lambda: None
        self._descriptor = descriptor
        self._device = os.dup(descriptor)
        self._libfuse = Libfuse(descriptor, self._device, timeout, answers.backing_of)
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        self._poll = poll.poll
        self._has_cpus = has_cpus()
        self._comes_soon = False
        self._lock = threading.Lock()
        self._leading = threading.Lock()
        self._at_once: Pending | None = None
        self._hanging = 0
        self._waiting = self._lanes = 0
        self._is_short = False
        self._stopped = False

    def start(self, ended: Callable[[], None]) -> None:
        """Start to serve; the threads end with the mount, or with the process.

        Args:
            ended: Called once from a thread, when the tree has been unmounted.
        """
        self._ended = ended
        threading.Thread(
            target=self._libfuse.pass_answers_on, args=(self._fail,), daemon=True
        ).start()
        with self._lock:
            self._add_lane()

    def stop(self) -> None:
        """Give /dev/fuse back to libfuse, which unmounts by it.

        A thread that waits for a request keeps its own hold on the device, so that is not closed:
        its number must not become another file's.
        """
        self._stopped = True
        os.dup2(self._device, self._descriptor, inheritable=False)

    def open_backing(self, descriptor: int) -> int:
        """Register an opened file as one that reads can be passed to, and return its number.

        Raises:
            OSError: ENOSYS if this kernel does not pass reads through; or as the kernel says.
        """
        return self._libfuse.open_backing(descriptor)

    def forget_name(self, parent: int, name: str) -> None:
        """Have the kernel look a name up again."""
        with suppress(FileNotFoundError):  # it does not know the name: it will look it up anyway
            os.write(self._device, wire.forget_name(parent, name))

    def _add_lane(self) -> None:
        try:
            # not Thread.start(): that waits for what a thread without memory never says
            _thread.start_new_thread(self._run_lane, ())
        except (RuntimeError, MemoryError) as error:
            # those that there are go on, one after the other
            first, self._is_short = not self._is_short, True
            if first:
                with suppress(MemoryError):
                    log.error(  # noqa: TRY400  # no bug
                        "cannot start another thread to answer reads: %s", error
                    )
        else:
            self._is_short = False

    def _keep_one_free(self) -> None:
        """Start another lane if none waits; with the lock."""
        if not self._stopped and not self._waiting and self._lanes < _MAX_LANES:
            self._add_lane()

    def _make_way(self) -> None:
        """Let another lane lead; with the lock."""
        self._waiting -= 1
        self._keep_one_free()
        self._leading.release()

    def _run_lane(self) -> None:
        try:
            buffer = memoryview(bytearray(wire.REQUEST_SIZE))
        except MemoryError:
            return  # tick() starts another
        with self._lock:
            self._lanes += 1
            self._waiting += 1
        self._lead_and_serve(buffer)

    def _lead_and_serve(self, buffer: memoryview) -> None:
        """Lead, serve what has to be waited for while another leads, and wait to lead again.

        Lanes that all read the device would fight for the interpreter at each system call.
        """
        leads = False
        try:
            while not self._stopped:
                if not leads:
                    leads = self._leading.acquire()
                    continue
                if (taken := self._receive(buffer)) is None:
                    continue
                request, pending = taken
                done = self._try(self._take_at_once, request)
                leads = self._goes_on_leading(pending, done=done)
                if not done:
                    self._try(self._take, request)
                if pending is not None and not self.deadlines.end(pending):
                    self._answers.came_back(pending)
                    return  # it was late, and another has its place
                if not leads:
                    with self._lock:
                        self._waiting += 1
        finally:
            if leads:
                with self._lock:
                    self._make_way()

    def _receive(self, buffer: memoryview) -> tuple[memoryview, Pending | None] | None:
        """Wait for a request, and take note of it; None if there is nothing to be done for it."""
        try:
            request = buffer[: self._read_device(buffer)]
        except OSError as error:
            # these: the request was taken back while it was handed over
            if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                self._end(error)
            return None
        try:
            pending = self._at_once = self._begin(request)
        except MemoryError as error:
            self._fail(wire.unique_of(request), error)
            return None
        return request, pending

    def _read_device(self, buffer: memoryview) -> int:
        """Wait for a request: awake for a moment, if the last one came as soon.

        A reader on another CPU asks again in less time than it takes to wake an idle one.
        """
        if not self._has_cpus:
            return os.readv(self._device, (buffer,))
        end = time.monotonic() + _MOMENT
        while self._comes_soon and not self._poll(0) and time.monotonic() < end:
            pass
        count = os.readv(self._device, (buffer,))
        self._comes_soon = time.monotonic() < end
        return count

    def _goes_on_leading(self, pending: Pending | None, *, done: bool) -> bool:
        with self._lock:
            if self._at_once is not pending:  # tick() has let another lead
                self._hanging -= 1
                return False
            self._at_once = None
            if not done:
                # who serves may wait for a disk: somebody else must take up the next request
                self._make_way()
            return done

    def _try(self, work: Callable[[memoryview], bool], request: memoryview) -> bool:
        try:
            return work(request)
        except Exception as error:  # noqa: BLE001  # a lane must not end
            self._fail(wire.unique_of(request), error)
            return True

    def _begin(self, request: memoryview) -> Pending | None:
        _, opcode, unique, node = wire.IN_HEADER.unpack_from(request)
        if opcode == wire.READ:
            _, offset, size, _ = wire.READ_IN.unpack_from(request, wire.BODY)
            return self.deadlines.begin(unique, node, offset, size)
        if opcode == wire.LSEEK:
            _, offset, _ = wire.LSEEK_IN.unpack_from(request, wire.BODY)
            return self.deadlines.begin(unique, node, offset, 0)
        return None

    def _give_up(self, late: Pending) -> None:
        with suppress(OSError):  # it has just been answered
            self._refuse(late.unique, -errno.EIO)
        with self._lock:
            self._lanes -= 1  # tick() starts another; this one ends when it comes back
        self._answers.give_up(late, self._timeout)

    def tick(self) -> None:
        """Give up reads that are late; to be called every ``deadlines.interval`` seconds."""
        with self._lock:
            slow = self._at_once
            if slow is not None and slow.since <= time.monotonic() - self.deadlines.interval:
                # it was to take no waiting, and hangs: the others are not to wait for it, and
                # what would hang as it does is not tried by the lane that leads
                self._at_once = None
                self._hanging += 1
                self._make_way()
        self.deadlines.expire()
        self._has_cpus = has_cpus()
        with self._lock:
            self._keep_one_free()  # also where a thread could not be started before

    def _fail(self, unique: int, error: Exception) -> None:
        # nobody waits for the answer any more, or there is nobody left to pass it on to
        gone = (errno.ENOENT, errno.ENODEV, errno.EPIPE)
        if isinstance(error, OSError) and error.errno in gone:
            return
        # the answer first: without one, the kernel waits, and gives up the daemon in the end
        with suppress(OSError):
            while not self._refused(unique):
                time.sleep(_REST)
        with suppress(MemoryError):
            if isinstance(error, MemoryError):
                self._answers.out_of_memory()
            else:
                log.error("a bug in vmcorefs: a request could not be answered", exc_info=error)

    def _refused(self, unique: int) -> bool:
        try:
            self._refuse(unique, -errno.EIO)
        except MemoryError:
            return False
        return True

    def refuse_passed_on(self) -> None:
        """Answer what libfuse has dropped with EIO: it would be waited for without end."""
        for unique in self._libfuse.forget_passed_on():
            with suppress(OSError):
                self._refuse(unique, -errno.EIO)

    def _refuse(self, unique: int, error: int) -> None:
        os.write(self._device, wire.OUT_HEADER.pack(wire.OUT_HEADER.size, error, unique))

    def _end(self, error: OSError) -> None:
        with self._lock:
            first, self._stopped = not self._stopped, True
        if first:
            if error.errno != errno.ENODEV:
                log.error("/dev/fuse: %s", error.strerror)
            self._ended()

    def _take_at_once(self, request: memoryview) -> bool:
        """Do what needs no waiting; return whether that was all."""
        _, opcode, unique, node = wire.IN_HEADER.unpack_from(request)
        if opcode == wire.READ and not self._hanging:
            _, offset, size, _ = wire.READ_IN.unpack_from(request, wire.BODY)
            return self._answers.read_at_once(self._device, unique, node, offset, size)
        if opcode in (wire.READ, wire.LSEEK):
            return False
        try:
            self._libfuse.pass_on(request, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def _take(self, request: memoryview) -> bool:
        """Do what may need waiting; it is then done."""
        _, opcode, unique, node = wire.IN_HEADER.unpack_from(request)
        if opcode == wire.READ:
            _, offset, size, flags = wire.READ_IN.unpack_from(request, wire.BODY)
            direct = bool(flags & wire.READ_LOCKOWNER)
            self._answers.read(self._device, unique, node, offset, size, direct=direct)
        elif opcode == wire.LSEEK:
            _, offset, whence = wire.LSEEK_IN.unpack_from(request, wire.BODY)
            found = self._answers.seek(node, offset, whence)
            if found < 0:
                self._refuse(unique, found)
            else:
                os.write(self._device, wire.LSEEK_OUT.pack(wire.LSEEK_OUT.size, 0, unique, found))
        else:
            self._libfuse.pass_on(request)
        return True
