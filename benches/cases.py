"""The networks that are timed, each as downslope and as the NumPy baseline would train it.

Both sides start from the same weights and, before any timing, are seen to agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

import downslope as ds
from downslope.baseline import NumpyNetwork

SEED = 20240229

# Before timing, both sides make so many steps on the same batches.  Their losses, and the ways that
# their parameters went, must agree to this relative error: float32 rounding, with room for its
# growth from step to step.
CHECKED_STEPS = 3
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """A network and how it is trained; `steps` are timed at a time."""

    widths: tuple[int, ...]
    batch: int
    activation: str
    optimizer: ds.SGD | ds.Adam
    steps: int
    output: str = "identity"

    def __str__(self) -> str:
        return "-".join(map(str, self.widths))

    @property
    def rows(self) -> int:
        return self.batch * self.steps

    @property
    def flops(self) -> int:
        """Of a step: forward, delta (but for the inputs) and gradient, by the products alone."""
        weights = [inputs * outputs for inputs, outputs in pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(weights) - weights[0])

    def data(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (rows, inputs) and targets (rows, outputs)."""
        rng = np.random.default_rng(SEED)
        x = rng.normal(size=(rows, self.widths[0]))
        y = rng.uniform(size=(rows, self.widths[-1]))
        return x.astype(np.float32), y.astype(np.float32)

    def trainer(self) -> ds.Trainer:
        net = ds.Network(
            list(self.widths), activation=self.activation, output=self.output, seed=SEED
        )
        return ds.Trainer(net, loss="mse", optimizer=self.optimizer, threads=1)

    def baseline(self) -> NumpyNetwork:
        """The same network, from the same weights."""
        net = NumpyNetwork(
            self.widths, self.activation, self.output, loss="mse", optimizer=self.optimizer
        )
        net.parameters[:] = self.trainer().network.parameters
        return net

    def check(self) -> None:
        """Fail unless both sides do the same in a few steps."""
        trainer, baseline = self.trainer(), self.baseline()
        start = baseline.parameters.copy()
        x, y = self.data(CHECKED_STEPS * self.batch)
        batches = [slice(i * self.batch, (i + 1) * self.batch) for i in range(CHECKED_STEPS)]
        losses = [trainer.step(x[rows], y[rows]) for rows in batches]
        expected = [baseline.step(x[rows], y[rows]) for rows in batches]
        np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
        way, expected_way = trainer.network.parameters - start, baseline.parameters - start
        error = np.linalg.norm(way - expected_way) / np.linalg.norm(expected_way)
        assert error < TOLERANCE, f"after {CHECKED_STEPS} steps the weights differ by {error:.1e}"


CASES = [
    Case((2, 2, 2), 1, "sigmoid", ds.SGD(0.01), 1000, output="sigmoid"),
    Case((10, 32, 1), 32, "tanh", ds.SGD(0.01), 250),
    Case((64, 64, 10), 32, "relu", ds.Adam(), 100),
    Case((17, 256, 256, 6), 256, "relu", ds.Adam(), 8),
    Case((784, 128, 10), 128, "relu", ds.Adam(), 8),
    Case((784, 512, 512, 10), 128, "relu", ds.Adam(), 4),
]
