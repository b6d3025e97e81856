"""Initial weights: which distribution, with which spread.

The numbers are drawn in `_plan` from a counter-based generator, as a function of (seed, layer,
position): the same on every machine, whatever the instruction set and the version of NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from downslope._validate import as_number, choose
from downslope.activations import RECTIFIERS

#: The distributions, and the scale of those that have one of their own.
DISTRIBUTIONS = {"uniform": 0.05, "normal": 0.05, "orthogonal": 1.0, "constant": None}


@dataclass(frozen=True)
class Initializer:
    """A distribution for the initial weights of a layer.

    Parameters
    ----------
    distribution : {"uniform", "normal", "orthogonal", "constant"}
        ``uniform`` and ``normal`` have mean zero.  ``orthogonal``: a random matrix with orthonormal
        columns, or rows where those are fewer, times `scale`.  ``constant``: all weights are
        `scale`.
    scale : float, optional
        Half the width of the uniform distribution or the standard deviation of the normal one
        (default 0.05), the factor of the orthogonal one (default 1.0), or the constant.  Not
        beside `fan`.
    fan : {"glorot", "he", "lecun"}, optional
        Take the spread of a uniform or normal distribution from the layer's numbers of inputs and
        outputs: a variance of ``2 / (inputs + outputs)`` (Glorot and Bengio, 2010), ``2 / inputs``
        (He et al., 2015) or ``1 / inputs`` (LeCun et al., 1998).

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, a number not finite or negative, or `fan` and `distribution`
        contradict each other.

    Notes
    -----
    ``orthogonal``: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks" (2014).  It is the Q of a QR decomposition of normal numbers with a
    positive diagonal of R, so that all orthogonal matrices are equally likely (Mezzadri, 2007).

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> layer = ds.Dense(2, weights=ds.Initializer("uniform", scale=0.5))
    >>> bool(abs(ds.Network(3, [layer], seed=0).layers[0].weights).max() <= 0.5)
    True
    >>> w = ds.Network([5, 3], weights="orthogonal", dtype="float64", seed=0).layers[0].weights
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """

    distribution: str
    scale: float | None = None
    fan: str | None = None

    def __post_init__(self) -> None:
        choose("distribution", self.distribution, DISTRIBUTIONS)
        if self.fan is not None:
            choose("fan", self.fan, ("glorot", "he", "lecun"))
            if self.distribution not in ("uniform", "normal"):
                raise ValueError(
                    f"fan={self.fan!r} goes with a uniform or normal distribution; "
                    f"got {self.distribution!r}"
                )
            if self.scale is not None:
                raise ValueError(
                    f"fan={self.fan!r} gives the spread, and scale={self.scale!r} another; give "
                    "one of them"
                )
            return
        if self.scale is None:
            object.__setattr__(self, "scale", DISTRIBUTIONS[self.distribution])
        if self.scale is None:
            raise ValueError('a constant needs its value: Initializer("constant", 0.1)')
        least = -math.inf if self.distribution == "constant" else 0.0
        object.__setattr__(self, "scale", as_number("scale", self.scale, at_least=least))

    def standard_deviation(self, inputs: int, outputs: int) -> float:
        """The standard deviation of a uniform or normal distribution for a layer of this shape."""
        if self.fan == "glorot":
            return math.sqrt(2 / (inputs + outputs))
        if self.fan is not None:
            return math.sqrt((2 if self.fan == "he" else 1) / inputs)
        assert self.scale is not None
        return self.scale / math.sqrt(3) if self.distribution == "uniform" else self.scale


#: The initialisers that have a name.
INITIALIZERS = {
    "zeros": Initializer("constant", 0.0),
    "uniform": Initializer("uniform"),
    "normal": Initializer("normal"),
    "glorot_uniform": Initializer("uniform", fan="glorot"),
    "glorot_normal": Initializer("normal", fan="glorot"),
    "he_uniform": Initializer("uniform", fan="he"),
    "he_normal": Initializer("normal", fan="he"),
    "lecun_uniform": Initializer("uniform", fan="lecun"),
    "lecun_normal": Initializer("normal", fan="lecun"),
    "orthogonal": Initializer("orthogonal"),
}

#: What other libraries call them.
_ELSEWHERE = {
    "constant": 'Initializer("constant", 0.1)',
    "glorot": "glorot_uniform",
    "he": "he_normal",
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
    "ones": 'Initializer("constant", 1.0)',
    "random_normal": "normal",
    "random_uniform": "uniform",
    "xavier": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
}


def as_initializer(weights: str | Initializer, activation: str) -> Initializer:
    """An initialiser from its name; "auto" chooses by the activation."""
    if isinstance(weights, Initializer):
        return weights
    if weights == "auto":
        return INITIALIZERS[_automatic(activation)]
    choose("initializer", weights, ["auto", *INITIALIZERS], _ELSEWHERE)
    return INITIALIZERS[weights]


def _automatic(activation: str) -> str:
    if activation == "selu":  # normalises itself from a variance of 1 / inputs
        return "lecun_normal"
    return "he_normal" if activation in RECTIFIERS else "glorot_uniform"
