"""How many threads to use: the process's default and what one call asks for."""

from __future__ import annotations

import os

from downslope import _kernels
from downslope._validate import as_count

_default: int | None = None


def set_num_threads(threads: int) -> None:
    """Set the number of threads that calls use unless they say otherwise.

    Results do not depend on it.

    Parameters
    ----------
    threads : int
        At least 1; the calling thread counts.

    Raises
    ------
    TypeError, ValueError
        If it is not a whole number of at least 1.

    Examples
    --------
    >>> import downslope as ds
    >>> before = ds.get_num_threads()
    >>> ds.set_num_threads(1)
    >>> ds.get_num_threads()
    1
    >>> ds.set_num_threads(before)
    """
    global _default
    _default = min(as_count("threads", threads), _kernels.MAX_THREADS)


def get_num_threads() -> int:
    """The number of threads that calls use unless they say otherwise.

    What `set_num_threads` set; else the environment variable ``DOWNSLOPE_NUM_THREADS``; else the
    number of CPUs this process may run on.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If ``DOWNSLOPE_NUM_THREADS`` is not a whole number of at least 1.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.get_num_threads() >= 1
    True
    """
    if _default is not None:
        return _default
    text = os.environ.get("DOWNSLOPE_NUM_THREADS", "")
    if text:
        try:
            set_num_threads(int(text))
        except ValueError:
            raise ValueError(
                f"DOWNSLOPE_NUM_THREADS must be a whole number of at least 1; got {text!r}"
            ) from None
    else:
        set_num_threads(_available_cpus())
    return get_num_threads()


def resolve(threads: int | None) -> int:
    """The number of threads for one call: what it asks for, or the default."""
    if threads is None:
        return get_num_threads()
    return min(as_count("threads", threads), _kernels.MAX_THREADS)


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
