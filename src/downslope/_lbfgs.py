"""A run of L-BFGS on all rows at once, by SciPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope.callbacks import Callback, Checkpoint

if TYPE_CHECKING:
    from downslope.network import Network
    from downslope.optimizers import LBFGS

# Evaluations of the loss that an iteration may take on average, its line search included.
_EVALUATIONS = 50


def scipy_minimize() -> Callable[..., Any]:
    """SciPy's minimiser, or an error that says how to come by it."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ImportError(
            'optimizer LBFGS needs SciPy: python -m pip install "downslope[scipy]"'
        ) from error
    return minimize


def check(
    network: Network, callbacks: Sequence[Callback], *, in_batches: bool, sampling: str
) -> None:
    """Before a run: SciPy is there, and nothing is asked for that L-BFGS does not do."""
    scipy_minimize()
    if in_batches:
        raise ValueError("LBFGS needs all rows at once: give X and y, or another optimizer")
    if sampling != "without_replacement":
        raise ValueError(
            f"LBFGS takes each row once, and sampling={sampling!r} draws them: drop it "
            "(sample_weight alone weighs the rows), or take another optimizer"
        )
    if network.is_noisy:
        raise ValueError(
            "LBFGS needs the same loss at each look: drop the dropout and the input noise, or take "
            "another optimizer"
        )
    for index, layer in enumerate(network._dense):
        if layer.max_norm is not None or layer.learning_rate != 1:
            raise ValueError(
                f"LBFGS heeds neither max_norm nor learning_rate of a layer; layer {index} has "
                "one: drop it, or take another optimizer"
            )
    if any(isinstance(callback, Checkpoint) for callback in callbacks):
        raise ValueError(
            "a run of LBFGS can not be resumed: drop the Checkpoint, or take another optimizer"
        )


def run(
    optimizer: LBFGS,
    parameters: NDArray[Any],
    loss_and_gradient: Callable[[], tuple[float, NDArray[Any]]],
    iterations: int,
    after_iteration: Callable[[float], bool],
) -> None:
    """Minimise a loss in place, for at most so many iterations.

    loss_and_gradient: at the parameters as they stand.  after_iteration: called with the loss, at
    the parameters of each iteration; True ends the run.  However it ends, the parameters are those
    of the last iteration.
    """
    accepted = parameters.copy()

    def evaluate(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters[...] = x
        loss, gradient = loss_and_gradient()
        return loss, gradient.astype(np.float64)

    def callback(intermediate_result: Any) -> None:
        accepted[...] = parameters[...] = intermediate_result.x
        if after_iteration(float(intermediate_result.fun)):
            raise StopIteration

    try:
        scipy_minimize()(
            evaluate,
            parameters.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=callback,
            options={
                "maxiter": iterations,
                "maxfun": _EVALUATIONS * iterations,
                "maxcor": optimizer.memory,
                "gtol": optimizer.gradient_tolerance,
                "ftol": optimizer.loss_tolerance,
            },
        )
    finally:
        parameters[...] = accepted
