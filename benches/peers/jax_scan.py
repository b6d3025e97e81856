"""JAX with optax, all steps of an epoch in one compiled `lax.scan`; else as `jax_jit`."""

from functools import partial

import jax
import numpy as np

from benches.peers.jax_jit import JaxJit
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
