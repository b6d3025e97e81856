"""The networks that are timed, by `downslope bench` and by `benches/`, and their data.

Each stands for a use: A is a textbook's example, B and C are small controllers and classifiers, R a
policy of reinforcement learning, D to F grow until the weights leave the caches, G is all matrix
product, H and O are the narrow and the deep network of simulations, S is narrow with a large batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _engine
from downslope.baseline import NumpyNetwork
from downslope.network import Network
from downslope.optimizers import SGD, Adam
from downslope.timing import Turn
from downslope.training import Trainer

SEED = 20240229

_CHECKED_STEPS, _FEWEST_REPEATS = 3, 5


@dataclass(frozen=True)
class Case:
    """A network and how it is trained, with the loss mse; an epoch has `steps` mini-batches.

    Parameters
    ----------
    name : str
        A letter.
    widths : tuple of int
        Inputs, units of each hidden layer, outputs.
    batch : int
        Rows of a mini-batch.
    activation : str
        Of the hidden layers.
    optimizer : SGD or Adam
    steps : int
        Mini-batches of an epoch.
    output : str, default "identity"
        Activation of the last layer.
    dtype : {"float32", "float64"}, default "float32"
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    activation: str
    optimizer: SGD | Adam
    steps: int
    output: str = "identity"
    dtype: str = "float32"

    @property
    def network_text(self) -> str:
        """The widths, with a run of equal ones written as a product."""
        runs = [(width, len(list(run))) for width, run in groupby(self.widths)]
        return "-".join(
            f"{count}×{width}" if count > 3 else "-".join([str(width)] * count)
            for width, count in runs
        )

    @property
    def flops(self) -> int:
        """Of a step: forward, delta (but for the inputs) and gradient, by the products alone."""
        weights = [inputs * outputs for inputs, outputs in pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(weights) - weights[0])

    @property
    def bytes(self) -> int:
        """What a step has to move if nothing stays in a cache from step to step: the mini-batch
        read; parameters and the optimiser's state read and written."""
        rows = self.batch * (self.widths[0] + self.widths[-1])
        states = 2 if isinstance(self.optimizer, Adam) else 0
        parameters = sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.widths))
        return (rows + 2 * (1 + states) * parameters) * np.dtype(self.dtype).itemsize

    def data(self, steps: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs (rows, inputs) and targets (rows, outputs) of so many steps, else an epoch."""
        rng = np.random.default_rng(SEED)
        rows = self.batch * (self.steps if steps is None else steps)
        x = rng.normal(size=(rows, self.widths[0]))
        y = rng.uniform(size=(rows, self.widths[-1]))
        return x.astype(self.dtype), y.astype(self.dtype)

    def trainer(self, threads: int = 1) -> Trainer:
        """The network, about to be trained by downslope."""
        network = Network(
            list(self.widths),
            activation=self.activation,
            output=self.output,
            dtype=self.dtype,
            seed=SEED,
        )
        return Trainer(network, loss="mse", optimizer=self.optimizer, threads=threads)

    def baseline(self) -> NumpyNetwork:
        """The same network, from the same weights, in NumPy."""
        network = NumpyNetwork(
            self.widths,
            self.activation,
            self.output,
            loss="mse",
            optimizer=self.optimizer,
            dtype=np.dtype(self.dtype),
        )
        network.parameters[:] = self.trainer().network.parameters
        return network

    def layers(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Copies of the initial weights (inputs, outputs) and biases (outputs,), layer by layer."""
        for layer in self.trainer().network.layers:
            assert layer.bias is not None
            yield layer.weights.copy(), layer.bias.copy()


CASES = [
    Case("A", (2, 2, 2), 1, "sigmoid", SGD(0.01), 10_000, output="sigmoid"),
    Case("B", (10, 32, 1), 32, "tanh", SGD(0.01), 4000),
    Case("C", (64, 64, 10), 32, "relu", Adam(), 1000),
    Case("R", (17, 64, 64, 6), 64, "relu", Adam(), 500),
    Case("D", (17, 256, 256, 6), 256, "relu", Adam(), 16),
    Case("E", (784, 128, 10), 128, "relu", Adam(), 32),
    Case("F", (784, 512, 512, 10), 128, "relu", Adam(), 6),
    Case("G", (1024,) * 5, 1024, "relu", SGD(0.01), 1),
    Case("H", (2, 50, 50, 50, 50, 1), 1000, "tanh", Adam(), 32),
    Case("S", (4, 32, 16, 4), 10_000, "tanh", Adam(), 16),
    Case("O", (28, 300, 300, 300, 300, 300, 1), 100, "tanh", SGD(0.01), 10),
]


def disagreement(case: Case) -> float:
    """How far apart the same steps take downslope and the NumPy baseline.

    Returns
    -------
    float
        The norm of the difference of the ways that their parameters went, relative to the way's.
    """
    trainer, baseline = case.trainer(), case.baseline()
    start = baseline.parameters.copy()
    x, y = case.data(_CHECKED_STEPS)
    for i in range(0, len(x), case.batch):
        rows = slice(i, i + case.batch)
        trainer.step(x[rows], y[rows])
        baseline.step(x[rows], y[rows])
    way = baseline.parameters - start
    difference = trainer.network.parameters - baseline.parameters
    return float(np.linalg.norm(difference) / np.linalg.norm(way))


def phases(case: Case, threads: int = 1, seconds: float = 0.5) -> dict[str, float]:
    """Where a step's time goes.

    Parameters
    ----------
    case : Case
    threads : int, default 1
    seconds : float, default 0.5
        To be spent, about, on the phases and again on whole steps.

    Returns
    -------
    dict of str to float
        Seconds of each phase; of all of them, "apart"; and of a whole step, "in fit".  Medians.
    """
    trainer = case.trainer(threads)
    network = trainer.network
    x, y = case.data()
    data = network.dataset(x, y, trainer.loss, None)
    assert isinstance(data, _engine.Dataset)
    order = np.random.default_rng(SEED).permutation(len(x))
    descent, loss = trainer._stepper.descent, trainer._stepper.losses[data.has_labels]
    descent.keep_gradients(network.gradients)
    in_fit = Turn(lambda: trainer.fit(x, y, batch_size=case.batch), case.steps)
    in_fit()
    repeats = max(int(seconds / (in_fit.seconds[0] * case.steps)), _FEWEST_REPEATS)
    apart = []
    for first in range(repeats):
        rows = np.roll(order, -first * case.batch)
        apart.append(descent.time_phases(data, loss, rows, case.batch, threads, case.steps))
        in_fit()
    found = {name: median(times[name] for times in apart) for name in apart[0]}
    return {**found, "apart": sum(found.values()), "in fit": median(in_fit.seconds[1:])}
