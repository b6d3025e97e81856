"""downslope: `fit`, `Trainer.step` and `predict`."""

from collections.abc import Iterator

import numpy as np

import downslope as ds
from benches.peers.peer import Peer, Predict
from downslope.cases import Case


class Downslope(Peer):
    most_steps = 10**9

    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        self.trainer = case.trainer(threads)
        self.x, self.y, self.batch, self.threads = x, y, case.batch, threads

    @classmethod
    def version(cls) -> str:
        return f"downslope {ds.__version__}"

    def epoch(self, *, shuffle: bool = True) -> float:
        history = self.trainer.fit(self.x, self.y, batch_size=self.batch, shuffle=shuffle)
        return history.loss[0]

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.trainer.step(x, y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.trainer.network.predict(x, threads=self.threads)

    @property
    def parameters(self) -> np.ndarray:
        return self.trainer.network.parameters


def classify(
    widths: list[int], batch: int, x: np.ndarray, labels: np.ndarray, seed: int, threads: int
) -> Iterator[Predict]:
    net = ds.Network(widths, activation="relu", output="softmax", seed=seed)
    trainer = ds.Trainer(net, loss="cross_entropy", optimizer=ds.Adam(), threads=threads)
    while True:
        trainer.fit(x, labels, batch_size=batch)
        yield lambda x: net.predict(x, threads=threads).argmax(axis=1)
