"""The machine under the benchmarks: one core, one BLAS thread, the FMA peak, a description."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_info, threadpool_limits

import downslope as ds
from downslope import _kernels


@contextmanager
def one_core() -> Iterator[None]:
    """Hold the process to one core, where the system can, and the BLAS to one thread."""
    if not hasattr(os, "sched_setaffinity"):
        with threadpool_limits(1):
            yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        with threadpool_limits(1):
            yield
    finally:
        os.sched_setaffinity(0, allowed)


def fma_peak(float_bits: int = 32) -> float:
    """GFLOP/s of fused multiply-adds in registers, on the instruction set in use."""
    return _kernels.fma_peak(_kernels.active_isa(), float_bits)


def describe() -> list[str]:
    """CPU, instruction set and versions: what figures are worthless without."""
    config = ds.config()
    blas = [f"{lib['internal_api']} {lib['version']}" for lib in threadpool_info()]
    core = "one core" if hasattr(os, "sched_setaffinity") else "not pinned to a core"
    return [
        f"{config['cpu']}, {config['isa']}, {core}, one thread each",
        f"downslope {config['version']}, NumPy {config['numpy']} ({', '.join(blas)}), "
        f"Python {config['python']}",
    ]
