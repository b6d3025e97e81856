"""Whether inputs have a scale that training takes well.

The initial weights and the usual learning rates are made for inputs of about 1.  Beyond `LARGEST`
descent without a scale of its own (SGD) diverges, Adam learns much less in the same time, and
saturating activations saturate; far below `LEAST` hardly anything reaches the first layer.  Between
them lie standardised columns, pixels from 0 to 1, counts up to 16 and indicators, however rare.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The root mean square of a column at most, and the greatest magnitude of all columns at least.
LARGEST, LEAST = 30.0, 0.01
# Rows that are looked at, spread over the data.
_SAMPLE = 256


class UnscaledInputsWarning(UserWarning):
    """The inputs given to `fit` are so large, or so small, that training suffers.

    A look at 256 of the rows: a column's root mean square is above 30, or no input is above 0.01.
    Subtract each column's mean and divide by its standard deviation, both of the training rows;
    divide pixels by 255.  Where inputs must be as they are, silence it by Python's own means:

    Examples
    --------
    >>> import downslope as ds, warnings
    >>> warnings.simplefilter("ignore", ds.UnscaledInputsWarning)
    """


def sizes(x: NDArray[Any]) -> NDArray[np.float64]:
    """The root mean square of each column (columns,)."""
    return np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64) / max(len(x), 1))


def warn_if_unscaled(x: NDArray[Any]) -> None:
    """Warn of inputs (rows, columns) whose scale is none for training."""
    sample = x[:: -(-len(x) // _SAMPLE) or 1]
    size = sizes(sample)
    column = int(size.argmax())
    if size[column] > LARGEST:
        found = f"column {column} has a root mean square of {size[column]:.3g}"
    elif 0 < size[column] < LEAST and np.abs(sample).max() < LEAST:
        found = f"none is above {np.abs(sample).max():.3g}"
    else:
        return
    warnings.warn(
        f"the inputs are unscaled: {found}, and training is made for about 1. Subtract each "
        "column's mean and divide by its standard deviation (of the training rows); or silence "
        'this: warnings.simplefilter("ignore", downslope.UnscaledInputsWarning)',
        UnscaledInputsWarning,
        stacklevel=_callers_level(),
    )


def _callers_level() -> int:
    """Of the first frame outside the package, as seen from the caller."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("downslope."):
        frame, level = frame.f_back, level + 1
    return level
