"""A reader under load: says when it reads; when its standard input ends, what it saw, as JSON.

    python reader.py MODE FILE EXPECTED UNTIL PAUSE

MODE is sequential, random or mmap; EXPECTED has the right bytes; only what precedes offset UNTIL is
read, with PAUSE seconds between two reads. A mapping is read by the kernel, into a file in memory:
a page that cannot be had is then EFAULT, and not the end of this process.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

PAGE = 4096
CHUNK = 256 << 10


class Reader:
    def __init__(self, mode: str, path: str, expected: str, until: int, pause: float) -> None:
        with open(expected, "rb") as file:
            self._right = file.read()
        self._fd = os.open(path, os.O_RDONLY)
        self._until = until
        self._pause = pause
        self._read: Callable[[int, int], bytes] = self._map() if mode == "mmap" else self._read_file
        self._picks = random.Random(1)  # noqa: S311  # a test's offsets are no secret
        self._offsets = self._in_turn if mode == "sequential" else self._at_random
        self.good: Counter[int] = Counter()  # by second of time.monotonic, tenths
        self.last_good = 0.0
        self.wrong: list[int] = []
        self.ends: list[int] = []
        self.errors: dict[int, list[int]] = {}
        self.slowest = 0.0

    def _map(self) -> Callable[[int, int], bytes]:
        view = memoryview(mmap.mmap(self._fd, len(self._right), mmap.MAP_SHARED, mmap.PROT_READ))
        copy = os.memfd_create("copy")

        def read(offset: int, size: int) -> bytes:
            # a long one may be cut where the fault is, as a read is
            count = os.pwrite(copy, view[offset : offset + size], 0)
            return os.pread(copy, count, 0)

        return read

    def _read_file(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def _in_turn(self) -> Iterator[tuple[int, int]]:
        while True:
            for offset in range(0, self._until, CHUNK):
                yield offset, CHUNK
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _at_random(self) -> Iterator[tuple[int, int]]:
        while True:
            for _ in range(200):
                yield self._picks.randrange(self._until // PAGE) * PAGE, PAGE
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def run(self) -> None:
        last = 3  # reads after it is told to end: they tell whether it can go on
        for number, (offset, size) in enumerate(self._offsets()):
            self._read_all(offset, min(size, self._until - offset))
            if number == 0:
                sys.stdout.write("reading\n")
                sys.stdout.flush()
            if select.select([0], [], [], self._pause)[0]:
                last -= 1
            if not last:
                break
        seen = {"good": self.good, "last_good": self.last_good, "slowest": self.slowest}
        wrong = {"wrong": self.wrong, "ends": self.ends, "errors": self.errors}
        json.dump({**seen, **wrong}, sys.stdout)

    def _read_all(self, offset: int, size: int) -> None:
        end = offset + size
        while offset < end:
            began = time.monotonic()
            try:
                found = self._read(offset, end - offset)
            except OSError as error:
                self.errors.setdefault(error.errno or 0, []).append(offset)
                if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                    time.sleep(0.05)
                found = b"\0" * min(PAGE, end - offset)
            else:
                if not found:
                    self.ends.append(offset)
                    return
                if found == self._right[offset : offset + len(found)]:
                    self.last_good = time.monotonic()
                    self.good[int(self.last_good * 10)] += 1
                else:
                    self.wrong.append(offset)
            self.slowest = max(self.slowest, time.monotonic() - began)
            offset += len(found)


if __name__ == "__main__":
    _, mode, path, expected, until, pause = sys.argv
    Reader(mode, path, expected, int(until), float(pause)).run()
