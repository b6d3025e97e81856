"""Memory for parameters, optimiser state and activations: zeroed, aligned, in huge pages."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Multiples of a cache line, which is also the widest vector.
_LINE = 64
# From this size on huge pages are asked for: walking down a column of a wide weight matrix touches
# a page in every row or two, more than the machine keeps translations for.
_LARGE = 1 << 20
_HUGE_PAGE = 1 << 21


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a multiple of 64 bytes, or of a huge page if they are many.

    Pages that are never touched take no memory.
    """
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    if size == 0:
        return np.zeros(shape, dtype)
    count = size * np.dtype(dtype).itemsize
    if count < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        raw, alignment = np.zeros(count + _LINE, np.uint8), _LINE
    else:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        pages = mmap.mmap(-1, count + _HUGE_PAGE, flags=flags)
        pages.madvise(mmap.MADV_HUGEPAGE)
        raw, alignment = np.frombuffer(pages, np.uint8), _HUGE_PAGE
    start = -raw.ctypes.data % alignment
    return raw[start : start + count].view(dtype).reshape(shape)
