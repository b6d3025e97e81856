"""Waiting for tasks that other threads of Python do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TypeVar

_Result = TypeVar("_Result")

# Seconds between two looks at what is waited for.
_LOOK = 0.05


def results_of(tasks: Sequence[Future[_Result]]) -> list[_Result]:
    """The results of all; the first error ends the wait, and so does Ctrl-C.

    A wait without an end would not see Ctrl-C where another library, such as polars, has the system
    go on with what a signal interrupts.
    """
    left = set(tasks)
    while left:
        done, left = wait(left, _LOOK, FIRST_EXCEPTION)
        for task in done:
            task.result()
    return [task.result() for task in tasks]
