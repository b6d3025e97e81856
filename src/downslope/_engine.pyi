from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

STATUS_OK: int
STATUS_LOSS_NOT_FINITE: int
STATUS_OVERFLOW: int

# Of the plan's float type, float32 or float64.
_Real = NDArray[Any]
# inputs, outputs, weights offset, bias offset, bias count, activation code, activation parameter,
# dropped outputs
_LayerFields = tuple[int, int, int, int, int, int, float, int]

class Plan:
    def __new__(
        cls,
        layers: list[_LayerFields],
        float_bits: int,
        input_dropped: int = 0,
        input_noise: float = 0,
    ) -> Self: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def widest(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def block_rows(self) -> int: ...
    @property
    def flops_per_row(self) -> float: ...
    @property
    def float_bits(self) -> int: ...

class Workspace:
    def __new__(cls, plan: Plan, rows: int, training: bool, noisy: bool = False) -> Self: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def rows(self) -> int: ...
    @property
    def training(self) -> bool: ...

def predict(
    plan: Plan, parameters: _Real, x: _Real, out: _Real, ws: Workspace, threads: int
) -> None: ...
def forward(
    plan: Plan, parameters: _Real, x: _Real, out: _Real, ws: Workspace, threads: int
) -> None: ...
def backward(
    plan: Plan,
    parameters: _Real,
    d_out: _Real,
    gradients: _Real,
    d_x: _Real,
    ws: Workspace,
    threads: int,
    accumulate: bool,
) -> None: ...
def evaluate(
    plan: Plan, parameters: _Real, data: Dataset, loss: int, ws: Workspace, threads: int
) -> float: ...

class Dataset:
    def __init__(
        self, plan: Plan, x: _Real, y: _Real | NDArray[np.int64], weight: _Real | None
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def arrays(self) -> tuple[_Real, _Real | NDArray[np.int64], _Real | None]: ...
    @property
    def has_labels(self) -> bool: ...
    def with_weight(self, weight: _Real | None) -> Dataset: ...
    def take(self, rows: NDArray[np.int64]) -> Dataset: ...

class Descent:
    steps: int
    seed: int
    learning_rate: float
    def __init__(
        self,
        plan: Plan,
        parameters: _Real,
        state: _Real,
        optimizer: int,
        hyper: tuple[float, ...],
        seed: int,
    ) -> None: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def parameters(self) -> _Real: ...
    @property
    def gradients(self) -> _Real | None: ...
    @property
    def state(self) -> _Real: ...
    @property
    def optimizer(self) -> int: ...
    def needs_gradients(self, batch_rows: int) -> bool: ...
    def keep_gradients(self, gradients: _Real) -> None: ...
    def reserve(self, batch_rows: int) -> None: ...
    def train(
        self,
        data: Dataset,
        loss: int,
        order: NDArray[np.int64] | None,
        batch_rows: int,
        threads: int,
        batch: int = 0,
        total: float = 0,
        seconds: float = ...,
    ) -> tuple[int, float, int]: ...
    def compute_gradients(self, data: Dataset, loss: int, threads: int) -> tuple[int, float]: ...
    def update(self) -> int: ...
