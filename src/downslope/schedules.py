"""Schedules: the learning rate as a function of the number of steps made.

An epoch's rates are computed ahead, in one array that the engine reads from.  They are the same to
the bit on every machine: by additions, multiplications and divisions, and the library's own
exponential and logarithm.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _kernels
from downslope._validate import as_count, as_number, choose, name_of

__all__ = [
    "Constant",
    "Cosine",
    "Custom",
    "Exponential",
    "InverseTime",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
    "from_dict",
]

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate that changes with the steps; see the subclasses.

    ``schedule(step)`` is the learning rate after `step` steps, 0 for the first one.

    Examples
    --------
    >>> import downslope as ds
    >>> schedule = ds.schedules.Warmup(ds.schedules.Cosine(0.1, 900), 100)
    >>> schedule(0), schedule(100), schedule(1000)
    (0.010000000000000002, 0.1, 0.0)
    >>> ds.schedules.from_dict(schedule.to_dict()) == schedule
    True
    >>> ds.Adam(schedule).schedule == schedule
    True
    """

    @abstractmethod
    def at(self, steps: _Values) -> _Values:
        """The rates at some steps (n,), whole numbers in float64."""

    def rates(self, first: int, count: int) -> _Values:
        """The rates of `count` steps from number `first` on.

        Raises
        ------
        ValueError
            If one of them is negative or not finite.
        """
        rates = self.at(np.arange(first, first + count, dtype=np.float64))
        wrong = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0)))
        if wrong.size:
            raise ValueError(
                f"a learning rate must be finite and not negative; {self!r} gives "
                f"{float(rates[wrong[0]])} at step {first + int(wrong[0])}"
            )
        return rates

    def __call__(self, step: int) -> float:
        return float(self.rates(as_count("step", step, at_least=0), 1)[0])

    def to_dict(self) -> dict[str, Any]:
        """A description of numbers and names, which `from_dict` and JSON take."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            "schedule": type(self).__name__,
            **{k: v.to_dict() if isinstance(v, Schedule) else v for k, v in values.items()},
        }


@dataclass(frozen=True)
class _OverSteps(Schedule):
    """What most of them have: a rate, and the number of steps that it changes over."""

    rate: float
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", as_number("rate", self.rate, above=0.0))
        as_count("steps", self.steps)


@dataclass(frozen=True)
class Constant(Schedule):
    """One rate throughout; what a `Warmup` may lead to."""

    rate: float

    def __post_init__(self) -> None:
        as_number("rate", self.rate, above=0.0)

    def at(self, steps: _Values) -> _Values:
        return np.full(len(steps), float(self.rate))


@dataclass(frozen=True)
class Step(_OverSteps):
    """``rate * factor**floor(step / steps)``: multiplied by `factor` every so many steps."""

    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("factor", self.factor, above=0.0)

    def at(self, steps: _Values) -> _Values:
        return self.rate * _power(self.factor, np.floor(steps / self.steps))


@dataclass(frozen=True)
class Exponential(_OverSteps):
    """``rate * factor**(step / steps)``."""

    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("factor", self.factor, above=0.0)

    def at(self, steps: _Values) -> _Values:
        return self.rate * _power(self.factor, steps / self.steps)


@dataclass(frozen=True)
class InverseTime(_OverSteps):
    """``rate / (1 + factor * step / steps)`` (Robbins and Monro, 1951)."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("factor", self.factor, at_least=0.0)

    def at(self, steps: _Values) -> _Values:
        return self.rate / (1 + self.factor * (steps / self.steps))


@dataclass(frozen=True)
class Polynomial(_OverSteps):
    """``end + (rate - end) * (1 - step / steps)**power``, and `end` after `steps`."""

    _: KW_ONLY
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("end", self.end, at_least=0.0)
        as_number("power", self.power, above=0.0)

    def at(self, steps: _Values) -> _Values:
        left = 1 - np.minimum(steps, self.steps) / self.steps
        return self.end + (self.rate - self.end) * _power(left, np.float64(self.power))


@dataclass(frozen=True)
class Cosine(_OverSteps):
    """``end + (rate - end) * (1 + cos(pi * step / steps)) / 2``, and `end` after `steps`.

    With restarts (Loshchilov and Hutter, 2017), a new cycle begins instead: `cycle_factor` times as
    long as the one before, from `rate_factor` times its rate.
    """

    _: KW_ONLY
    end: float = 0.0
    restarts: bool = False
    cycle_factor: int = 1
    rate_factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("end", self.end, at_least=0.0)
        as_count("cycle_factor", self.cycle_factor)
        as_number("rate_factor", self.rate_factor, above=0.0)
        if not self.restarts and (self.cycle_factor, self.rate_factor) != (1, 1.0):
            raise ValueError("cycle_factor and rate_factor go with restarts=True")

    def at(self, steps: _Values) -> _Values:
        if not self.restarts:
            return _cosine_between(self.rate, self.end, np.minimum(steps, self.steps) / self.steps)
        cycle, part = self._cycles(steps)
        return _cosine_between(self.rate * _power(self.rate_factor, cycle), self.end, part)

    def _cycles(self, steps: _Values) -> tuple[_Values, _Values]:
        """The number of each step's cycle, and the part of it that is over."""
        if self.cycle_factor == 1:
            cycle = np.floor(steps / self.steps)
            return cycle, steps / self.steps - cycle
        cycle, part = np.zeros_like(steps), steps / self.steps
        begin, length, number = 0, self.steps, 0
        while begin <= steps.max(initial=0):
            here = steps >= begin
            cycle[here], part[here] = number, (steps[here] - begin) / length
            begin, length, number = begin + length, length * self.cycle_factor, number + 1
        return cycle, part


