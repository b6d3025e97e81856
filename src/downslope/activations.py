"""Activations: names and parameters.  The arithmetic is in csrc/kernels/activations.c."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope._validate import as_number, choose

#: The activations' names, and the value of the parameter of those that have one.
ACTIVATIONS: dict[str, float | None] = {
    "identity": None,
    "sigmoid": None,
    "hard_sigmoid": None,
    "tanh": None,
    "hard_tanh": None,
    "softsign": None,
    "relu": None,
    "relu6": None,
    "leaky_relu": 0.01,  # slope for z < 0
    "elu": 1.0,  # alpha: the limit for z -> -inf is -alpha
    "selu": None,
    "celu": 1.0,  # alpha, positive: the limit for z -> -inf is -alpha
    "gelu": None,
    "gelu_tanh": None,
    "silu": None,
    "mish": None,
    "softplus": None,
    "softmax": None,
    "log_softmax": None,
}

#: What other libraries call them.
_ELSEWHERE = {
    "linear": "identity",
    "logistic": "sigmoid",
    "swish": "silu",
    "prelu": "leaky_relu",
}

#: Activations that cut off or damp negative net inputs, for which He et al. (2015) derived the
#: initial weights.
RECTIFIERS = frozenset(
    {"relu", "relu6", "leaky_relu", "elu", "celu", "gelu", "gelu_tanh", "silu", "mish", "softplus"}
)


@dataclass(frozen=True)
class Activation:
    """An activation function of a layer.

    Parameters
    ----------
    name : str
        One of ``identity``, ``sigmoid``, ``hard_sigmoid``, ``tanh``, ``hard_tanh``, ``softsign``,
        ``relu``, ``relu6``, ``leaky_relu``, ``elu``, ``selu``, ``celu``, ``gelu`` (the exact form
        with the error function), ``gelu_tanh`` (its approximation by tanh), ``silu``, ``mish``,
        ``softplus``, ``softmax``, ``log_softmax``.  docs/activations_and_losses.md has their
        formulas and sources, and says why PReLU, which learns its slope, is not one of them.
    parameter : float, optional
        The slope of ``leaky_relu`` for negative net inputs (default 0.01), the alpha of ``elu``
        (default 1.0) or of ``celu`` (default 1.0, positive).  The others have none.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, or the parameter is not finite or not for this activation.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Activation("leaky_relu", 0.2)
    Activation(name='leaky_relu', parameter=0.2)
    >>> ds.Activation("elu").parameter
    1.0
    """

    name: str
    parameter: float | None = None

    def __post_init__(self) -> None:
        choose("activation", self.name, ACTIVATIONS, _ELSEWHERE)
        default = ACTIVATIONS[self.name]
        if self.parameter is None:
            object.__setattr__(self, "parameter", default)
        elif default is None:
            raise ValueError(f"activation {self.name!r} takes no parameter; got {self.parameter!r}")
        else:
            what = f"the parameter of activation {self.name!r}"
            above = 0.0 if self.name == "celu" else -math.inf  # celu divides by it
            object.__setattr__(self, "parameter", as_number(what, self.parameter, above=above))


def as_activation(activation: str | Activation) -> Activation:
    """An activation from its name, or as it is."""
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"an activation is a name or a downslope.Activation; got {type(activation).__name__}"
        )
    return Activation(activation)
