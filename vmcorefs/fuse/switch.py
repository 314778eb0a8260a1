"""The switch between /dev/fuse and libfuse: reads are answered here, the rest is passed on.

Worker threads read the true device, one at a time; libfuse reads a socket that has taken its place
(``fuse/libfuse``). A READ costs no turn of trio's loop (docs/decisions/0010).

::

    /dev/fuse --> workers: READ, LSEEK --> /dev/fuse
                    | all else                ^
                    v                         |
                  socket --> libfuse, pyfuse3 on trio --> answers: INIT and OPEN patched

The locking rules::

    .-- Locks ------------------------------------------------------------------------------.
    | _lead   Held by the leader, the one worker that reads the device; it is held while    |
    |         waiting for a request, however long. The leader keeps it while it answers     |
    |         what needs no waiting, and releases it before anything that may wait. If the  |
    |         leader hangs all the same, tick() releases it in its place.                   |
    | _lock   Held for a few assignments. Under it a thread may be started and _lead        |
    |         released; nothing waits for a disk, the device or a lock (only the log line   |
    |         that no thread could be started may wait for the log).                        |
    | Order   _lead, then _lock. Nobody acquires _lead with _lock held.                     |
    |-- State ------------------------------------------------------------------------------|
    | _lock   _waiting         workers that lead or wait to lead                            |
    |         _workers         workers that are not late; each gives back its own count     |
    |                          when it ends, unless tick() has, because it was late         |
    |         _lacks_threads   the last attempt to start a worker failed                    |
    |         _hanging         leaders replaced by tick(), not back yet; the leader reads   |
    |                          it without the lock                                          |
    |         _at_once         the leader's READ or LSEEK; the leader sets it without the   |
    |                          lock. Whoever clears it, leader or tick(), decides who       |
    |                          leads; a worker that finds it changed leads no longer        |
    | _lead   _spins           only the leader uses it                                      |
    | none    _stopped         becomes True once, and is checked before each request        |
    |         _has_cpus        tick() writes it, the leader reads it                        |
    |         deadlines        one dictionary operation each, which is atomic: a request is |
    |                          late if tick() removes it before its worker does             |
    |-- Blocking ---------------------------------------------------------------------------|
    | A worker that has passed on the lead holds no lock, and may wait for a disk forever.  |
    | tick() and the methods that pyfuse3's side calls never wait for one of those.         |
    '---------------------------------------------------------------------------------------'
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

_MAX_WORKERS = 64
"""Most requests that may wait for a disk at once, not counting late ones."""
_LONGEST_SPIN = 100e-6
"""Seconds that the leader polls before it sleeps. Waking a CPU of a virtual machine takes 40 µs."""
_RETRY_AFTER = 0.1
"""Seconds between two attempts to answer without memory."""


class Answers(Protocol):
    """Answers of the tree's files, as the switch needs them."""

    def read_at_once(self, device: int, unique: int, node: int, offset: int, size: int) -> bool:
        """Answer a READ if that needs no waiting; return whether it did.

        It may raise only OSError from writing to ``device``.
        """

    def read(
        self, device: int, unique: int, node: int, offset: int, size: int, *, direct: bool
    ) -> None:
        """Answer a READ by writing to ``device``; it may raise only OSError from that.

        With ``direct`` the answer goes to the reader, not into the page cache.
        """

    def seek(self, node: int, offset: int, whence: int) -> int:
        """Answer an LSEEK with an offset, or a negative errno."""

    def backing_of(self, node: int) -> int:
        """The number of the file that a node's reads are passed to; 0 for none."""

    def give_up(self, late: Pending, seconds: float) -> None:
        """Record that a request takes too long; it has been answered with EIO."""

    def came_back(self, late: Pending) -> None:
        """Record that the work on a late request has ended after all."""

    def out_of_memory(self) -> None:
        """Record that a request was answered with EIO for lack of memory."""


