"""What the tests of the estimators share: small data sets, scaled, and how estimators compare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    make_multilabel_classification,
)
from sklearn.preprocessing import StandardScaler

# Of weights and losses between two ways to compute the same in float64.
ROUNDING = 1e-9


def digits(rows=300):
    x, y = load_digits(return_X_y=True)
    return x[:rows] / 16, y[:rows]


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def diabetes(outputs=1):
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    return x * 20, y if outputs == 1 else np.column_stack([y, y**2])


def counts(outputs=1):
    x, y = diabetes()
    y = np.floor(np.exp(y))
    return x, y if outputs == 1 else np.column_stack([y, 2 * y + 1])


def labels():
    x, y = make_multilabel_classification(200, random_state=0)
    return x / 10, y


def random_weights(rows):
    weights = np.random.default_rng(1).random(rows)
    weights[:5] = 0
    return weights


def frames():
    x, y = cancer()
    names = [f"feature {i}" for i in range(x.shape[1])]
    yield pd.DataFrame(x, columns=names), pd.Series(y).map({0: "no", 1: "yes"})
    polars = pytest.importorskip("polars")
    yield polars.DataFrame(x, schema=names), polars.Series(y).cast(str)


def assert_equal(theirs, ours, tolerance=ROUNDING):
    """All fitted attributes, the lists of arrays and of numbers to rounding."""
    for name, value in vars(theirs).items():
        if not name.endswith("_"):
            continue
        mine = getattr(ours, name)
        if name in ("coefs_", "intercepts_"):
            assert len(mine) == len(value)
            for a, b in zip(mine, value, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        elif isinstance(value, str | np.ndarray | None) or (np.isscalar(value) and value != value):
            np.testing.assert_array_equal(mine, value, err_msg=name)
        else:
            np.testing.assert_allclose(mine, value, rtol=tolerance, atol=tolerance, err_msg=name)
