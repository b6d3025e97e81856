"""NumPy: the strong implementation of `downslope.baseline`."""

from collections.abc import Iterator

import numpy as np

import downslope as ds
from benches.peers.peer import Peer, Predict
from downslope.baseline import NumpyNetwork
from downslope.cases import SEED, Case


class NumPy(Peer):
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        self.network = case.baseline()
        self.data, self.batch = self.network.prepare(x, y), case.batch
        self.order = np.arange(len(x))
        self.rng = np.random.default_rng(SEED)

    @classmethod
    def version(cls) -> str:
        return f"NumPy {np.__version__}"

    def epoch(self, *, shuffle: bool = True) -> float:
        order = self.rng.permutation(self.order) if shuffle else self.order
        return self.network.epoch(self.data, order, batch_size=self.batch)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.network.step(x, y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.network.predict(x)

    @property
    def parameters(self) -> np.ndarray:
        return self.network.parameters


def classify(
    widths: list[int], batch: int, x: np.ndarray, labels: np.ndarray, seed: int, threads: int
) -> Iterator[Predict]:
    rng = np.random.default_rng(seed)
    network = NumpyNetwork(widths, "relu", "softmax", loss="cross_entropy", optimizer=ds.Adam())
    for weights in network.weights:
        weights[:] = rng.normal(scale=np.sqrt(2 / len(weights)), size=weights.shape)
    data = network.prepare(x, labels)
    while True:
        network.epoch(data, rng.permutation(len(x)), batch_size=batch)
        yield lambda x: network.predict(x).argmax(axis=1)
