"""`downslope info`: this installation, or what a model file holds."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import downslope as ds
from downslope.cli.console import PREPROCESSING, show_rows, show_values


def run(arguments: Namespace) -> None:
    if arguments.model is None:
        show_values("downslope", {name: _plain(value) for name, value in ds.config().items()})
    else:
        _show_model(arguments.model)


def _show_model(path: Path) -> None:
    network = ds.load(path)
    show_values(
        str(path),
        {
            "inputs": network.inputs,
            "outputs": network.outputs,
            "parameters": f"{network.parameters.size:,}",
            "dtype": network.dtype,
            "seed": network.seed,
        },
    )
    show_rows("Layers", ("inputs", "outputs", "activation", "bias"), map(_layer, network.layers))
    if PREPROCESSING in network.metadata:
        _show_preprocessing(network, path)
    others = {name: text for name, text in network.metadata.items() if name != PREPROCESSING}
    if others:
        show_values("Metadata", others)


def _layer(layer: Any) -> tuple[object, ...]:
    activation = layer.activation.name
    if layer.activation.parameter is not None:
        activation += f" ({layer.activation.parameter:g})"
    bias = 0 if layer.bias is None else layer.bias.size
    return layer.inputs, layer.outputs, activation, bias


def _show_preprocessing(network: ds.Network, path: Path) -> None:
    """What `downslope train` learned of the table's columns."""
    # Takes pandas along, which the rest does without.
    from downslope.cli.predict import saved_preprocessor

    preprocessor = saved_preprocessor(network, path)
    show_values("Columns read", {column.name: column for column in preprocessor.columns})
    show_values("Target", {preprocessor.target.name: preprocessor.target})


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
