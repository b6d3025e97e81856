"""JAX with optax, all steps of an epoch in one compiled `lax.scan`; else as `jax_jit`."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
import optax
from jax import numpy as jnp

from benches.peers.jax_jit import JaxJit
from benches.peers.peer import Predict
from downslope.cases import Case


class JaxScan(JaxJit):
    most_steps = 10**9

    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        super().__init__(case, x, y, threads)

        @partial(jax.jit, donate_argnums=0)
        def train_epoch(state, x, y, order):
            state, losses = jax.lax.scan(
                lambda state, rows: self.train(state, x[rows], y[rows]), state, order
            )
            return state, losses.mean()

        self.train_epoch = train_epoch

    def epoch(self, *, shuffle: bool = True) -> float:
        self.state, loss = self.train_epoch(self.state, self.x, self.y, self.order(shuffle))
        return float(loss)


def classify(
    widths: list[int], batch: int, x: np.ndarray, labels: np.ndarray, seed: int, threads: int
) -> Iterator[Predict]:
    images, targets = jnp.asarray(x), jnp.asarray(labels, jnp.int32)
    key = jax.random.key(seed)
    initialize = jax.nn.initializers.he_normal()
    inputs, hidden, outputs = widths
    parameters = {
        "hidden": (initialize(jax.random.fold_in(key, 0), (inputs, hidden)), jnp.zeros(hidden)),
        "output": (initialize(jax.random.fold_in(key, 1), (hidden, outputs)), jnp.zeros(outputs)),
    }
    state = parameters, OPTIMIZER.init(parameters)

    def predict(x: np.ndarray) -> np.ndarray:
        return np.asarray(predict_labels(state[0], x))

    for number in range(2, 2**31):
        state = train_epoch(state, jax.random.fold_in(key, number), images, targets, batch)
        jax.block_until_ready(state)
        yield predict


# Compiled once for all seeds, and so functions of the module.
OPTIMIZER = optax.adam(1e-3)


def logits(parameters, x):
    (weights_1, bias_1), (weights_2, bias_2) = parameters["hidden"], parameters["output"]
    return jax.nn.relu(x @ weights_1 + bias_1) @ weights_2 + bias_2


def cross_entropy(parameters, x, labels):
    z = logits(parameters, x)
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


@partial(jax.jit, donate_argnums=0, static_argnums=4)
def train_epoch(state, key, images, targets, batch):
    def step(state, rows):
        parameters, moments = state
        gradients = jax.grad(cross_entropy)(parameters, images[rows], targets[rows])
        updates, moments = OPTIMIZER.update(gradients, moments)
        return (optax.apply_updates(parameters, updates), moments), None

    # whole mini-batches only: a scan needs equal ones
    count = len(images) // batch
    order = jax.random.permutation(key, len(images))[: count * batch]
    return jax.lax.scan(step, state, order.reshape(count, batch))[0]


@jax.jit
def predict_labels(parameters, x):
    return logits(parameters, x).argmax(axis=1)
