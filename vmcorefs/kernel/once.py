"""Values that are worked out once, also where several threads ask at the same time."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, Protocol, Self, TypeVar, overload

Value = TypeVar("Value")


class _Locked(Protocol):
    lock: RLock


class once(Generic[Value]):  # noqa: N801  # a decorator, as functools.cached_property is
    """A property that is worked out when it is first asked for, and kept.

    Whoever asks meanwhile waits: since Python 3.12 a ``cached_property`` has two threads do the
    same work. What raises is not kept. The instance has a lock, ``lock``.
    """

    def __init__(self, work_out: Callable[[Any], Value]) -> None:
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: _Locked, owner: type[object]) -> Value: ...

    def __get__(self, instance: _Locked | None, owner: type[object]) -> Self | Value:
        if instance is None:
            return self
        kept = vars(instance)  # found there, it is not asked of this descriptor again
        with instance.lock:
            if self._name not in kept:
                kept[self._name] = self._work_out(instance)
            value: Value = kept[self._name]
            return value