class Switch:
    """Stands between the kernel and libfuse for one mount."""

    def __init__(self, descriptor: int, answers: Answers, timeout: float = 0) -> None:
        """Put a socket in the place of /dev/fuse.

        Args:
            descriptor: What libfuse reads; it must not have read anything yet.
            answers: Serves the files.
            timeout: Seconds that a read may take before it is answered with EIO; 0 for any time.
                After twice as long the kernel gives up the daemon itself.
        """
        self._answers = answers
        self._timeout = timeout
        self.deadlines = Deadlines(timeout)
        self._ended: Callable[[], None] = lambda: None
        self._descriptor = descriptor
        self._device = os.dup(descriptor)
        self._libfuse = Libfuse(descriptor, self._device, timeout, answers.backing_of)
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        self._poll = poll.poll
        self._has_cpus = has_cpus()
        self._spins = False
        self._lock = threading.Lock()
        self._lead = threading.Lock()
        self._at_once: Pending | None = None
        self._hanging = 0
        self._waiting = self._workers = 0
        self._lacks_threads = False
        self._stopped = False

    def start(self, ended: Callable[[], None]) -> None:
        """Start serving; the threads end with the mount or with the process.

        Args:
            ended: Called once from a thread, when the tree has been unmounted.
        """
        self._ended = ended
        threading.Thread(
            target=self._libfuse.pass_answers_on, args=(self._fail,), daemon=True
        ).start()
        with self._lock:
            self._start_worker()

    def stop(self) -> None:
        """Give /dev/fuse back to libfuse, which unmounts by it.

        The switch's own descriptor stays open, because a worker may be waiting on it: its number
        must not be reused for another file.
        """
        self._stopped = True
        os.dup2(self._device, self._descriptor, inheritable=False)

    def open_backing(self, descriptor: int) -> int:
        """Register an opened file that reads can be passed to, and return its number.

        Raises:
            OSError: ENOSYS if this kernel does not pass reads through; or as the kernel says.
        """
        return self._libfuse.open_backing(descriptor)

    def forget_name(self, parent: int, name: str) -> None:
        """Have the kernel look a name up again."""
        with suppress(FileNotFoundError):  # it does not have the name, and will look it up anyway
            os.write(self._device, wire.forget_name(parent, name))

    def _start_worker(self) -> None:
        try:
            # not Thread.start(): that waits for a signal that a thread without memory never gives
            _thread.start_new_thread(self._run_worker, ())
        except (RuntimeError, MemoryError) as error:
            # the existing workers go on
            first, self._lacks_threads = not self._lacks_threads, True
            if first:
                with suppress(MemoryError):
                    log.error(  # noqa: TRY400  # not a bug
                        "cannot start another thread to answer reads: %s", error
                    )
        else:
            self._lacks_threads = False

    def _keep_one_waiting(self) -> None:
        """Start another worker if none leads or waits to; called with ``_lock`` held."""
        if not self._stopped and not self._waiting and self._workers < _MAX_WORKERS:
            self._start_worker()

    def _pass_on_lead(self) -> None:
        """Let another worker lead; called with ``_lock`` held."""
        self._waiting -= 1
        self._keep_one_waiting()
        self._lead.release()

    def _run_worker(self) -> None:
        try:
            buffer = memoryview(bytearray(wire.REQUEST_SIZE))
        except MemoryError:
            return  # tick() starts another
        with self._lock:
            self._workers += 1
            self._waiting += 1
        self._lead_and_serve(buffer)

    def _lead_and_serve(self, buffer: memoryview) -> None:
        """Lead; while another leads, serve a request that has to wait; then wait to lead again.

        If all workers read the device, they would fight for the interpreter at each system call.
        """
        leads, pending = False, None
        try:
            while not self._stopped:
                if not leads:
                    leads = self._lead.acquire()
                    continue
                if (taken := self._receive(buffer)) is None:
                    continue
                request, pending = taken
                done = self._try(self._handle_at_once, request)
                leads = self._stays_leader(pending, done=done)
                if not done:
                    self._try(self._handle, request)
                if pending is not None and not self.deadlines.end(pending):
                    self._answers.came_back(pending)
                    return  # it was late, and another worker has replaced it
                pending = None
                if not leads:
                    with self._lock:
                        self._waiting += 1
        finally:
            self._leave(pending, leads=leads)

    def _leave(self, pending: Pending | None, *, leads: bool) -> None:
        is_late = pending is not None and not self.deadlines.end(pending)
        with self._lock:
            self._workers -= not is_late
            if leads:
                self._pass_on_lead()

    def _receive(self, buffer: memoryview) -> tuple[memoryview, Pending | None] | None:
        """Wait for a request and record it; None if there is nothing to do for it."""
        pending = None
        try:
            request = buffer[: self._read_device(buffer)]
            pending = self._begin(request)
            taken = request, pending
        except OSError as error:
            # these errors: the request was withdrawn while it was handed over
            if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                self._end(error)
            return None
        except MemoryError as error:
            if pending is not None:
                self.deadlines.end(pending)
            self._fail(buffer, error)  # if none was read, the last one, which has its answer
            return None
        self._at_once = pending
        return taken

    def _read_device(self, buffer: memoryview) -> int:
        """Wait for a request; poll at first, if the last one came soon enough for that.

        A reader on another CPU asks again in less time than it takes to wake an idle CPU.
        """
        if not self._has_cpus:
            return os.readv(self._device, (buffer,))
        end = time.monotonic() + _LONGEST_SPIN
        while self._spins and not self._poll(0) and time.monotonic() < end:
            pass
        count = os.readv(self._device, (buffer,))
        self._spins = time.monotonic() < end
        return count

    def _stays_leader(self, pending: Pending | None, *, done: bool) -> bool:
        with self._lock:
            if self._at_once is not pending:  # tick() has passed on the lead
                self._hanging -= 1
                return False
            self._at_once = None
            if not done:
                # this worker may wait for a disk now: another one must take the next request
                self._pass_on_lead()
            return done

    def _try(self, work: Callable[[memoryview], bool], request: memoryview) -> bool:
        try:
            return work(request)
        except Exception as error:  # noqa: BLE001  # a worker must not end
            self._fail(request, error)
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
        if not self.deadlines.end(late):  # only now: without memory for that, the next tick() tries
            return
        with self._lock:
            self._workers -= 1  # tick() starts another; the late one ends when it comes back
        self._answers.give_up(late, self._timeout)

    def tick(self) -> None:
        """Give up reads that are late; to be called every ``deadlines.interval`` seconds."""
        with self._lock:
            slow = self._at_once
            if slow is not None and slow.since <= time.monotonic() - self.deadlines.interval:
                # it should have needed no waiting, but hangs: the others must not wait for it, and
                # until it is back, the leader does not try what might hang in the same way
                self._at_once = None
                self._hanging += 1
                self._pass_on_lead()
        for late in self.deadlines.late():
            self._give_up(late)
        self._has_cpus = has_cpus()
        with self._lock:
            self._keep_one_waiting()  # also if a thread could not be started before

    def _fail(self, message: memoryview, error: Exception) -> None:
        # nobody waits for the answer any more, or libfuse is gone
        gone = (errno.ENOENT, errno.ENODEV, errno.EPIPE)
        if isinstance(error, OSError) and error.errno in gone:
            return
        # answer first: without an answer the kernel waits, and gives up the daemon in the end
        with suppress(OSError):
            while not self._refused(message):
                time.sleep(_RETRY_AFTER)
        with suppress(MemoryError):
            if isinstance(error, MemoryError):
                self._answers.out_of_memory()
            else:
                log.error("a bug in vmcorefs: a request could not be answered", exc_info=error)

    def _refused(self, message: memoryview) -> bool:
        try:
            self._refuse(wire.unique_of(message), -errno.EIO)
        except MemoryError:
            return False
        return True

    def refuse_passed_on(self) -> None:
        """Answer with EIO what libfuse has dropped, or readers would wait for it forever."""
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

    def _handle_at_once(self, request: memoryview) -> bool:
        """Answer or pass on a request if that needs no waiting; return whether it did."""
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

    def _handle(self, request: memoryview) -> bool:
        """Answer or pass on a request, waiting as long as it takes; return True."""
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