@dataclass(frozen=True)
class OneCycle(_OverSteps):
    """Up to `rate` by a half cosine, from ``rate / start_divisor``; then down by another, to
    ``rate / start_divisor / end_divisor`` at the last of the steps.

    Smith and Topin (2019), in the form of PyTorch's ``OneCycleLR``; `warmup` is the part of the
    steps that goes up.
    """

    _: KW_ONLY
    warmup: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("warmup", self.warmup, above=0.0, below=1.0)
        as_number("start_divisor", self.start_divisor, above=0.0)
        as_number("end_divisor", self.end_divisor, above=0.0)
        if self.warmup * self.steps <= 1:
            raise ValueError(
                f"OneCycle needs more than one step of warm-up; {self.warmup:g} of {self.steps} "
                "steps is not: give more steps"
            )

    def at(self, steps: _Values) -> _Values:
        start = self.rate / self.start_divisor
        top, last = self.warmup * self.steps - 1, self.steps - 1
        up = _cosine_between(start, self.rate, np.minimum(steps / top, 1))
        over = np.clip((steps - top) / (last - top), 0, 1)
        down = _cosine_between(self.rate, start / self.end_divisor, over)
        return np.where(steps <= top, up, down)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A linear way up over so many steps, from the part `start` of the first rate of `after`; then
    `after` from its beginning (Goyal et al., 2017)."""

    after: Schedule
    steps: int
    start: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", as_schedule(self.after))
        as_count("steps", self.steps)
        as_number("start", self.start, at_least=0.0)

    def at(self, steps: _Values) -> _Values:
        part = np.minimum(steps / self.steps, 1)
        rates = self.after.at(np.maximum(steps - self.steps, 0))
        return rates * (self.start + (1 - self.start) * part)


@dataclass(frozen=True, repr=False)
class Custom(Schedule):
    """Your own function of the number of steps made; what a callable given for a learning rate
    becomes."""

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(
                "a learning rate is a number, a schedule or a function of the number of steps; "
                f"got {self.function!r}"
            )

    def __repr__(self) -> str:
        return f"Custom({name_of(self.function)})"

    def at(self, steps: _Values) -> _Values:
        return np.array([self._rate(int(step)) for step in steps])

    def _rate(self, step: int) -> float:
        rate = self.function(step)
        try:
            return float(rate)
        except (TypeError, ValueError):
            raise TypeError(f"{self!r} must give numbers; got {rate!r} at step {step}") from None

    def to_dict(self) -> dict[str, Any]:
        raise TypeError(
            f"a schedule of your own, {self.function!r}, can not be described; take one of "
            f"{', '.join(_BY_NAME)}"
        )


#: What may be given for a learning rate.
LearningRate = float | Schedule | Callable[[int], float]

_BY_NAME: dict[str, type[Schedule]] = {
    cls.__name__: cls
    for cls in (Constant, Step, Exponential, InverseTime, Polynomial, Cosine, OneCycle, Warmup)
}


def as_schedule(value: object) -> Schedule:
    """A schedule as it is, or from a number or a function of the number of steps."""
    if isinstance(value, Schedule):
        return value
    return Custom(value) if callable(value) else Constant(as_number("learning rate", value))


def from_dict(description: dict[str, Any]) -> Schedule:
    """The schedule that ``Schedule.to_dict`` described.

    Parameters
    ----------
    description : dict

    Returns
    -------
    Schedule

    Raises
    ------
    TypeError, ValueError
        If the description is not one of a schedule.
    """
    if not isinstance(description, dict) or "schedule" not in description:
        raise TypeError(f"a schedule's description is a dict with a name; got {description!r}")
    values = dict(description)
    kind = _BY_NAME[choose("schedule", values.pop("schedule"), _BY_NAME)]
    if isinstance(values.get("after"), dict):
        values["after"] = from_dict(values["after"])
    return kind(**values)


# ---- Functions whose bits do not depend on the machine ----


def _power(base: float | _Values, exponent: _Values | np.float64) -> _Values:
    """base**exponent for a base that is not negative."""
    base, exponent = np.broadcast_arrays(np.asarray(base, np.float64), exponent)
    logarithm = np.empty(base.size)
    _kernels.run_elementary(_kernels.active_isa(), "log", np.array(base).ravel(), logarithm)
    power = np.empty(base.size)
    _kernels.run_elementary(
        _kernels.active_isa(), "exp", np.where(exponent == 0, 0, logarithm * exponent), power
    )
    return power


def _cosine_between(start: float | _Values, end: float, part: _Values) -> _Values:
    """From `start` at 0 to `end` at 1, along half a cosine."""
    # (1 + cos(pi x)) / 2 is the square of the sine of pi (1 - x) / 2: both ends are met exactly
    near = _sine(math.pi / 2 * np.minimum(part, 1 - part)) ** 2
    return end + (start - end) * np.where(part < 0.5, 1 - near, near)


def _sine(angle: _Values) -> _Values:
    """The sine of angles in [0, pi / 4], by its Taylor series; its first term left out is below
    1e-17."""
    square = angle * angle
    total = np.zeros_like(angle)
    for k in range(17, 1, -2):
        total = (1 + total) * -square / (k * (k - 1))
    return angle * (1 + total)
