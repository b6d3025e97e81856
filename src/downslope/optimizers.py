"""Optimisers: names and hyper-parameters.  The arithmetic is in csrc/kernels/updates.c."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING

from downslope._validate import as_count, as_number, choose

if TYPE_CHECKING:
    from downslope.schedules import LearningRate, Schedule


@dataclass(frozen=True, repr=False)
class Optimizer(ABC):
    """How a gradient g changes the parameters p; see the subclasses.

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        Factor of each step: a positive number, a schedule (see `downslope.schedules`), or a
        function that takes the number of steps made and returns a number.
    weight_decay : float, default 0.0
        Takes ``learning_rate * weight_decay * w`` off each weight w before its step, beside the
        gradient (Loshchilov and Hutter, 2019).  Biases do not decay.
    clip_value : float, optional
        Bring each element of the gradient into ``-clip_value .. clip_value``.
    clip_norm : float, optional
        Scale the gradient of all parameters together down to this Euclidean norm where it is
        larger (Pascanu, Mikolov and Bengio, 2013); after `clip_value`.
    gradient_accumulation_steps : int, default 1
        So many mini-batches of `fit` make one step, with the mean of their rows' gradients: the
        same as a batch_size so many times as large.
    ema_momentum : float, optional
        Keep an exponential moving average of the parameters, which takes ``1 - ema_momentum`` of
        the new ones after each step; `fit` leaves the average in the network when it is done.
    ema_overwrite_frequency : int, optional
        Besides, put the average into the network after each so many steps.

    Raises
    ------
    TypeError, ValueError
        If a value is of the wrong kind or out of its range.
    """

    learning_rate: LearningRate
    _: KW_ONLY
    weight_decay: float = 0.0
    clip_value: float | None = None
    clip_norm: float | None = None
    gradient_accumulation_steps: int = 1
    ema_momentum: float | None = None
    ema_overwrite_frequency: int | None = None

    @property
    @abstractmethod
    def kernel(self) -> str:
        """Name of the update on the C side."""

    @property
    @abstractmethod
    def constants(self) -> tuple[float, ...]:
        """The hyper-parameters in the kernel's order, without the learning rate."""

    @property
    def initial_state(self) -> tuple[float, ...]:
        """What the states begin with; those not named begin with zero."""
        return ()

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the learning rate, None for a constant one."""
        if isinstance(self.learning_rate, int | float):
            return None
        from downslope.schedules import as_schedule  # takes time to import

        return as_schedule(self.learning_rate)

    @property
    def hyper(self) -> tuple[float, ...]:
        """The hyper-parameters in the kernel's order, the first step's learning rate first."""
        schedule = self.schedule
        first = self.learning_rate if schedule is None else schedule(0)
        return (float(first), *self.constants)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if not callable(self.learning_rate) or isinstance(self.learning_rate, type):
            rate = as_number("learning_rate", self.learning_rate, above=0.0)
            object.__setattr__(self, "learning_rate", rate)
        as_number("weight_decay", self.weight_decay, at_least=0.0)
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                as_number(name, getattr(self, name), above=0.0)
        as_count("gradient_accumulation_steps", self.gradient_accumulation_steps)
        if self.ema_momentum is not None:
            as_number("ema_momentum", self.ema_momentum, at_least=0.0, below=1.0)
        if self.ema_overwrite_frequency is not None:
            as_count("ema_overwrite_frequency", self.ema_overwrite_frequency)
            if self.ema_momentum is None:
                raise ValueError("ema_overwrite_frequency needs an ema_momentum; got None")

    def __repr__(self) -> str:
        common = {field.name: field.default for field in fields(Optimizer)}
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        if (schedule := self.schedule) is not None:  # which shows a function by its name
            shown["learning_rate"] = schedule
        parts = [
            f"{name}={value!r}"
            for name, value in shown.items()
            if name == "learning_rate" or name not in common or value != common[name]
        ]
        return f"{type(self).__name__}({', '.join(parts)})"


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Gradient descent: full batch, stochastic or mini-batch, with or without momentum.

    Without momentum ``p -= learning_rate * g``.  With momentum ``v = momentum * v + g`` and
    ``p -= learning_rate * v``; with Nesterov's, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.01
        Factor of each step, positive.
    momentum : float, default 0.0
        What is left of the velocity after a step, in [0, 1).
    nesterov : bool, default False
        Look ahead along the velocity; needs a momentum.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a hyper-parameter is of the wrong kind or out of its range.

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

    learning_rate: LearningRate = 0.01
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
    def constants(self) -> tuple[float, ...]:
        return (self.momentum,)


@dataclass(frozen=True, repr=False)
class _Moments(Optimizer):
    """What the kin of Adam share: running means of the gradient and of its square."""

    learning_rate: LearningRate = 0.001
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("beta_1", self.beta_1, at_least=0.0, below=1.0)
        as_number("beta_2", self.beta_2, at_least=0.0, below=1.0)
        as_number("epsilon", self.epsilon, above=0.0)

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon)


@dataclass(frozen=True, repr=False)
class Adam(_Moments):
    """Adam: steps scaled by running means of the gradient and of its square.

    At step t = 1, 2, ...: ``m = beta_1 m + (1 - beta_1) g``, ``v = beta_2 v + (1 - beta_2) g**2``,
    ``p -= learning_rate / (1 - beta_1**t) * m / (sqrt(v) / sqrt(1 - beta_2**t) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.001
        About the largest change of a parameter in one step, positive.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the two running means, in [0, 1).
    epsilon : float, default 1e-8
        Keeps the division away from zero, positive.
    amsgrad : bool, default False
        Take the greatest v so far in place of v.
    epsilon_hat : bool, default False
        Add epsilon to ``sqrt(v)`` before the correction by ``sqrt(1 - beta_2**t)``, as scikit-learn
        and Keras do: the "epsilon hat" of the paper's section 2.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a hyper-parameter is of the wrong kind or out of its range.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1; AMSGrad:
    Reddi, Kale and Kumar, "On the convergence of Adam and beyond" (2018).

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Adam(learning_rate=1e-3).beta_2
    0.999
    """

    _: KW_ONLY
    amsgrad: bool = False
    epsilon_hat: bool = False

    @property
    def kernel(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    @property
    def constants(self) -> tuple[float, ...]:
        return (*super().constants, float(self.epsilon_hat))


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """`Adam` with a weight decay of 0.01, unless another is given.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, amsgrad, epsilon_hat
        See `Adam`.
    weight_decay : float, default 0.01
    clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).  Biases do not decay.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.AdamW(1e-3).weight_decay
    0.01
    """

    _: KW_ONLY
    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class NAdam(_Moments):
    """Adam that looks ahead along its momentum, as Nesterov does.

    With m and v as in `Adam`, ``mu(t) = beta_1 (1 - 0.96**(t * momentum_decay) / 2)`` and the
    product ``M = mu(1) ... mu(t)``:
    ``d = (1 - mu(t)) g / (1 - M) + mu(t + 1) m / (1 - M mu(t + 1))`` and
    ``p -= learning_rate * d / (sqrt(v / (1 - beta_2**t)) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.002
    beta_1, beta_2, epsilon
        See `Adam`.
    momentum_decay : float, default 0.004
        How fast mu rises from half of beta_1 to beta_1, positive.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Dozat, "Incorporating Nesterov momentum into Adam" (2016), as in PyTorch.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.NAdam().momentum_decay
    0.004
    """

    learning_rate: LearningRate = 0.002
    _: KW_ONLY
    momentum_decay: float = 0.004

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("momentum_decay", self.momentum_decay, above=0.0)

    @property
    def kernel(self) -> str:
        return "nadam"

    @property
    def constants(self) -> tuple[float, ...]:
        from decimal import Decimal  # takes time to import

        # decimal arithmetic is the same on every machine, a power of floats is not
        decay = Decimal("0.96") ** Decimal(self.momentum_decay)
        return (*super().constants, float(decay))


@dataclass(frozen=True, repr=False)
class RAdam(_Moments):
    """Rectified Adam: the first steps go along the mean gradient alone.

    With m and v as in `Adam`, ``s = 2 / (1 - beta_2) - 1`` and ``s(t) = s - 2 t beta_2**t / (1 -
    beta_2**t)``: while ``s(t) <= 5``, ``p -= learning_rate / (1 - beta_1**t) * m``; after that
    ``p -= learning_rate / (1 - beta_1**t) * m * r * sqrt(1 - beta_2**t) / (sqrt(v) + epsilon)``,
    ``r**2 = (s(t) - 4) (s(t) - 2) s / ((s - 4) (s - 2) s(t))``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.001
    beta_1, beta_2, epsilon
        See `Adam`.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Liu et al., "On the variance of the adaptive learning rate and beyond" (2020), as in PyTorch.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.RAdam(0.01).learning_rate
    0.01
    """

    @property
    def kernel(self) -> str:
        return "radam"


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Steps scaled by all squares of the gradient so far.

    ``s += g**2``, ``p -= learning_rate * g / (sqrt(s) + epsilon)``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.01
    initial_accumulator_value : float, default 0.0
        What s begins with.
    epsilon : float, default 1e-10
        Keeps the division away from zero, positive.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization" (2011).

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Adagrad(0.1).epsilon
    1e-10
    """

    learning_rate: LearningRate = 0.01
    _: KW_ONLY
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("initial_accumulator_value", self.initial_accumulator_value, at_least=0.0)
        as_number("epsilon", self.epsilon, above=0.0)

    @property
    def kernel(self) -> str:
        return "adagrad"

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.epsilon,)

    @property
    def initial_state(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)


