"""The oracles of the optimisers: `update` gives the new parameters from the old ones and their
gradient."""

from __future__ import annotations

import math

import numpy as np


class SGD:
    """v = mu v + g;  p -= lr v,  or by Nesterov  p -= lr (g + mu v)."""

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False
    ) -> None:
        self.learning_rate, self.momentum, self.nesterov = learning_rate, momentum, nesterov
        self.velocity: np.ndarray | None = None

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.velocity is None:
            self.velocity = np.zeros_like(parameters)
        self.velocity = self.momentum * self.velocity + gradient
        direction = gradient + self.momentum * self.velocity if self.nesterov else self.velocity
        return parameters - self.learning_rate * direction


class Adam:
    """Kingma and Ba (2015), Algorithm 1, with the bias corrections 1 - b^t written out:

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon),  t = 1, 2, ...

    With `epsilon_hat`, epsilon stands beside sqrt(v) itself, before its correction (section 2).
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        epsilon_hat: bool = False,
    ) -> None:
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.epsilon_hat = epsilon_hat
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.m: np.ndarray | None = None
        self.v: np.ndarray | None = None
        self.t = 0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.m is None or self.v is None:
            self.m, self.v = np.zeros_like(parameters), np.zeros_like(parameters)
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient**2
        m_hat = self.m / (1 - self.beta_1**self.t)
        correction = (1 - self.beta_2**self.t) ** 0.5
        if self.epsilon_hat:
            root = (np.sqrt(self.v) + self.epsilon) / correction
        else:
            root = np.sqrt(self.v) / correction + self.epsilon
        return parameters - self.learning_rate * m_hat / root


class Adagrad:
    """s += g^2;  p -= lr g / (sqrt(s) + epsilon)."""

    def __init__(self, learning_rate: float = 0.01, start: float = 0.0, epsilon: float = 1e-10):
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.s: float | np.ndarray = start

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.s = self.s + gradient**2
        return parameters - self.learning_rate * gradient / (np.sqrt(self.s) + self.epsilon)


class RMSProp:
    """v = rho v + (1 - rho) g^2;  b = mu b + g / (sqrt(v) + epsilon);  p -= lr b.

    Centred, the square of m = rho m + (1 - rho) g is taken off v.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        rho: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        centered: bool = False,
    ) -> None:
        self.learning_rate, self.rho, self.epsilon = learning_rate, rho, epsilon
        self.momentum, self.centered = momentum, centered
        self.v: float | np.ndarray = 0.0
        self.m: float | np.ndarray = 0.0
        self.b: float | np.ndarray = 0.0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.v = self.rho * self.v + (1 - self.rho) * gradient**2
        self.m = self.rho * self.m + (1 - self.rho) * gradient
        spread = np.maximum(self.v - self.m**2, 0) if self.centered else self.v
        self.b = self.momentum * self.b + gradient / (np.sqrt(spread) + self.epsilon)
        return parameters - self.learning_rate * self.b


class Adadelta:
    """v = rho v + (1 - rho) g^2;  d = g sqrt(u + epsilon) / sqrt(v + epsilon);
    u = rho u + (1 - rho) d^2;  p -= lr d.
    """

    def __init__(self, learning_rate: float = 1.0, rho: float = 0.9, epsilon: float = 1e-6):
        self.learning_rate, self.rho, self.epsilon = learning_rate, rho, epsilon
        self.v: float | np.ndarray = 0.0
        self.u: float | np.ndarray = 0.0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.v = self.rho * self.v + (1 - self.rho) * gradient**2
        d = gradient * np.sqrt(self.u + self.epsilon) / np.sqrt(self.v + self.epsilon)
        self.u = self.rho * self.u + (1 - self.rho) * d**2
        return parameters - self.learning_rate * d


