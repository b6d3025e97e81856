"""Activations: names and parameters.  The arithmetic is in csrc/kernels/activations.c."""

from __future__ import annotations

from dataclasses import dataclass

from downslope._validate import as_number, choose

#: The activations' names, and the value of the parameter of those that have one.
ACTIVATIONS: dict[str, float | None] = {
    "identity": None,
    "sigmoid": None,
    "tanh": None,
    "relu": None,
    "leaky_relu": 0.01,  # slope for z < 0
    "elu": 1.0,  # alpha: the limit for z -> -inf is -alpha
    "gelu": None,
    "silu": None,
    "softplus": None,
    "softmax": None,
}

#: Activations that cut off or damp negative net inputs, for which He et al. (2015) derived the
#: initial weights.
RECTIFIERS = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"})


@dataclass(frozen=True)
class Activation:
    """An activation function of a layer.

    Parameters
    ----------
    name : str
        One of ``identity``, ``sigmoid``, ``tanh``, ``relu``, ``leaky_relu``, ``elu``, ``gelu`` (the
        exact form with the error function), ``silu``, ``softplus``, ``softmax``.
    parameter : float, optional
        The slope of ``leaky_relu`` for negative net inputs (default 0.01) or the alpha of ``elu``
        (default 1.0).  The others have none.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, or the parameter is not finite or not for this activation.

    Notes
    -----
    ``leaky_relu``: Maas et al. (2013); ``elu``: Clevert et al. (2016); ``gelu``: Hendrycks and
    Gimpel (2016); ``silu``: Elfwing et al. (2018).

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
        choose("activation", self.name, ACTIVATIONS)
        default = ACTIVATIONS[self.name]
        if self.parameter is None:
            object.__setattr__(self, "parameter", default)
        elif default is None:
            raise ValueError(f"activation {self.name!r} takes no parameter; got {self.parameter!r}")
        else:
            number = as_number(f"the parameter of activation {self.name!r}", self.parameter)
            object.__setattr__(self, "parameter", number)


def as_activation(activation: str | Activation) -> Activation:
    """An activation from its name, or as it is."""
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"an activation is a name or a downslope.Activation; got {type(activation).__name__}"
        )
    return Activation(activation)