@dataclass(frozen=True, repr=False)
class RMSProp(Optimizer):
    """Steps scaled by a running mean of the squared gradient.

    ``v = rho v + (1 - rho) g**2``, ``p -= learning_rate * g / (sqrt(v) + epsilon)``.  With momentum
    ``b = momentum * b + g / (sqrt(v) + epsilon)`` and ``p -= learning_rate * b``.  Centred, the
    square of a running mean of g is taken off v.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.01
    rho : float, default 0.99
        Decay of the running means, in [0, 1).
    momentum : float, default 0.0
        In [0, 1).
    epsilon : float, default 1e-8
        Keeps the division away from zero, positive.
    centered : bool, default False
        Divide by the deviation from the mean instead.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning" (2012); centred:
    Graves, "Generating sequences with recurrent neural networks" (2013).  As in PyTorch.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.RMSProp(0.001, momentum=0.9).rho
    0.99
    """

    learning_rate: LearningRate = 0.01
    _: KW_ONLY
    rho: float = 0.99
    momentum: float = 0.0
    epsilon: float = 1e-8
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("rho", self.rho, at_least=0.0, below=1.0)
        as_number("momentum", self.momentum, at_least=0.0, below=1.0)
        as_number("epsilon", self.epsilon, above=0.0)

    @property
    def kernel(self) -> str:
        if self.centered:
            return "rmsprop_centered"
        return "rmsprop_momentum" if self.momentum else "rmsprop"

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.rho, self.epsilon, self.momentum)


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Steps scaled by the running means of the squares of gradients and of steps.

    ``v = rho v + (1 - rho) g**2``, ``d = g * sqrt(u + epsilon) / sqrt(v + epsilon)``,
    ``u = rho u + (1 - rho) d**2``, ``p -= learning_rate * d``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 1.0
    rho : float, default 0.9
        Decay of the running means, in [0, 1).
    epsilon : float, default 1e-6
        Lets the first steps begin, positive.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Zeiler, "ADADELTA: an adaptive learning rate method" (2012).

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Adadelta().learning_rate
    1.0
    """

    learning_rate: LearningRate = 1.0
    _: KW_ONLY
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("rho", self.rho, at_least=0.0, below=1.0)
        as_number("epsilon", self.epsilon, above=0.0)

    @property
    def kernel(self) -> str:
        return "adadelta"

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.rho, self.epsilon)


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Steps of one size, along the sign of a mean of gradients.

    ``p -= learning_rate * sign(beta_1 m + (1 - beta_1) g)``, ``m = beta_2 m + (1 - beta_2) g``.

    Parameters
    ----------
    learning_rate : float, Schedule or callable, default 0.0001
        The size of a step of each parameter.
    beta_1, beta_2 : float, default 0.9 and 0.99
        In [0, 1).
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Chen et al., "Symbolic discovery of optimization algorithms" (2023).

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Lion(1e-3, weight_decay=0.1)
    Lion(learning_rate=0.001, weight_decay=0.1, beta_1=0.9, beta_2=0.99)
    """

    learning_rate: LearningRate = 0.0001
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("beta_1", self.beta_1, at_least=0.0, below=1.0)
        as_number("beta_2", self.beta_2, at_least=0.0, below=1.0)

    @property
    def kernel(self) -> str:
        return "lion"

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2)


