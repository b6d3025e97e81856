"""One thread at a time, and a clear error for any other: what training asks for."""

from __future__ import annotations

import threading


class Exclusive:
    """A claim that one thread holds, as often as it likes; another one is refused at once.

    A lock, so that it holds without the GIL too.
    """

    __slots__ = ("_acquire", "_message", "release")

    def __init__(self, message: str) -> None:
        lock = threading.RLock()
        self._acquire, self.release, self._message = lock.acquire, lock.release, message

    def claim(self) -> None:
        """Take hold until `release`; where a microsecond counts, quicker than `with`."""
        if not self._acquire(False):
            raise RuntimeError(self._message)

    __enter__ = claim

    def __exit__(self, *_: object) -> None:
        self.release()
