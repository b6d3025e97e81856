"""Features of training that are timed and counted: each beside the same training without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import downslope as ds
from downslope.cases import SEED, Case
from downslope.timing import Turn


@dataclass(frozen=True)
class Feature:
    """What is given besides: to the network, each layer, each hidden layer, the optimiser; and to
    fit, which may depend on the case.  Both sides have made `trained` steps before."""

    network: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] = field(default_factory=dict)
    hidden: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    fit: Callable[[Case], dict[str, Any]] = lambda case: {}
    trained: int = 0

    def trainer(self, case: Case) -> ds.Trainer:
        """The network of the case with it, about to be trained."""
        *hidden, outputs = case.widths[1:]
        layers = [ds.Dense(n, case.activation, **self.layers, **self.hidden) for n in hidden]
        layers.append(ds.Dense(outputs, case.output, **self.layers))
        network = ds.Network(case.widths[0], layers, dtype=case.dtype, seed=SEED, **self.network)
        return ds.Trainer(network, "mse", replace(case.optimizer, **self.optimizer), threads=1)

    def turn(self, case: Case) -> Turn:
        """Epochs of the case with it."""
        trainer = self.trainer(case)
        x, y = case.data()
        options = self.fit(case)
        if self.trained:
            trainer.fit(x, y, batch_size=case.batch, epochs=self.trained // case.steps, **options)
        return Turn(lambda: trainer.fit(x, y, batch_size=case.batch, **options), case.steps)


def sample_weight(case: Case) -> dict[str, Any]:
    return {"sample_weight": np.ones(case.batch * case.steps, case.dtype)}


def validation(case: Case) -> dict[str, Any]:
    return {"validation_data": case.data(max(case.steps // 10, 1))}


def early_stopping(case: Case) -> dict[str, Any]:
    stopping = ds.EarlyStopping(patience=10**6, restore_best_weights=True)
    return {**validation(case), "callbacks": [stopping]}


FEATURES = {
    "dropout of 0.5 after hidden layers": Feature(hidden={"dropout": 0.5}),
    "dropout of 0.1 on the inputs": Feature(network={"input_dropout": 0.1}),
    "noise on the inputs": Feature(network={"input_noise": 0.1}),
    "L2": Feature(layers={"l2": 1e-4}),
    "L2, after 30,000 steps": Feature(layers={"l2": 1e-4}, trained=30_000),
    "L1": Feature(layers={"l1": 1e-5}),
    "weight decay": Feature(optimizer={"weight_decay": 0.01}),
    "max-norm": Feature(layers={"max_norm": 3.0}),
    "clipping by value": Feature(optimizer={"clip_value": 0.1}),
    "clipping by norm": Feature(optimizer={"clip_norm": 0.1}),
    "schedule, a cosine": Feature(
        optimizer={"learning_rate": ds.schedules.Cosine(1e-3, 10**6, restarts=True)}
    ),
    "moving average": Feature(optimizer={"ema_momentum": 0.99}),
    "weights of the samples": Feature(fit=sample_weight),
    "validation on a tenth": Feature(fit=validation),
    "early stopping, with that": Feature(fit=early_stopping),
}