@dataclass(frozen=True, repr=False)
class Rprop(Optimizer):
    """Resilient propagation: each parameter has a step of its own; for full batches.

    The step begins as the learning rate.  Where the gradient has kept its sign it grows by the
    factor `eta_plus`; where the sign has changed, it shrinks by `eta_minus` and the gradient counts
    as zero this once.  ``p -= step * sign(g)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
    eta_minus, eta_plus : float, default 0.5 and 1.2
        Below and above 1.
    min_step, max_step : float, default 1e-6 and 50.0
        Bounds of the steps.
    weight_decay, clip_value, clip_norm, gradient_accumulation_steps, ema_momentum, \
ema_overwrite_frequency
        See `Optimizer`.

    Notes
    -----
    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning" (1993), in
    the variant without a step back (Igel and Huesken, 2003), as in PyTorch.  The signs of
    mini-batches' gradients change by chance: give ``batch_size=None``.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.Rprop().max_step
    50.0
    """

    learning_rate: LearningRate = 0.01
    _: KW_ONLY
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    min_step: float = 1e-6
    max_step: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("eta_minus", self.eta_minus, above=0.0, below=1.0)
        as_number("eta_plus", self.eta_plus, above=1.0)
        as_number("min_step", self.min_step, above=0.0)
        as_number("max_step", self.max_step, at_least=self.min_step)
        if self.schedule is not None:
            raise ValueError(
                "Rprop takes no schedule: its steps adapt themselves; give learning_rate a number"
            )

    @property
    def kernel(self) -> str:
        return "rprop"

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.eta_minus, self.eta_plus, self.min_step, self.max_step)

    @property
    def initial_state(self) -> tuple[float, ...]:
        return (0.0, 1.0)  # the last gradient, and the steps in units of the learning rate


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS on all rows at once, by SciPy (extra ``scipy``); for small data.

    An epoch of `fit` is an iteration; its loss is the one that it arrives at.  The batch size and
    the order of the rows do not matter, and a run that has converged ends early.  `Trainer.step`
    and `Trainer.update` are for other optimisers.

    Parameters
    ----------
    memory : int, default 10
        Iterations that the curvature is estimated from.
    gradient_tolerance : float, default 1e-5
        The run ends when no element of the gradient is larger.
    loss_tolerance : float, default 1e-12
        Or when an iteration lowers the loss by less than this, relative to it (or to 1).

    Notes
    -----
    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization" (1989);
    ``scipy.optimize.minimize`` with the method L-BFGS-B.  Its bits depend on SciPy's version.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.LBFGS(memory=20)
    LBFGS(memory=20, gradient_tolerance=1e-05, loss_tolerance=1e-12)
    """

    _: KW_ONLY
    memory: int = 10
    gradient_tolerance: float = 1e-5
    loss_tolerance: float = 1e-12

    def __post_init__(self) -> None:
        as_count("memory", self.memory)
        as_number("gradient_tolerance", self.gradient_tolerance, at_least=0.0)
        as_number("loss_tolerance", self.loss_tolerance, at_least=0.0)


#: What a name given for an optimiser stands for: the class, with its defaults.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in (SGD, Adam, AdamW, NAdam, RAdam, Adagrad, RMSProp, Adadelta, Lion, Rprop)
}

#: What other libraries call them, or name as optimisers of their own.
_ELSEWHERE = {
    "amsgrad": "downslope.Adam(amsgrad=True)",
    "momentum": "downslope.SGD(momentum=0.9)",
    "nesterov": "downslope.SGD(momentum=0.9, nesterov=True)",
}


def as_optimizer(optimizer: str | Optimizer | LBFGS) -> Optimizer | LBFGS:
    """An optimiser from its name, with its defaults, or as it is."""
    if isinstance(optimizer, Optimizer | LBFGS):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer | LBFGS):
        raise TypeError(f"give an optimizer, not its class: {optimizer.__name__}()")
    if not isinstance(optimizer, str):
        raise TypeError(
            "an optimizer is a name or an object such as downslope.Adam(1e-3); "
            f"got {type(optimizer).__name__}"
        )
    if choose("optimizer", optimizer, [*OPTIMIZERS, "lbfgs"], _ELSEWHERE) == "lbfgs":
        return LBFGS()
    return OPTIMIZERS[optimizer]()  # type: ignore[call-arg]


def as_stepwise(optimizer: str | Optimizer, user: str) -> Optimizer:
    """The same, for a user who makes single steps."""
    chosen = as_optimizer(optimizer)
    if isinstance(chosen, LBFGS):
        raise TypeError(f"{user} makes single steps, LBFGS whole runs: give another optimizer")
    return chosen
