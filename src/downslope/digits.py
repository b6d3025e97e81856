"""The UCI handwritten digits: 1,797 real images of 8 x 8 pixels, shipped with the package.

The file (`data/digits.gz`) has one line per image: 64 pixels, row by row, a letter each from a
(white) to q (black), then the digit.  Whose work it is and its licence: `data/digits.txt`.
"""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PIXELS = 64
_BLACKEST = 16


class Part(NamedTuple):
    """Rows of the digits, ready for a network."""

    images: NDArray[np.float32]  # (rows, 64), 0 to 1
    labels: NDArray[np.int64]  # (rows,), 0 to 9


class Digits(NamedTuple):
    """The digits in three parts that share no image."""

    training: Part
    validation: Part
    test: Part


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and the digits that they show.

    Returns
    -------
    images : ndarray of uint8, shape (1797, 64)
        Pixels from 0 (white) to 16 (black), row by row.
    labels : ndarray of int64, shape (1797,)

    Examples
    --------
    >>> images, labels = load_digits()
    >>> images.shape, labels[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    lines = gzip.decompress(files("downslope").joinpath("data/digits.gz").read_bytes())
    table = np.frombuffer(lines, np.uint8).reshape(-1, _PIXELS + len("0\n"))
    images, labels = table[:, :_PIXELS] - ord("a"), table[:, _PIXELS] - ord("0")
    return images.astype(np.uint8), labels.astype(np.int64)


def split_digits() -> Digits:
    """The digits scaled to [0, 1], in training, validation and test parts.

    The split is fixed, without a random draw that could be lucky: of the images of each digit, in
    the file's order (which goes from writer to writer), every fifth is a test image and
    one in ten a validation image.  All writers are in all parts: the test is of new images,
    not of new hands.

    Examples
    --------
    >>> [len(part.labels) for part in split_digits()]
    [1261, 181, 355]
    """
    images, labels = load_digits()
    scaled = images / np.float32(_BLACKEST)
    place = _rank_in_class(labels)
    test = place % 5 == 4
    validation = place % 10 == 2
    return Digits(
        *(Part(scaled[rows], labels[rows]) for rows in (~(test | validation), validation, test))
    )


def _rank_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier rows have the same label, (rows,)."""
    rank = np.empty_like(labels)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rows] = np.arange(len(rows))
    return rank
