"""One thread at a time, and a clear error for any other: what training asks for."""

from __future__ import annotations

import threading


class Exclusive:
    """A claim that one thread holds, as often as it likes; another one is refused at once.

    A lock, so that it holds without the GIL too.
    """

    __slots__ = ("_lock", "_message")

    def __init__(self, message: str) -> None:
        self._lock = threading.RLock()
        self._message = message

    def __enter__(self) -> None:
        if not self._lock.acquire(False):
            raise RuntimeError(self._message)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
