"""Values that are worked out once, even if several threads ask at the same time."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, Protocol, Self, TypeVar, overload

Value = TypeVar("Value")


class _Locked(Protocol):
    lock: RLock


class once(Generic[Value]):  # noqa: N801  # a decorator, as functools.cached_property is
    """A property that is computed at its first use and kept.

    Other threads wait meanwhile, whereas since Python 3.12 two threads may both compute a
    ``cached_property``. An exception is not kept. The instance must have a lock named ``lock``.
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
