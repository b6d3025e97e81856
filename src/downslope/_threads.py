"""How many threads to use: the process's default and what one call asks for.

The default is kept on the C side, where threadpoolctl finds it too.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

from downslope import _kernels
from downslope._validate import as_count

if TYPE_CHECKING:
    from pathlib import Path


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
    _kernels.set_num_threads(min(as_count("threads", threads), _kernels.MAX_THREADS))


def get_num_threads() -> int:
    """The number of threads that calls use unless they say otherwise.

    What `set_num_threads` or threadpoolctl set; else the environment variable
    ``DOWNSLOPE_NUM_THREADS``; else the number of CPUs this process may run on, by its affinity and
    by the CPU quota of its control group (in a container: the limit it was given), rounded up.

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
    threads = _kernels.get_num_threads()
    if threads == 0:
        set_num_threads(_from_environment() or _available_cpus())
        threads = _kernels.get_num_threads()
    return threads


def resolve(threads: int | None) -> int:
    """The number of threads for one call: what it asks for, or the default."""
    if threads is None:
        return _kernels.get_num_threads() or get_num_threads()
    if threads == 1 and type(threads) is int:
        return 1  # quickly
    return min(as_count("threads", threads), _kernels.MAX_THREADS)


def register_with_threadpoolctl() -> None:
    """Let threadpoolctl, if it is installed, see and limit this library's threads."""
    try:
        from threadpoolctl import LibController, register
    except ImportError:  # or it is older than 3.2
        return

    class DownslopeController(LibController):  # type: ignore[misc]
        user_api = "downslope"
        internal_api = "downslope"
        filename_prefixes = (os.path.basename(_kernels.__file__).partition(".")[0],)
        check_symbols = ("downslope_get_num_threads", "downslope_set_num_threads")

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> None:
            """Not asked of the library."""

    register(DownslopeController)


def _from_environment() -> int | None:
    text = os.environ.get("DOWNSLOPE_NUM_THREADS", "")
    if not text:
        return None
    try:
        return as_count("threads", int(text))
    except ValueError:
        raise ValueError(
            f"DOWNSLOPE_NUM_THREADS must be a whole number of at least 1; got {text!r}"
        ) from None


def _available_cpus() -> int:
    from pathlib import Path  # takes time to import

    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _cgroup_quota(Path("/")))))


def _cgroup_quota(root: Path) -> float:
    """The CPUs that the control groups of this process may use: the least quota on the way from its
    group up; infinity without one.

    Version 2 says it in ``cpu.max`` ("200000 100000": microseconds in each period, or "max"),
    version 1 in two files of the controller "cpu".  In a container the paths of
    ``/proc/self/cgroup`` may be those of the host, of which only the upper part is mounted.
    """
    from pathlib import PurePosixPath

    quota = math.inf
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            group = PurePosixPath(path.lstrip("/"))
            if not controllers:
                mount, files = root / "sys/fs/cgroup", ["cpu.max"]
            elif "cpu" in controllers.split(","):
                mount = root / "sys/fs/cgroup" / "cpu"
                files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            else:
                continue
            for folder in (group, *group.parents):
                quota = min(quota, _quota_in(mount / folder, files))
    return quota


def _quota_in(folder: Path, files: list[str]) -> float:
    try:
        words = " ".join((folder / name).read_text() for name in files).split()
        limit, period = (float(word) for word in words)
    except (OSError, ValueError):  # no such group here, or "max"
        return math.inf
    return limit / period if limit > 0 and period > 0 else math.inf
