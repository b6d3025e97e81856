"""What a layer is, before and after it is part of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope._validate import as_count, as_number
from downslope.activations import Activation, as_activation
from downslope.initializers import Initializer, as_initializer

#: What a layer says of its training, and what it says by default.
TRAINING_OPTIONS: dict[str, Any] = {
    "l1": 0.0,
    "l2": 0.0,
    "max_norm": None,
    "learning_rate": 1.0,
    "trainable": True,
    "dropout": 0.0,
}


class Dense:
    """A fully connected layer: ``y = activation(x @ weights + bias)``.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or Activation, default "identity"
        See `Activation`.
    weights : str, Initializer or array (inputs, outputs), default "auto"
        Initial weights: a name (``zeros``, ``uniform``, ``normal``, ``glorot_uniform``,
        ``glorot_normal``, ``he_uniform``, ``he_normal``, ``lecun_uniform``, ``lecun_normal``,
        ``orthogonal``), an `Initializer`, or the values.  ``"auto"`` is ``he_normal`` for relu and
        its kin, ``lecun_normal`` for selu, ``glorot_uniform`` for the others.
    bias : float or array (outputs,), default 0.0
        Initial bias; a number when it is shared.
    use_bias : bool, default True
        Whether there is a bias at all.
    shared_bias : bool, default False
        One number for all units of the layer instead of one for each.
    l1, l2 : float, default 0.0
        Penalties on the weights (not on the bias): ``l1 * sum(abs(weights))`` and ``l2 *
        sum(weights**2)`` are added to the training loss of each step, as in Keras.
    max_norm : float, optional
        Largest Euclidean norm of the incoming weights of a unit, a column of ``weights``; scaled
        down to it after each update (Srebro and Shraibman, 2005).
    learning_rate : float, default 1.0
        Factor of the optimiser's learning rate for this layer.
    trainable : bool, default True
        Whether training changes the layer.
    dropout : float, default 0.0
        In training, the share of the layer's outputs that is set to zero, at least 0 and below 1,
        in steps of 2**-16.  The others are divided by what is left (inverted dropout), so that
        prediction needs no factor.  Which ones, is a function of the network's seed, the number of
        the step, the layer and the place in the batch.  Not for the last layer.

    Raises
    ------
    TypeError, ValueError
        If a value is of the wrong kind, unknown, not finite or contradicts another.

    Notes
    -----
    Dropout: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 15 (2014).  The draws are Philox4x32-10's.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Network(4, [ds.Dense(8, "tanh"), ds.Dense(3, "softmax")], seed=0)
    Network([4, 8, 3], activation=['tanh'], output='softmax', dtype='float32', seed=0)
    """

    def __init__(
        self,
        units: int,
        activation: str | Activation = "identity",
        *,
        weights: str | Initializer | ArrayLike = "auto",
        bias: ArrayLike = 0.0,
        use_bias: bool = True,
        shared_bias: bool = False,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        learning_rate: float = 1.0,
        trainable: bool = True,
        dropout: float = 0.0,
    ) -> None:
        self.units = as_count("units", units)
        self.activation = as_activation(activation)
        self.use_bias, self.shared_bias = bool(use_bias), bool(shared_bias)
        self.l1 = as_number("l1", l1, at_least=0.0)
        self.l2 = as_number("l2", l2, at_least=0.0)
        self.max_norm = None if max_norm is None else as_number("max_norm", max_norm, above=0.0)
        self.learning_rate = as_number("learning_rate", learning_rate, above=0.0)
        self.trainable = bool(trainable)
        self.dropout = as_number("dropout", dropout, at_least=0.0, below=1.0)
        self.weights: Initializer | NDArray[np.float64]
        if isinstance(weights, str | Initializer):
            self.weights = as_initializer(weights, self.activation.name)
        else:
            self.weights = _given("weights", weights, ndim=2)
        self.bias = _given("bias", bias)
        if shared_bias and not use_bias:
            raise ValueError("shared_bias=True contradicts use_bias=False; drop one of them")
        if self.bias.ndim > 1 or (self.bias.ndim == 1 and self.bias.size != self.bias_count):
            raise ValueError(
                f"bias must be a number or an array of shape ({self.bias_count},), one for each "
                f"unit; got shape {self.bias.shape}"
            )

    @property
    def bias_count(self) -> int:
        """How many numbers the bias is: `units`, 1 when they share it, 0 without."""
        return 0 if not self.use_bias else 1 if self.shared_bias else self.units

    def __repr__(self) -> str:
        extra = "" if self.use_bias else ", use_bias=False"
        extra += ", shared_bias=True" if self.shared_bias else ""
        for name, default in TRAINING_OPTIONS.items():
            value = getattr(self, name)
            extra += "" if value == default else f", {name}={value!r}"
        return f"Dense({self.units}, {self.activation.name!r}{extra})"


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a network: its shape and views of its parameters.

    Attributes
    ----------
    inputs, outputs : int
        Widths.
    activation : Activation
        What is applied to ``x @ weights + bias``.
    weights : array (inputs, outputs)
        Writable view into ``network.parameters``.
    bias : array (outputs,) or (1,) or None
        Writable view into ``network.parameters``; one number when the units share it, None when
        there is none.
    dropout : float
        The share of the outputs that training sets to zero.
    """

    inputs: int
    outputs: int
    activation: Activation
    weights: NDArray[Any]
    bias: NDArray[Any] | None
    dropout: float = 0.0

    def __repr__(self) -> str:
        return f"Layer({self.inputs} -> {self.outputs}, {self.activation.name})"


def _given(name: str, values: ArrayLike, ndim: int | None = None) -> NDArray[np.float64]:
    """Initial values that the caller gives, as float64: finite, with `ndim` axes if it matters."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numbers; got {values!r}") from error
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} must be an array (inputs, outputs) or the name of an initializer; "
            f"got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; found NaN or infinity")
    return array
