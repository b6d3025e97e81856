"""Keras on JAX: `Sequential`, `compile`, `fit`, `train_on_batch`, `predict_on_batch`.

It adds epsilon before Adam's correction of the bias, where we add it after: the factor between the
two is that of the first step, so that the first steps agree.
"""

import os

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras

import downslope as ds
from benches.peers.peer import Peer
from downslope.cases import Case


class KerasJax(Peer):
    most_steps = 1000  # what `fit` begins with is to be a small part

    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        # XLA takes the cores that the process may run on, and so `threads`.
        keras.config.set_floatx(case.dtype)
        self.x, self.y, self.batch = x, y, case.batch
        self.model = keras.Sequential([keras.Input(case.widths[:1])])
        activations = [case.activation] * (len(case.widths) - 2) + [case.output]
        for width, activation in zip(case.widths[1:], activations, strict=True):
            name = "linear" if activation == "identity" else activation
            self.model.add(keras.layers.Dense(width, name))
        self.model.set_weights([array for pair in case.layers() for array in pair])
        # fewer returns to Python and its callbacks
        self.model.compile(make_optimizer(case), "mse", steps_per_execution=32)

    @classmethod
    def version(cls) -> str:
        return f"Keras {keras.__version__} on JAX {jax.__version__}"

    def epoch(self, *, shuffle: bool = True) -> float:
        history = self.model.fit(self.x, self.y, batch_size=self.batch, shuffle=shuffle, verbose=0)
        return history.history["loss"][0]

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.model.train_on_batch(x, y))

    def predict(self, x: np.ndarray) -> np.ndarray:
        # compiled, as `predict` is, which makes a data set of the rows first
        return self.model.predict_on_batch(x)

    @property
    def parameters(self) -> np.ndarray:
        return np.concatenate([array.ravel() for array in self.model.get_weights()])


def make_optimizer(case: Case) -> keras.optimizers.Optimizer:
    ours = case.optimizer
    if isinstance(ours, ds.Adam):
        epsilon = ours.epsilon * (1 - ours.beta_2) ** 0.5
        return keras.optimizers.Adam(
            ours.learning_rate, beta_1=ours.beta_1, beta_2=ours.beta_2, epsilon=epsilon
        )
    return keras.optimizers.SGD(ours.learning_rate)
