"""Optimisers: names and hyper-parameters.  The arithmetic is in csrc/kernels/updates.c."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass

from downslope._validate import as_number, choose


@dataclass(frozen=True)
class Optimizer(ABC):
    """How a gradient g changes the parameters p; see the subclasses.

    Parameters
    ----------
    learning_rate : float
        Factor of each step, positive.
    """

    learning_rate: float

    @property
    @abstractmethod
    def kernel(self) -> str:
        """Name of the update on the C side."""

    @property
    @abstractmethod
    def hyper(self) -> tuple[float, ...]:
        """The hyper-parameters in the kernel's order, the learning rate first."""

    def __post_init__(self) -> None:
        as_number("learning_rate", self.learning_rate, above=0.0)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: full batch, stochastic or mini-batch, with or without momentum.

    Without momentum ``p -= learning_rate * g``.  With momentum ``v = momentum * v + g`` and
    ``p -= learning_rate * v``; with Nesterov's, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Factor of each step, positive.
    momentum : float, default 0.0
        What is left of the velocity after a step, in [0, 1).
    nesterov : bool, default False
        Look ahead along the velocity; needs a momentum.

    Raises
    ------
    ValueError
        If a hyper-parameter is out of its range.

    Notes
    -----
    Momentum: Polyak (1964); Nesterov's: Sutskever et al., "On the importance of initialization and
    momentum in deep learning" (2013), with the learning rate outside the velocity as in PyTorch.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    learning_rate: float = 0.01
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("momentum", self.momentum, at_least=0.0, below=1.0)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0; got momentum=0.0")

    @property
    def kernel(self) -> str:
        if self.momentum == 0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def hyper(self) -> tuple[float, ...]:
        return (self.learning_rate, self.momentum)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    At step t = 1, 2, ...: ``m = beta_1 m + (1 - beta_1) g``, ``v = beta_2 v + (1 - beta_2) g**2``,
    ``p -= learning_rate / (1 - beta_1**t) * m / (sqrt(v) / sqrt(1 - beta_2**t) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, default 0.001
        About the largest change of a parameter in one step, positive.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the two running means, in [0, 1).
    epsilon : float, default 1e-8
        Keeps the division away from zero, positive.
    epsilon_hat : bool, default False
        Add epsilon to ``sqrt(v)`` before the correction by ``sqrt(1 - beta_2**t)``, as scikit-learn
        and TensorFlow do: the "epsilon hat" of the paper's section 2.

    Raises
    ------
    ValueError
        If a hyper-parameter is out of its range.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Adam(learning_rate=1e-3).beta_2
    0.999
    """

    learning_rate: float = 0.001
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("beta_1", self.beta_1, at_least=0.0, below=1.0)
        as_number("beta_2", self.beta_2, at_least=0.0, below=1.0)
        as_number("epsilon", self.epsilon, above=0.0)

    @property
    def kernel(self) -> str:
        return "adam"

    @property
    def hyper(self) -> tuple[float, ...]:
        hat = float(self.epsilon_hat)
        return (self.learning_rate, self.beta_1, self.beta_2, self.epsilon, hat)


#: What a name given for an optimiser stands for: the class, with its defaults.
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """An optimiser from its name, with its defaults, or as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise TypeError(f"give an optimiser, not its class: {optimizer.__name__}()")
    if not isinstance(optimizer, str):
        raise TypeError(
            "an optimizer is a name or an object such as downslope.Adam(1e-3); "
            f"got {type(optimizer).__name__}"
        )
    return OPTIMIZERS[choose("optimizer", optimizer, OPTIMIZERS)]()  # type: ignore[call-arg]
