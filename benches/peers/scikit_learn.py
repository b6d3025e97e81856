"""scikit-learn: `MLPRegressor`, an epoch by `partial_fit`.

The gradient of its squared error is `outputs / 2` times ours, as it sums over the outputs where we
take their mean: the learning rate of SGD and the epsilon of Adam are scaled accordingly.  Its loss,
half the mean, is doubled.  It adds epsilon before Adam's correction of the bias, where we add it
after: the factor between the two is that of the first step, so that the first steps agree.
"""

from collections.abc import Iterator

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

import downslope as ds
from benches.peers.peer import Peer, Predict
from downslope.cases import SEED, Case

ACTIVATIONS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


class ScikitLearn(Peer):
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        scale = case.widths[-1] / 2
        if isinstance(case.optimizer, ds.Adam):
            optimizer = {
                "solver": "adam",
                "learning_rate_init": case.optimizer.learning_rate,
                "beta_1": case.optimizer.beta_1,
                "beta_2": case.optimizer.beta_2,
                "epsilon": case.optimizer.epsilon * scale * (1 - case.optimizer.beta_2) ** 0.5,
            }
        else:
            optimizer = {
                "solver": "sgd",
                "learning_rate_init": case.optimizer.learning_rate / scale,
                "momentum": 0.0,
                "nesterovs_momentum": False,
            }
        self.model = MLPRegressor(
            hidden_layer_sizes=case.widths[1:-1],
            activation=ACTIVATIONS[case.activation],
            alpha=0.0,
            batch_size=case.batch,
            random_state=SEED,
            **optimizer,
        )
        # It makes its arrays when it first sees data.  One column of targets is to be a vector.
        self.x, self.y = x, y[:, 0] if y.shape[1] == 1 else y
        self.model.partial_fit(self.x[: case.batch], self.y[: case.batch])
        for weights, bias, (initial_weights, initial_bias) in zip(
            self.model.coefs_, self.model.intercepts_, case.layers(), strict=True
        ):
            weights[:], bias[:] = initial_weights, initial_bias
        del self.model._optimizer  # its moments: the next call makes new ones

    @classmethod
    def version(cls) -> str:
        return f"scikit-learn {sklearn.__version__}"

    @classmethod
    def refuses(cls, case: Case) -> str:
        return "" if case.output == "identity" else f"no {case.output} output with squared error"

    def epoch(self, *, shuffle: bool = True) -> float:
        self.model.shuffle = shuffle
        return 2 * self.model.partial_fit(self.x, self.y).loss_

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.model.shuffle = False
        return 2 * self.model.partial_fit(x, y[:, 0] if y.shape[1] == 1 else y).loss_

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict(x).reshape(len(x), -1)

    @property
    def parameters(self) -> np.ndarray:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return np.concatenate([array.ravel() for pair in pairs for array in pair])


def classify(
    widths: list[int], batch: int, x: np.ndarray, labels: np.ndarray, seed: int, threads: int
) -> Iterator[Predict]:
    model = MLPClassifier(
        hidden_layer_sizes=widths[1:-1], alpha=0.0, batch_size=batch, random_state=seed
    )
    classes = np.arange(widths[-1])
    while True:
        model.partial_fit(x, labels, classes=classes)
        yield model.predict
