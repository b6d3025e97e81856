"""MNIST (LeCun et al., 1998) from its four IDX files, as they are or gzipped.

They are looked for in the folder that the environment variable DOWNSLOPE_MNIST names.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = os.environ.get("DOWNSLOPE_MNIST", "")


class Images(NamedTuple):
    """Pixels (rows, 784) from 0 to 1, and labels (rows,)."""

    x: np.ndarray
    y: np.ndarray


def load() -> tuple[Images, Images]:
    """The training and the test images."""
    return _part("train"), _part("t10k")


def _part(name: str) -> Images:
    pixels = _read(f"{name}-images-idx3-ubyte").reshape(-1, 28 * 28)
    labels = _read(f"{name}-labels-idx1-ubyte")
    return Images(pixels.astype(np.float32) / np.float32(255), labels.astype(np.int64))


def _read(name: str) -> np.ndarray:
    """An IDX file: two zeros, the type (8: unsigned bytes), the number of dimensions, the sizes
    as big-endian integers of four bytes each, the values."""
    path = Path(FOLDER) / name
    content = (
        path.read_bytes()
        if path.exists()
        else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())
    )
    dimensions = content[3]
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of bytes")
    sizes = np.frombuffer(content, ">i4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)
