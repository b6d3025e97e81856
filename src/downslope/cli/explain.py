"""`downslope explain`: one step of training, number by number, as text or as a page.

The page is one file without references to others: the template explain.html, with the numbers of
every epoch put in as JSON.
"""

from __future__ import annotations

import copy
import json
from argparse import Namespace
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import downslope as ds
from downslope.explanation import Explanation

# The worked example: a 2-2-2 network, sigmoid everywhere, one bias for each layer.
INPUT, TARGET = (0.95, 0.06), (0.05, 0.82)

# The slider of a page has at most so many positions.
_POSITIONS = 200
_DATA = "/*data*/null"


def worked_example() -> ds.Network:
    """The network of the worked example, in float64."""
    w1, w2, w3, w4, w5, w6, w7, w8 = 0.10, 0.15, 0.03, 0.08, 0.18, 0.06, 0.11, 0.26
    return ds.Network(
        2,
        [
            ds.Dense(2, "sigmoid", weights=[[w1, w3], [w2, w4]], bias=0.05, shared_bias=True),
            ds.Dense(2, "sigmoid", weights=[[w5, w7], [w6, w8]], bias=0.42, shared_bias=True),
        ],
        dtype="float64",
    )


def run(arguments: Namespace) -> None:
    network, x, target = _subject(arguments)
    options: dict[str, Any] = {
        "loss": arguments.loss or _usual_loss(network),
        "optimizer": ds.SGD(arguments.learning_rate),
        "symbols": arguments.symbols,
        "digits": arguments.digits,
    }
    if arguments.html is None:
        print(ds.explain(network, x, target, **options))
        return
    page = make_page(network, x, target, epochs=arguments.epochs, **options)
    arguments.html.write_text(page, encoding="utf-8")
    print(f"page: {arguments.html}")


def _subject(arguments: Namespace) -> tuple[ds.Network, Sequence[float], Sequence[float]]:
    """The network, the row and its target."""
    if arguments.weights is None:
        return worked_example(), arguments.input or INPUT, arguments.target or TARGET
    if arguments.input is None or arguments.target is None:
        raise ValueError("--weights needs --input and --target: numbers separated by commas")
    return ds.load(arguments.weights), arguments.input, arguments.target


def _usual_loss(network: ds.Network) -> str:
    """The loss that goes with softmax, or the one of the worked example."""
    last = network.layers[-1].activation.name
    return "cross_entropy" if last == "softmax" else "half_squared_error"


# ---- The page ----


def make_page(
    network: ds.Network,
    x: Sequence[float],
    target: Sequence[float],
    *,
    epochs: int,
    loss: str,
    optimizer: ds.Optimizer,
    symbols: str | None,
    digits: int,
) -> str:
    """A page on a training run with this one row; a copy of the network is trained.

    Raises
    ------
    ValueError
        If the network is too large for every number to be shown.
    """
    trained = copy.deepcopy(network)
    first = ds.explain(
        trained, x, target, loss=loss, optimizer=optimizer, symbols=symbols, digits=digits
    )
    if not first.full:
        raise ValueError(
            f"a page has room for 100 parameters; this network has {network.parameters.size}. "
            "Leave out --html for a summary"
        )
    trainer = ds.Trainer(trained, loss, optimizer)
    row, wanted = first.layers[0].inputs.reshape(1, -1), first.target.reshape(1, -1)
    stride = -(-epochs // _POSITIONS)
    names = list(_values(first))
    positions = []
    for epoch in range(0, epochs + 1, stride):
        now = ds.explain(trained, x, target, loss=loss, optimizer=optimizer, symbols=first.symbols)
        values = _values(now)
        positions.append({"epoch": epoch, "values": [values[name] for name in names]})
        for _ in range(min(stride, epochs - epoch)):
            trainer.step(row, wanted)
    data = {**_structure(first), "names": names, "positions": positions, "digits": digits}
    template = files("downslope.cli").joinpath("explain.html").read_text(encoding="utf-8")
    return template.replace(_DATA, json.dumps(data, allow_nan=False).replace("</", "<\\/"))


def _values(explanation: Explanation) -> dict[str, float]:
    """Every number on the page, by its name."""
    values: dict[str, float] = {}
    for section in explanation.sections():
        for line in section.lines:
            values.update((name, float(value)) for name, value in line.terms)
            values[line.name] = float(line.value)
    values.update(explanation.to_dict()["targets"])
    return values


def _structure(explanation: Explanation) -> dict[str, Any]:
    """What is the same at every epoch: the diagram, and the lines without their numbers."""
    layers = explanation.layers
    widths = [layers[0].inputs.size, *(layer.output.size for layer in layers)]
    numbers = explanation.to_dict()
    return {
        "columns": [
            [explanation.unit_name(column, unit) for unit in range(width)]
            for column, width in enumerate(widths)
        ],
        "weights": list(numbers["weights"]),
        "biases": list(numbers["biases"]),
        "biasCounts": [0 if layer.bias is None else layer.bias.size for layer in layers],
        "targets": list(numbers["targets"]),
        "errors": list(numbers["errors"]),
        "sections": [
            {
                "title": section.title,
                "lines": [
                    [line.name, line.formula, [name for name, _ in line.terms]]
                    for line in section.lines
                ],
            }
            for section in explanation.sections()
        ],
    }