class AMSGrad(Adam):
    """Adam with the greatest v so far."""

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.beta_1 * (0 if self.m is None else self.m) + (1 - self.beta_1) * gradient
        v = 0 if self.v is None else self.v
        self.v = self.beta_2 * v + (1 - self.beta_2) * gradient**2
        self.greatest = np.maximum(getattr(self, "greatest", 0), self.v)
        m_hat = self.m / (1 - self.beta_1**self.t)
        v_hat = self.greatest / (1 - self.beta_2**self.t)
        return parameters - self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


class NAdam(Adam):
    """mu(t) = b1 (1 - 0.96^(t psi) / 2);  M = mu(1) ... mu(t);  m and v as Adam's
    p -= lr ((1 - mu(t)) g / (1 - M) + mu(t + 1) m / (1 - M mu(t + 1))) / (sqrt(v_hat) + epsilon)
    """

    def __init__(self, learning_rate: float = 0.002, psi: float = 0.004, **constants: float):
        super().__init__(learning_rate, **constants)
        self.psi, self.momenta = psi, 1.0
        self.m = self.v = 0.0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        mu, following = (
            self.beta_1 * (1 - 0.5 * 0.96 ** (t * self.psi)) for t in (self.t, self.t + 1)
        )
        self.momenta *= mu
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient**2
        root = np.sqrt(self.v / (1 - self.beta_2**self.t)) + self.epsilon
        ahead = (1 - mu) * gradient / (1 - self.momenta)
        ahead = ahead + following * self.m / (1 - self.momenta * following)
        return parameters - self.learning_rate * ahead / root


class RAdam(Adam):
    """s = 2 / (1 - b2) - 1;  s(t) = s - 2 t b2^t / (1 - b2^t);  m and v as Adam's
    s(t) <= 5:  p -= lr m_hat
    else:       p -= lr m_hat r sqrt(1 - b2^t) / (sqrt(v) + epsilon),
                r^2 = (s(t) - 4) (s(t) - 2) s / ((s - 4) (s - 2) s(t))
    """

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.beta_1 * (0 if self.m is None else self.m) + (1 - self.beta_1) * gradient
        v = 0 if self.v is None else self.v
        self.v = self.beta_2 * v + (1 - self.beta_2) * gradient**2
        m_hat = self.m / (1 - self.beta_1**self.t)
        power = self.beta_2**self.t
        s_end = 2 / (1 - self.beta_2) - 1
        s = s_end - 2 * self.t * power / (1 - power)
        if s <= 5:
            return parameters - self.learning_rate * m_hat
        r = math.sqrt((s - 4) * (s - 2) * s_end / ((s_end - 4) * (s_end - 2) * s))
        scaled = r * math.sqrt(1 - power) * m_hat / (np.sqrt(self.v) + self.epsilon)
        return parameters - self.learning_rate * scaled


class Lion:
    """p -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g."""

    def __init__(self, learning_rate: float = 1e-4, beta_1: float = 0.9, beta_2: float = 0.99):
        self.learning_rate, self.beta_1, self.beta_2 = learning_rate, beta_1, beta_2
        self.m: float | np.ndarray = 0.0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        direction = np.sign(self.beta_1 * self.m + (1 - self.beta_1) * gradient)
        self.m = self.beta_2 * self.m + (1 - self.beta_2) * gradient
        return parameters - self.learning_rate * direction


class Rprop:
    """A step for each parameter, times `plus` where the gradient keeps its sign; where it changes,
    times `minus`, and the gradient counts as zero.  p -= step sign(g).
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        minus: float = 0.5,
        plus: float = 1.2,
        least: float = 1e-6,
        greatest: float = 50.0,
    ) -> None:
        self.minus, self.plus, self.least, self.greatest = minus, plus, least, greatest
        self.step: float | np.ndarray = learning_rate
        self.before: float | np.ndarray = 0.0

    def update(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        agreement = np.sign(gradient * self.before)
        factor = np.where(agreement > 0, self.plus, np.where(agreement < 0, self.minus, 1))
        self.step = np.clip(self.step * factor, self.least, self.greatest)
        self.before = np.where(agreement < 0, 0, gradient)
        return parameters - self.step * np.sign(self.before)
