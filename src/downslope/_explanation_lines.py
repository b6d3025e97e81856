"""The lines of arithmetic that an `Explanation` is written in, and the names of its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from downslope._working import Line, Section, Term
from downslope.losses import Loss

if TYPE_CHECKING:
    from downslope.explanation import Explanation

# What is written for the activations and losses whose formulas are short.  y is the output, z the
# net input, t the target, n the number of outputs.
_ACTIVATION_SLOPES = {
    "identity": "1",
    "sigmoid": "{y} * (1 - {y})",
    "tanh": "1 - {y}^2",
}
# Of a row as a whole, where {} is the sum of the exponentials.
_ROWWISE = {"softmax": "exp({{}}) / ({})", "log_softmax": "{{}} - log({})"}
_ERRORS = {
    "half_squared_error": "0.5 * ({t} - {y})^2",
    "mse": "({t} - {y})^2 / n",
    "binary_cross_entropy": "-({t} * log({y}) + (1 - {t}) * log(1 - {y})) / n",
    "cross_entropy": "-{t} * log({y})",
}
_ERROR_SLOPES = {"half_squared_error": "{y} - {t}", "mse": "2 * ({y} - {t}) / n"}
# Losses that are taken together with the last activation: the error by the net input.
_DELTAS = {"binary_cross_entropy": "({y} - {t}) / n", "cross_entropy": "{y} - {t}"}


class Writer:
    """Writes the numbers of an explanation, by their names."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.layers = explanation.layers
        self.numbered = explanation.symbols == "numbered"
        self.last = len(self.layers) - 1
        # How many there are in the layers before, for their numbers.
        self._weights = _before(layer.weights for layer in self.layers)
        self._units = _before(layer.output for layer in self.layers)
        self._biases = _before(layer.bias for layer in self.layers)

    # Names.  Layers, units and weights count from 0 here and from 1 in the names.

    def input(self, layer: int, i: int) -> str:
        if layer > 0:
            return self.unit(layer - 1, i)
        return f"x{i + 1}" if self.numbered else f"x[{i + 1}]"

    def unit(self, layer: int, j: int) -> str:
        if not self.numbered:
            return f"a{layer + 1}[{j + 1}]"
        return f"y{j + 1}" if layer == self.last else f"h{self._units[layer] + j + 1}"

    def weight(self, layer: int, i: int, j: int) -> str:
        if not self.numbered:
            return f"W{layer + 1}[{i + 1},{j + 1}]"
        inputs = self.layers[layer].inputs.size
        return f"w{self._weights[layer] + j * inputs + i + 1}"

    def bias(self, layer: int, j: int) -> str:
        if self.numbered:
            return f"b{self._biases[layer] + j + 1}"
        return f"b{layer + 1}" + ("" if self.layers[layer].shared_bias else f"[{j + 1}]")

    def at_output(self, letter: str, k: int) -> str:
        """A target or an error."""
        return f"{letter}{k + 1}" if self.numbered else f"{letter}[{k + 1}]"

    def title(self, layer: int) -> str:
        if layer == self.last:
            return "output layer"
        return "hidden layer" + (f" {layer + 1}" if self.last > 1 else "")

    # Everything.

    def full(self) -> Iterator[Section]:
        for layer in range(len(self.layers)):
            yield Section(f"Forward, {self.title(layer)}", list(self.forward(layer)))
        yield Section(f"Error: {self.explanation.loss.name}", list(self.errors()))
        for layer in reversed(range(len(self.layers))):
            yield Section(f"Backward, {self.title(layer)}", list(self.backward(layer)))
        yield Section(f"Update: {self.explanation.optimizer}", list(self.update()))

    def forward(self, layer: int) -> Iterator[Line]:
        here = self.layers[layer]
        for j, z in enumerate(here.net_input):
            unit = self.unit(layer, j)
            terms: list[Term] = []
            for i, value in enumerate(here.inputs):
                terms += [(self.weight(layer, i, j), here.weights[i, j])]
                terms += [(self.input(layer, i), value)]
            formula = " + ".join(["{} * {}"] * here.inputs.size)
            if here.bias is not None:
                k = 0 if here.shared_bias else j
                terms.append((self.bias(layer, k), here.bias[k]))
                formula += " + {}"
            yield Line(f"net_{unit}", z, formula, terms)
        names = [f"net_{self.unit(layer, j)}" for j in range(here.output.size)]
        for j, y in enumerate(here.output):
            terms = [(names[j], here.net_input[j])]
            formula = f"{here.activation.name}({{}})"
            if here.activation.name in _ROWWISE:
                exponentials = " + ".join(["exp({})"] * len(names))
                formula = _ROWWISE[here.activation.name].format(exponentials)
                terms += list(zip(names, here.net_input, strict=True))
            yield Line(self.unit(layer, j), y, formula, terms)

    def errors(self) -> Iterator[Line]:
        explanation = self.explanation
        if explanation.errors is None:
            yield Line("E", explanation.error)
            return
        names = [self.at_output("E", k) for k in range(explanation.errors.size)]
        formula = self._formula(_ERRORS)
        for k, (name, error) in enumerate(zip(names, explanation.errors, strict=True)):
            yield self._of_output(name, error, formula, k)
        parts = list(zip(names, explanation.errors, strict=True))
        yield Line("E", explanation.error, " + ".join(["{}"] * len(parts)), parts)

    def backward(self, layer: int) -> Iterator[Line]:
        here = self.layers[layer]
        for j in range(here.output.size):
            if here.d_output is not None:
                yield self._d_output(layer, j, here.d_output[j])
            if here.derivative is not None:
                yield self._derivative(layer, j, here.derivative[j])
            yield self._delta(layer, j)
        for j in range(here.output.size):
            for i in range(here.inputs.size):
                yield self._d_weight(layer, i, j)
        if here.bias is not None and here.d_bias is not None:
            deltas = [(f"delta_{self.unit(layer, j)}", delta) for j, delta in enumerate(here.delta)]
            for k, gradient in enumerate(here.d_bias):
                terms = deltas if here.shared_bias else [deltas[k]]
                formula = " + ".join(["{}"] * len(terms))
                yield Line(f"dE/d{self.bias(layer, k)}", gradient, formula, terms)

    def _formula(self, formulas: dict[str, str]) -> str:
        """What is written for the loss, which the formulas are for as it is by default."""
        loss = self.explanation.loss
        if loss != Loss(loss.name) or self.layers[-1].activation.name == "log_softmax":
            return ""
        return formulas.get(loss.name, "")

    def _of_output(self, name: str, value: float, formula: str, k: int) -> Line:
        """A line of a formula in the output and the target of output k."""
        known = {
            "y": (self.unit(self.last, k), self.layers[-1].output[k]),
            "t": (self.at_output("t", k), self.explanation.target[k]),
        }
        return _with_terms(
            name, value, formula.replace("n", str(self.layers[-1].output.size)), known
        )

    def _d_output(self, layer: int, j: int, value: float) -> Line:
        """Error by output: by the loss, or the sum over the paths through the next layer."""
        name = f"dE/d{self.unit(layer, j)}"
        if layer == self.last:
            formula = self._formula(_ERROR_SLOPES)
            return self._of_output(name, value, formula, j)
        following = self.layers[layer + 1]
        terms: list[Term] = []
        for k, delta in enumerate(following.delta):
            terms.append((f"delta_{self.unit(layer + 1, k)}", delta))
            terms.append((self.weight(layer + 1, j, k), following.weights[j, k]))
        return Line(name, value, " + ".join(["{} * {}"] * following.delta.size), terms)

    def _slope_name(self, layer: int, j: int) -> str:
        unit = self.unit(layer, j)
        return f"d{unit}/dnet_{unit}"

    def _derivative(self, layer: int, j: int, value: float) -> Line:
        here = self.layers[layer]
        known = {
            "y": (self.unit(layer, j), here.output[j]),
            "z": (f"net_{self.unit(layer, j)}", here.net_input[j]),
        }
        name = here.activation.name
        formula = _ACTIVATION_SLOPES.get(name, f"{name}'({{z}})")
        return _with_terms(self._slope_name(layer, j), value, formula, known)

    def _factors(self, layer: int, j: int) -> list[Term]:
        """Of the delta of a unit, where it is a product."""
        here = self.layers[layer]
        if here.d_output is None or here.derivative is None:
            return []
        return [
            (f"dE/d{self.unit(layer, j)}", here.d_output[j]),
            (self._slope_name(layer, j), here.derivative[j]),
        ]

    def _delta(self, layer: int, j: int) -> Line:
        here, name = self.layers[layer], f"delta_{self.unit(layer, j)}"
        if factors := self._factors(layer, j):
            return Line(name, here.delta[j], "{} * {}", factors)
        formula = self._formula(_DELTAS) if here.d_output is None else ""
        return self._of_output(name, here.delta[j], formula, j)

    def _d_weight(self, layer: int, i: int, j: int) -> Line:
        here, weight, unit = self.layers[layer], self.weight(layer, i, j), self.unit(layer, j)
        factors = self._factors(layer, j) or [(f"delta_{unit}", here.delta[j])]
        factors.append((f"dnet_{unit}/d{weight}", here.inputs[i]))
        formula = " * ".join(["{}"] * len(factors))
        return Line(f"dE/d{weight}", here.d_weights[i, j], formula, factors)

    def update(self) -> Iterator[Line]:
        rate, parameters = self.explanation.learning_rate, list(self.parameters())
        rounding = 4 * float(np.finfo(self.layers[0].weights.dtype).eps)
        # Whether the step is the learning rate times the gradient, as in plain gradient descent.
        is_plain = all(
            abs(old - rate * gradient - new) <= rounding * max(abs(old), abs(new))
            for _, old, gradient, new in parameters
        )
        for name, old, gradient, new in parameters:
            step = old - new
            if is_plain:
                terms = [("rate", rate), (f"dE/d{name}", gradient)]
                step = rate * gradient
                yield Line(f"step_{name}", step, "{} * {}", terms)
            else:
                yield Line(f"step_{name}", step)
            yield Line(f"new_{name}", new, "{} - {}", [(name, old), (f"step_{name}", step)])

    def parameters(self) -> Iterator[tuple[str, float, float, float]]:
        """Name, value, gradient and new value of each."""
        for layer, here in enumerate(self.layers):
            for j in range(here.output.size):
                for i in range(here.inputs.size):
                    yield (
                        self.weight(layer, i, j),
                        float(here.weights[i, j]),
                        float(here.d_weights[i, j]),
                        float(here.new_weights[i, j]),
                    )
            if here.bias is not None and here.d_bias is not None and here.new_bias is not None:
                for k in range(here.bias.size):
                    yield (
                        self.bias(layer, k),
                        float(here.bias[k]),
                        float(here.d_bias[k]),
                        float(here.new_bias[k]),
                    )

    # A network too large for everything.

    def summary(self) -> Iterator[Section]:
        for layer, here in enumerate(self.layers):
            shape = f"{here.inputs.size} -> {here.output.size}, {here.activation.name}"
            lines = [*_spread("net", here.net_input), *_spread("a", here.output)]
            yield Section(f"Forward, {self.title(layer)} ({shape})", lines)
        yield Section(f"Error: {self.explanation.loss.name}", [Line("E", self.explanation.error)])
        for layer in reversed(range(len(self.layers))):
            here = self.layers[layer]
            lines = [*_spread("delta", here.delta), *_spread("dE/dW", here.d_weights)]
            lines.append(
                Line("largest change of W", float(np.abs(here.new_weights - here.weights).max()))
            )
            yield Section(f"Backward, {self.title(layer)}", lines)

    # By symbol.

    def dictionary(self) -> dict[str, Any]:
        explanation = self.explanation
        outputs = range(explanation.target.size)
        parameters = {
            name: {"value": old, "gradient": gradient, "step": old - new, "new_value": new}
            for name, old, gradient, new in self.parameters()
        }
        errors = [] if explanation.errors is None else explanation.errors.tolist()
        return {
            "inputs": {self.input(0, i): float(x) for i, x in enumerate(self.layers[0].inputs)},
            "targets": {self.at_output("t", k): float(explanation.target[k]) for k in outputs},
            "units": {
                self.unit(layer, j): self._unit_numbers(layer, j)
                for layer, here in enumerate(self.layers)
                for j in range(here.output.size)
            },
            "weights": {name: v for name, v in parameters.items() if name[0] in "wW"},
            "biases": {name: v for name, v in parameters.items() if name[0] == "b"},
            "errors": {self.at_output("E", k): error for k, error in enumerate(errors)},
            "error": explanation.error,
        }

    def _unit_numbers(self, layer: int, j: int) -> dict[str, float | None]:
        here = self.layers[layer]
        return {
            "net_input": float(here.net_input[j]),
            "output": float(here.output[j]),
            "error_by_output": None if here.d_output is None else float(here.d_output[j]),
            "output_by_net_input": None if here.derivative is None else float(here.derivative[j]),
            "delta": float(here.delta[j]),
        }


def _before(arrays: Iterable[NDArray[Any] | None]) -> list[int]:
    """For each array, how many elements the ones before it have."""
    return list(accumulate((0 if a is None else a.size for a in arrays), initial=0))


def _with_terms(name: str, value: float, formula: str, known: dict[str, Term]) -> Line:
    """A line from a formula that names its terms, as in "{y} - {t}"."""
    pieces = formula.split("{")
    letters = [piece[0] for piece in pieces[1:]]
    blank = "{".join([pieces[0], *(piece[1:] for piece in pieces[1:])])
    return Line(name, value, blank, [known[letter] for letter in letters])


def _spread(name: str, values: NDArray[Any]) -> list[Line]:
    return [
        Line(f"{what} of {name}", float(value))
        for what, value in (
            ("least", values.min()),
            ("mean", values.mean(dtype=np.float64)),
            ("greatest", values.max()),
        )
    ]
