from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS: dict[str, int]
ROWWISE_ACTIVATIONS: frozenset[str]
LOSSES: dict[str, int]
OPTIMIZERS: dict[str, int]
ELEMENTARY: dict[str, int]
ISAS: dict[str, int]
MAX_THREADS: int
OPTIMIZER_STATES: dict[str, int]

# One float type throughout a call: float32 or float64.
_Real = NDArray[np.floating[Any]]

class _KernelInfo(TypedDict):
    isa: str
    float_bits: int
    vector: int
    strip: int

def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def pool_size() -> int: ...
def random_uniform(seed: int, stream: int, n: int) -> NDArray[np.float64]: ...
def random_normal(seed: int, stream: int, n: int) -> NDArray[np.float64]: ...
def random_integers(seed: int, stream: int, bound: int, out: NDArray[np.int64]) -> None: ...
def random_permutation(seed: int, stream: int, out: NDArray[np.int64]) -> None: ...
def kernel_info(isa: str, float_bits: int) -> _KernelInfo: ...
def first_not_finite(array: NDArray[Any]) -> int: ...
def label_range(labels: NDArray[np.int64]) -> tuple[int, int]: ...
def fma_peak(isa: str, float_bits: int) -> float: ...
def run_elementary(isa: str, name: str, x: _Real, out: _Real) -> None: ...
def run_activation(isa: str, name: str, z: _Real, alpha: float, out: _Real) -> None: ...
def run_derivative(isa: str, name: str, z: _Real, y: _Real, alpha: float, delta: _Real) -> None: ...
def run_loss(
    isa: str,
    name: str,
    output: _Real,
    target: _Real | NDArray[np.int64],
    weight: _Real | None,
    scale: float,
    row_loss: NDArray[np.float64],
    delta: _Real,
) -> None: ...
def run_update(
    isa: str,
    name: str,
    hyper: NDArray[np.float64],
    step: int,
    gradient: _Real,
    state_1: _Real,
    state_2: _Real,
    parameters: _Real,
) -> int: ...
def run_transpose(isa: str, source: _Real, out: _Real) -> None: ...
def run_column_sums(isa: str, block: _Real, out: _Real) -> None: ...
def run_product(
    isa: str,
    a: _Real,
    b: _Real,
    start: _Real | None,
    out: _Real,
    *,
    transpose_a: bool = False,
) -> None: ...
