"""Setting rows aside for validation or testing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stratified_split(
    strata: ArrayLike, fraction: float, *, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw `fraction` of the rows of every stratum at random.

    Parameters
    ----------
    strata : array_like, shape (rows,)
        The class of each row; one value for all rows gives a plain random split.
    fraction : float
        Share of the rows to set aside, 0 < fraction < 1; rounded per stratum, but at least one row
        of every stratum is kept.
    seed : int, default 0
        The same seed gives the same split.

    Returns
    -------
    kept, held_out : ndarray of intp
        Row numbers, ascending; together they are all rows.

    Examples
    --------
    >>> kept, held_out = stratified_split(["a"] * 8 + ["b"] * 4, 0.25)
    >>> len(kept), len(held_out)
    (9, 3)
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, exclusive; got {fraction}")
    strata = np.asarray(strata)
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        held_out[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
