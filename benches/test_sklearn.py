"""The estimators beside scikit-learn's own: the same parameters and epochs, on real data.

Each side fits one model for each of ten seeds, in turn.  The test scores must be equal within
noise: the mean of their differences not further from zero than twice its standard error (and a
thousandth, where the scores are equal but for a row).  MNIST is used if `benches.mnist` has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benches import THREADS, mnist

pytest.importorskip("sklearn", reason="scikit-learn is not installed", exc_type=ImportError)

from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from downslope.sklearn import MLPClassifier, MLPRegressor

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SEEDS = 10

# Rows to train on and to test with: x_train, x_test, y_train, y_test.
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A task and the parameters of both estimators."""

    load: Callable[[], Split]
    ours: type
    theirs: type
    epochs: int
    parameters: dict[str, Any] = field(default_factory=dict)

    def make(self, kind: type, seed: int) -> Any:
        """An estimator that makes all its epochs."""
        endless = {"tol": 0.0, "n_iter_no_change": np.inf, "max_iter": self.epochs}
        threads = {"n_jobs": THREADS} if kind is self.ours else {}
        return kind(random_state=seed, **endless, **threads, **self.parameters)


def split(load: Callable[..., Any]) -> Split:
    """A data set of scikit-learn's, scaled by its training rows."""
    x, y = load(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(x_train)
    return scaler.transform(x_train), scaler.transform(x_test), y_train, y_test


def diabetes() -> Split:
    """The targets scaled too."""
    x_train, x_test, y_train, y_test = split(datasets.load_diabetes)
    mean, deviation = y_train.mean(), y_train.std()
    return x_train, x_test, (y_train - mean) / deviation, (y_test - mean) / deviation


def images() -> Split:
    """MNIST's own split, in float32."""
    train, test = mnist.load()
    return train.x, test.x, train.y, test.y


CLASSIFIERS = (MLPClassifier, neural_network.MLPClassifier)
REGRESSORS = (MLPRegressor, neural_network.MLPRegressor)
CASES = {
    "digits, defaults": Case(lambda: split(datasets.load_digits), *CLASSIFIERS, epochs=50),
    "digits, 64 units, batches of 32": Case(
        lambda: split(datasets.load_digits),
        *CLASSIFIERS,
        epochs=20,
        parameters={"hidden_layer_sizes": (64,), "batch_size": 32},
    ),
    "breast cancer, 20 tanh, sgd": Case(
        lambda: split(datasets.load_breast_cancer),
        *CLASSIFIERS,
        epochs=50,
        parameters={
            "hidden_layer_sizes": (20,),
            "activation": "tanh",
            "batch_size": 32,
            "solver": "sgd",
            "learning_rate_init": 0.01,
        },
    ),
    "diabetes, 32-16, batches of 16": Case(
        diabetes,
        *REGRESSORS,
        epochs=50,
        parameters={"hidden_layer_sizes": (32, 16), "batch_size": 16, "alpha": 0.1},
    ),
    "MNIST, 100 units": Case(images, *CLASSIFIERS, epochs=2, parameters={"batch_size": 128}),
}


@pytest.mark.benchmark(group="estimators")
@pytest.mark.parametrize("name", CASES)
def test_estimators(benchmark: BenchmarkFixture, record: Callable[..., None], name: str) -> None:
    if name.startswith("MNIST") and not mnist.FOLDER:
        pytest.skip("DOWNSLOPE_MNIST does not name a folder with MNIST")
    case = CASES[name]
    x_train, x_test, y_train, y_test = case.load()
    seconds: dict[type, list[float]] = {case.ours: [], case.theirs: []}
    scores: dict[type, list[float]] = {case.ours: [], case.theirs: []}

    def fit(kind: type) -> None:
        model = case.make(kind, seed=len(scores[kind]))
        begun = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x_train, y_train)
        seconds[kind].append(perf_counter() - begun)
        assert model.n_iter_ == case.epochs
        scores[kind].append(model.score(x_test, y_test))

    benchmark.pedantic(
        lambda: fit(case.ours), setup=lambda: fit(case.theirs), rounds=SEEDS, warmup_rounds=0
    )
    if benchmark.disabled:
        return
    differences = np.subtract(scores[case.ours], scores[case.theirs])
    noise = 2 * differences.std(ddof=1) / np.sqrt(len(differences))
    assert abs(differences.mean()) <= max(noise, 1e-3), differences
    record(
        "estimator",
        data=name,
        dtype=str(x_train.dtype),
        epochs=case.epochs,
        scores=scores[case.ours],
        peer_scores=scores[case.theirs],
        ours=seconds[case.ours],
        theirs=seconds[case.theirs],
    )
