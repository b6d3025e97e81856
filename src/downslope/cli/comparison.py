"""The same training by downslope and by the NumPy baseline: checked, timed in pairs, reported.

Both sides start from the same weights, take the same number of steps on batches of the same size,
shuffle the rows anew in every epoch (each in its own order), and run on the same number of threads.
Neither validates or draws anything while it is timed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
from rich.progress import track

import downslope as ds
from downslope.baseline import NumpyNetwork
from downslope.cli.console import console, say, show_rows
from downslope.digits import Part
from downslope.metrics import accuracy

# Timed pairs of trainings; medians are reported.
PAIRS = 5

# Before timing, both train so many epochs on the same batches, and their losses must agree to this
# relative error: float32 rounding, with room for its growth from step to step.
CHECKED_EPOCHS = 3
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Recipe:
    """A classifier, and how it is trained."""

    widths: Sequence[int]
    activation: str
    optimizer: ds.Adam
    batch_size: int

    def network(self, seed: int) -> ds.Network:
        """The classifier before training."""
        return ds.Network(
            list(self.widths), activation=self.activation, output="softmax", seed=seed
        )

    def fit(self, network: ds.Network, part: Part, **options: Any) -> ds.History:
        """Train the classifier; `options` go to `Network.fit`."""
        return network.fit(
            part.images,
            part.labels,
            loss="cross_entropy",
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            **options,
        )

    def numpy_network(self, seed: int) -> NumpyNetwork:
        """The classifier before training, with the same weights, in NumPy."""
        network = NumpyNetwork(
            self.widths,
            self.activation,
            "softmax",
            loss="cross_entropy",
            optimizer=self.optimizer,
        )
        network.parameters[:] = self.network(seed).parameters
        return network


@dataclass(frozen=True)
class Trained:
    """A training that was timed."""

    seconds: float
    network: ds.Network | NumpyNetwork


def accuracy_on(part: Part, network: ds.Network | NumpyNetwork) -> float:
    """The share of the images that are recognised."""
    return accuracy(part.labels, network.predict(part.images))


def compare_with_numpy(
    recipe: Recipe, training: Part, test: Part, *, epochs: int, seed: int, threads: int
) -> None:
    """Train by both in turn and print times and accuracies.

    Raises
    ------
    ArithmeticError
        If the two do not learn the same from the same batches.
    """
    with blas_threads(threads):
        error = _disagreement(recipe, training, seed)
        if not error <= TOLERANCE:
            raise ArithmeticError(
                f"downslope and NumPy disagree: their losses differ by {error:.1e} (relative)"
            )
        # The display stands still while a pair is timed.
        turns = track(
            range(PAIRS), "The same with NumPy, in turn", console=console, auto_refresh=False
        )
        pairs = [
            (
                _time_downslope(recipe, training, epochs, seed, threads),
                _time_numpy(recipe, training, epochs, seed),
            )
            for _ in turns
        ]
    _report(pairs, test, samples=epochs * len(training.labels))
    say(
        f"Medians of {PAIRS} trainings each, in turn, {epochs} epochs without validation and "
        f"display, {thread_note(threads)}; accuracies after the last epoch. On the same batches "
        f"the losses of the first {CHECKED_EPOCHS} epochs agree to {error:.0e} (relative)."
    )


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Hold NumPy's matrix products to so many threads, if threadpoolctl is there to do it."""
    if find_spec("threadpoolctl") is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads):
        yield


def thread_note(threads: int) -> str:
    both = f"{threads} thread{'s' * (threads > 1)}"
    if find_spec("threadpoolctl") is None:
        return f"downslope on {both}, NumPy on as many as it chose (threadpoolctl is missing)"
    return f"both on {both}"


def _disagreement(recipe: Recipe, training: Part, seed: int) -> float:
    """The largest relative difference of the losses of a few epochs on the same batches."""
    history = recipe.fit(recipe.network(seed), training, epochs=CHECKED_EPOCHS, shuffle=False)
    baseline = recipe.numpy_network(seed)
    data = baseline.prepare(*training)
    in_order = np.arange(len(training.labels))
    losses = [
        baseline.epoch(data, in_order, batch_size=recipe.batch_size) for _ in range(CHECKED_EPOCHS)
    ]
    return float(np.max(np.abs(np.divide(history.loss, losses) - 1.0)))


def _time_downslope(
    recipe: Recipe, training: Part, epochs: int, seed: int, threads: int
) -> Trained:
    network = recipe.network(seed)
    begun = time.perf_counter()
    recipe.fit(network, training, epochs=epochs, threads=threads)
    return Trained(time.perf_counter() - begun, network)


def _time_numpy(recipe: Recipe, training: Part, epochs: int, seed: int) -> Trained:
    network = recipe.numpy_network(seed)
    rng = np.random.default_rng(seed)
    begun = time.perf_counter()
    network.fit(*training, epochs=epochs, batch_size=recipe.batch_size, rng=rng)
    return Trained(time.perf_counter() - begun, network)


def _report(pairs: list[tuple[Trained, Trained]], test: Part, samples: int) -> None:
    """A table of both sides, and how much faster the first was."""
    rows = []
    for name, trainings in zip(("downslope", "NumPy"), zip(*pairs, strict=True), strict=True):
        seconds = median(training.seconds for training in trainings)
        share = accuracy_on(test, trainings[-1].network)
        rows.append((name, f"{seconds:.3f} s", f"{samples / seconds:,.0f}", f"{share:.4f}"))
    show_rows("The same training", ("", "time", "samples per second", "test accuracy"), rows)
    ratios = sorted(numpy.seconds / downslope.seconds for downslope, numpy in pairs)
    say(
        f"downslope was {median(ratios):.1f} times as fast as NumPy "
        f"({ratios[0]:.1f} to {ratios[-1]:.1f})."
    )
