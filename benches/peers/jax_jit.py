"""JAX with optax, one jitted call per step: forward, gradient and update in one program."""

from functools import partial

import jax
import numpy as np
import optax
from jax import nn
from jax import numpy as jnp

import downslope as ds
from benches.peers.peer import Peer
from downslope.cases import SEED, Case

ACTIVATIONS = {"sigmoid": nn.sigmoid, "tanh": jnp.tanh, "relu": nn.relu, "identity": lambda z: z}


class JaxJit(Peer):
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        # XLA takes the cores that the process may run on, and so `threads`.
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        self.batch, self.rng = case.batch, np.random.default_rng(SEED)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        optimizer = make_optimizer(case)
        self.state = [(jnp.asarray(w), jnp.asarray(b)) for w, b in case.layers()]
        self.state = self.state, optimizer.init(self.state)
        activations = [case.activation] * (len(case.widths) - 2) + [case.output]

        def outputs(parameters, x):
            for (weights, bias), activation in zip(parameters, activations, strict=True):
                x = ACTIVATIONS[activation](x @ weights + bias)
            return x

        def loss(parameters, x, y):
            return jnp.mean((outputs(parameters, x) - y) ** 2)

        def train(state, x, y):
            parameters, moments = state
            value, gradients = jax.value_and_grad(loss)(parameters, x, y)
            updates, moments = optimizer.update(gradients, moments, parameters)
            return (optax.apply_updates(parameters, updates), moments), value

        @partial(jax.jit, donate_argnums=(0, 1))
        def train_rows(state, total, x, y, rows):
            state, value = train(state, x[rows], y[rows])
            return state, total + value

        self.train = train
        self.train_rows = train_rows
        self.train_batch = jax.jit(train, donate_argnums=0)
        self.outputs = jax.jit(outputs)

    @classmethod
    def version(cls) -> str:
        return f"JAX {jax.__version__}, optax {optax.__version__}"

    def order(self, shuffle: bool) -> np.ndarray:
        """Row numbers (steps, batch)."""
        rows = np.arange(len(self.x), dtype=np.int32)
        return (self.rng.permutation(rows) if shuffle else rows).reshape(-1, self.batch)

    def epoch(self, *, shuffle: bool = True) -> float:
        order = self.order(shuffle)
        total = jnp.zeros((), self.x.dtype)
        for rows in order:
            self.state, total = self.train_rows(self.state, total, self.x, self.y, rows)
        return float(total) / len(order)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.state, loss = self.train_batch(self.state, x, y)
        return float(loss)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.outputs(self.state[0], x))

    @property
    def parameters(self) -> np.ndarray:
        return np.concatenate([np.ravel(array) for pair in self.state[0] for array in pair])


def make_optimizer(case: Case) -> optax.GradientTransformation:
    ours = case.optimizer
    if isinstance(ours, ds.Adam):
        return optax.adam(ours.learning_rate, ours.beta_1, ours.beta_2, ours.epsilon)
    return optax.sgd(ours.learning_rate)
