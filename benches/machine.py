"""The machine under the benchmarks: the cores held to, its limits, and what else is to be known."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import downslope as ds
from benches import THREADS
from downslope import _kernels

# Of the array copied to measure the memory's bandwidth: far larger than any cache.
COPIED_BYTES = 1 << 28


def cores() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def pinned(threads: int = THREADS) -> Iterator[None]:
    """Hold the process to as many cores as threads, where the system can, and so its BLAS."""
    if not hasattr(os, "sched_setaffinity"):
        with threadpool_limits(threads):
            yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[-threads:])
    try:
        with threadpool_limits(threads):
            yield
    finally:
        os.sched_setaffinity(0, allowed)


def fma_peak(dtype: str = "float32") -> float:
    """GFLOP/s of fused multiply-adds in registers on one core, on the instruction set in use."""
    return _kernels.fma_peak(_kernels.active_isa(), np.dtype(dtype).itemsize * 8)


def copy_bandwidth() -> float:
    """GB/s of reading and writing together, when an array is copied from memory to memory."""
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    seconds = []
    for _ in range(5):
        begun = perf_counter()
        np.copyto(target, source)
        seconds.append(perf_counter() - begun)
    return 2e-9 * COPIED_BYTES / min(seconds)


def facts() -> dict[str, str]:
    """What a figure is worth nothing without: CPU, caches, limits, governor, versions."""
    config = ds.config()
    libraries = {f"{lib['internal_api']} {lib['version']}" for lib in threadpool_info()}
    return {
        "CPU": f"{config['cpu']}, {os.cpu_count()} cores, {platform.machine()}",
        "instruction set": f"{config['isa']} (of {', '.join(config['available_isas'])})",
        "caches": _caches(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()}",
        "Python": config["python"],
        "NumPy": config["numpy"],
        "thread pools": ", ".join(sorted(libraries)),
        "downslope": config["version"],
    }


def stolen_share(before: list[int]) -> float:
    """The share of the machine's time that its host gave to others since `cpu_times` was read."""
    passed = np.subtract(cpu_times(), before)
    return float(passed[7] / max(passed.sum(), 1)) if len(passed) > 7 else 0.0


def cpu_times() -> list[int]:
    """The system's account of its time, in ticks by kind; empty where there is none."""
    return [int(ticks) for ticks in _first_line("/proc/stat", "").split()[1:]]


def _caches() -> str:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_first_line(str(index / name)) for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "not known"


def _first_line(path: str, otherwise: str = "not known") -> str:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return otherwise
