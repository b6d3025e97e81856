from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

STATUS_OK: int
STATUS_LOSS_NOT_FINITE: int
STATUS_OVERFLOW: int
PHASES: tuple[str, ...]

# Of the plan's float type, float32 or float64.
_Real = NDArray[Any]
# inputs, outputs, weights offset, bias offset, bias count, activation code, activation parameter,
# l1, l2, max norm, factor of the learning rate, whether it is trained, dropped outputs
_LayerFields = tuple[int, int, int, int, int, int, float, float, float, float, float, bool, int]

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
    @property
    def penalized(self) -> bool: ...
    @property
    def first_trained(self) -> int: ...

class Exclusive:
    def __new__(cls, message: str) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

class Workspace:
    def __new__(cls, plan: Plan, rows: int, training: bool, noisy: bool = False) -> Self: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def rows(self) -> int: ...
    @property
    def training(self) -> bool: ...
    def check_idle(self) -> None: ...

def forward(
    plan: Plan, parameters: _Real, x: _Real, out: _Real, ws: Workspace, threads: int
) -> None: ...
def backward(
    plan: Plan,
    parameters: _Real,
    d_out: _Real,
    gradients: _Real | None,
    d_x: _Real,
    ws: Workspace,
    threads: int,
    accumulate: bool,
) -> None: ...

class Loss:
    def __init__(self, code: int, parameters: NDArray[np.float64]) -> None: ...

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

def ready_dataset(plan: Plan, x: object, y: object) -> Dataset | None: ...

class Inference:
    def __init__(self, plan: Plan, parameters: _Real) -> None: ...
    def take(self) -> Workspace: ...
    def predict(self, x: _Real, out: _Real, threads: int) -> None: ...
    def predict_ready(self, x: object, axes: int, out: object, threads: int) -> Any: ...
    def evaluate(self, data: Dataset, loss: Loss, threads: int) -> float: ...

class Run:
    def __init__(
        self,
        order: NDArray[np.int64] | None,
        cancelled: NDArray[np.int8],
        seed: int,
        stream: int,
        batch_rows: int,
    ) -> None: ...
    def stop_early(
        self,
        monitors_validation: bool,
        more_is_better: bool,
        patience: int,
        min_delta: float,
        warm_up: int,
    ) -> None: ...

class Descent:
    steps: int
    seed: int
    learning_rate: float
    weight_decay: float
    clip_value: float
    clip_norm: float
    penalties_per_row: bool
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
    def average(self) -> _Real | None: ...
    @property
    def optimizer(self) -> int: ...
    def needs_gradients(self, batch_rows: int) -> bool: ...
    def keep_gradients(self, gradients: _Real) -> None: ...
    def keep_average(self, average: _Real, momentum: float, overwrite_steps: int) -> None: ...
    def work_in(self, other: Descent) -> None: ...
    def reserve(self, batch_rows: int, threads: int) -> None: ...
    def train(
        self,
        data: Dataset,
        loss: Loss,
        order: NDArray[np.int64] | None,
        batch_rows: int,
        threads: int,
        batch: int = 0,
        total: float = 0,
        seconds: float = ...,
        learning_rates: NDArray[np.float64] | None = None,
    ) -> tuple[int, float, int]: ...
    def time_phases(
        self,
        data: Dataset,
        loss: Loss,
        order: NDArray[np.int64],
        batch_rows: int,
        threads: int,
        steps: int,
    ) -> dict[str, float]: ...
    def step_ready(
        self, x: object, y: object, axes: int, loss: Loss, exclusive: Exclusive, threads: int
    ) -> tuple[int, float] | None: ...
    def compute_gradients(self, data: Dataset, loss: Loss, threads: int) -> tuple[int, float]: ...
    def run(
        self,
        run: Run,
        data: Dataset,
        loss: Loss,
        validation: Dataset | None,
        validation_loss: Loss | None,
        ws: Workspace | None,
        losses: NDArray[np.float64],
        best: _Real | None,
    ) -> tuple[int, int, bool]: ...
    def compute_part(
        self,
        data: Dataset,
        loss: Loss,
        order: NDArray[np.int64] | None,
        first: int,
        rows: int,
        batch_rows: int,
        accumulate: bool,
        penalize: bool,
        threads: int,
    ) -> tuple[int, float]: ...
    def compute_row_gradients(
        self, data: Dataset, loss: Loss, gradients: _Real, threads: int
    ) -> float: ...
    def add_penalties(self) -> float: ...
    def update(self) -> int: ...

class Session:
    def __init__(
        self,
        descent: Descent,
        loss: Loss,
        rows: int,
        target_width: int,
        labels: bool,
        threads: int,
    ) -> None: ...
    def capsule(self) -> Any: ...
