"""Losses: names, parameters, and what they ask of the network and of the targets.

The arithmetic is in csrc/kernels/losses.c.  A loss may also be a function, see `_own_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from downslope._validate import as_number, choose


@dataclass(frozen=True)
class Parameter:
    """A parameter of a loss: its default and the bounds of its values; one number, or one for each
    output."""

    default: float
    above: float = -math.inf
    at_least: float = -math.inf
    below: float = math.inf
    per_output: bool = False

    def checked(self, name: str, value: object) -> float | tuple[float, ...]:
        """A number, or a tuple of numbers, within the bounds."""
        if self.per_output and isinstance(value, Iterable) and not isinstance(value, str):
            values = tuple(self._number(f"{name}[{i}]", item) for i, item in enumerate(value))
            if not values:
                raise ValueError(f"{name} is empty; give a number, or one for each output")
            return values
        return self._number(name, value)

    def _number(self, name: str, value: object) -> float:
        return as_number(name, value, above=self.above, at_least=self.at_least, below=self.below)


@dataclass(frozen=True)
class Kind:
    """What all losses of a name have in common.

    parameters      by name, in the kernel's order
    outputs         the activations that the last layer may have; none: any
    targets         what they must be, a key of `_validate.TARGETS`
    label_kernel    the kernel that takes integer labels, if there is one
    outputs_per_target, repeats_target
                    how many outputs belong to one column of targets; whether one column of targets
                    may stand for all
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    targets: str = "real"
    label_kernel: str | None = None
    outputs_per_target: int = 1
    repeats_target: bool = False

    @property
    def takes_any(self) -> bool:
        """Whether targets are any numbers, one for each output."""
        return self.targets == "real" and self.outputs_per_target == 1 and not self.repeats_target


#: The losses' names; docs/activations_and_losses.md has their formulas and sources.
LOSSES: dict[str, Kind] = {
    "half_squared_error": Kind(),
    "mse": Kind(),
    "mae": Kind(),
    "huber": Kind({"delta": Parameter(1.0, above=0.0)}),
    "log_cosh": Kind(),
    "quantile": Kind(
        {"levels": Parameter(0.5, above=0.0, below=1.0, per_output=True)}, repeats_target=True
    ),
    "poisson": Kind(targets="counts"),
    "gaussian_nll": Kind(outputs_per_target=2),
    "hinge": Kind(targets="signs"),
    "binary_cross_entropy": Kind(outputs=("sigmoid",), targets="fractions"),
    "binary_focal": Kind(
        {"gamma": Parameter(2.0, at_least=0.0), "alpha": Parameter(0.25, above=0.0, below=1.0)},
        outputs=("sigmoid",),
        targets="indicators",
    ),
    "cross_entropy": Kind(
        {"label_smoothing": Parameter(0.0, at_least=0.0, below=1.0)},
        outputs=("softmax", "log_softmax"),
        targets="probabilities",
        label_kernel="cross_entropy_labels",
    ),
    "focal": Kind(
        {"gamma": Parameter(2.0, at_least=0.0)},
        outputs=("softmax", "log_softmax"),
        targets="probabilities",
        label_kernel="focal_labels",
    ),
}


_NO_PARAMETERS = np.empty(0)

#: What other libraries call them.
_ELSEWHERE = {
    "absolute_error": "mae",
    "bce": "binary_cross_entropy",
    "categorical_crossentropy": "cross_entropy",
    "l1": "mae",
    "l2": "mse",
    "log_loss": "cross_entropy",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "nll": "cross_entropy",
    "pinball": "quantile",
    "smooth_l1": "huber",
    "sparse_categorical_crossentropy": "cross_entropy",
    "squared_error": "mse",
}


@dataclass(frozen=True, init=False, repr=False)
class Loss:
    """A loss function: the mean over the rows of an error of each row.

    Parameters
    ----------
    name : str
        One of ``half_squared_error``, ``mse``, ``mae``, ``huber``, ``log_cosh``, ``quantile``,
        ``poisson``, ``gaussian_nll``, ``hinge``, ``binary_cross_entropy``, ``binary_focal``,
        ``cross_entropy``, ``focal``.  docs/activations_and_losses.md has their formulas and
        sources, and what each asks of the network's outputs and of the targets.
    **parameters : float
        ``huber``: `delta`, default 1.0, positive, where squared errors give way to absolute ones.
        ``quantile``: `levels`, default 0.5, one number in (0, 1) or a list with one for each
        output.  ``binary_focal``: `gamma`, default 2.0, not negative, and `alpha`, default 0.25, in
        (0, 1), the weight of the ones.  ``cross_entropy``: `label_smoothing`, default 0.0, in
        [0, 1).  ``focal``: `gamma`, default 2.0, not negative.  The others have none.

    Attributes
    ----------
    name : str
    parameters : dict
        All parameters of the loss by name, the defaults among them.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, or a parameter is not within its bounds.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Loss("huber", delta=1.5)
    Loss('huber', delta=1.5)
    >>> net = ds.Network([2, 3], seed=0)
    >>> history = net.fit([[1.0, 2.0]], [3.0], loss=ds.Loss("quantile", levels=[0.1, 0.5, 0.9]))
    """

    name: str
    parameters: Mapping[str, float | tuple[float, ...]] = field(hash=False)

    def __init__(self, name: str, **parameters: float | Iterable[float]) -> None:
        kind = LOSSES[choose("loss", name, LOSSES, _ELSEWHERE)]
        for given in parameters:
            if not kind.parameters:
                raise ValueError(f"loss {name!r} takes no parameters; got {given!r}")
            choose(f"parameter of loss {name!r}", given, kind.parameters)
        values = {
            key: rule.checked(key, parameters.get(key, rule.default))
            for key, rule in kind.parameters.items()
        }
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parameters", values)

    @property
    def kind(self) -> Kind:
        return LOSSES[self.name]

    def kernel_parameters(self, outputs: int) -> NDArray[np.float64]:
        """The parameters as the kernel takes them, for a network with so many outputs.

        Raises
        ------
        ValueError
            If a parameter has not one value for each output.
        """
        arrays = [_NO_PARAMETERS]
        for key, rule in self.kind.parameters.items():
            values = np.atleast_1d(np.array(self.parameters[key], dtype=np.float64))
            if rule.per_output and len(values) not in (1, outputs):
                raise ValueError(
                    f"{key} of loss {self.name!r} must be one number, or one for each of the "
                    f"{outputs} outputs; got {len(values)}"
                )
            arrays.append(np.broadcast_to(values, outputs) if rule.per_output else values)
        return np.concatenate(arrays) if len(arrays) > 1 else _NO_PARAMETERS

    def __repr__(self) -> str:
        values = [f"{key}={value!r}" for key, value in self.parameters.items()]
        return f"Loss({', '.join([repr(self.name), *values])})"


def as_loss(loss: str | Loss) -> Loss:
    """A loss from its name, or as it is."""
    return loss if isinstance(loss, Loss) else Loss(loss)
