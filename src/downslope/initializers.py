"""Initial weights: which distribution, with which spread.

The numbers are drawn in `_plan` from a counter-based generator, as a function of (seed, layer,
position): the same on every machine, whatever the instruction set and the version of NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope._validate import as_number, choose
from downslope.activations import RECTIFIERS


@dataclass(frozen=True)
class Initializer:
    """A distribution for the initial weights of a layer.

    Parameters
    ----------
    distribution : {"uniform", "normal", "zeros"}
        Shape of the distribution; its mean is zero.
    scale : float, default 0.05
        Half the width of the uniform distribution, or the standard deviation of the normal one;
        not used when `fan` is given.
    fan : {"glorot", "he"}, optional
        Take the spread from the layer's numbers of inputs and outputs: a variance of
        ``2 / (inputs + outputs)`` (Glorot and Bengio, 2010) or ``2 / inputs`` (He et al., 2015).

    Examples
    --------
    >>> import downslope as ds
    >>> layer = ds.Dense(2, weights=ds.Initializer("uniform", scale=0.5))
    >>> bool(abs(ds.Network(3, [layer], seed=0).layers[0].weights).max() <= 0.5)
    True
    """

    distribution: str
    scale: float = 0.05
    fan: str | None = None

    def __post_init__(self) -> None:
        choose("distribution", self.distribution, ("uniform", "normal", "zeros"))
        if self.fan is not None:
            choose("fan", self.fan, ("glorot", "he"))
        as_number("scale", self.scale, at_least=0.0)

    def standard_deviation(self, inputs: int, outputs: int) -> float:
        """The standard deviation for a layer of this shape."""
        if self.fan == "glorot":
            return math.sqrt(2 / (inputs + outputs))
        if self.fan == "he":
            return math.sqrt(2 / inputs)
        return self.scale / math.sqrt(3) if self.distribution == "uniform" else self.scale


#: The initialisers that have a name.
INITIALIZERS = {
    "zeros": Initializer("zeros"),
    "uniform": Initializer("uniform"),
    "normal": Initializer("normal"),
    "glorot_uniform": Initializer("uniform", fan="glorot"),
    "glorot_normal": Initializer("normal", fan="glorot"),
    "he_uniform": Initializer("uniform", fan="he"),
    "he_normal": Initializer("normal", fan="he"),
}


def as_initializer(weights: str | Initializer, activation: str) -> Initializer:
    """An initialiser from its name; "auto" is He's for rectifiers, Glorot's for the others."""
    if isinstance(weights, Initializer):
        return weights
    if weights == "auto":
        return INITIALIZERS["he_normal" if activation in RECTIFIERS else "glorot_uniform"]
    choose("initializer", weights, ["auto", *INITIALIZERS])
    return INITIALIZERS[weights]
