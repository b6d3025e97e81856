"""Networks as files in the safetensors format, and back.

The tensors are ``layers.<i>.weights`` (inputs, outputs) and ``layers.<i>.bias``.  The metadata are
the network's own and, as ``downslope``, a JSON description of the rest, `Network.architecture`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope._validate import as_float_type
from downslope.activations import Activation
from downslope.layers import TRAINING_OPTIONS, Dense
from downslope.network import Network

# Key of the description of the network in a file's metadata; a checkpoint's own begin with it and
# a point.
_ARCHITECTURE = "downslope"


def load(path: str | os.PathLike[str]) -> Network:
    """Read a network that `Network.save` wrote, or the one in a checkpoint.

    Parameters
    ----------
    path : path

    Returns
    -------
    Network
        Its `metadata` are those that were saved with it.

    Raises
    ------
    ValueError
        If the file is damaged or holds no network of this library.
    OSError
        If it can not be read.

    Examples
    --------
    >>> import downslope as ds, pathlib, tempfile
    >>> net = ds.Network([2, 3, 1], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(pathlib.Path(folder, "net.safetensors"))
    ...     again = ds.load(pathlib.Path(folder, "net.safetensors"))
    >>> bool((again.parameters == net.parameters).all())
    True
    """
    from downslope.checkpoints import network_part
    from downslope.interop.safetensors import read_tensors

    return from_file(path, *network_part(*read_tensors(path)))


def to_file(
    network: Network, metadata: dict[str, str]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and metadata of a network's file."""
    texts = {**network.metadata, **metadata}
    for key in texts:
        if str(key).split(".")[0] == _ARCHITECTURE:
            raise ValueError(
                f"metadata must not have the key {key!r}: {_ARCHITECTURE!r} and what begins with "
                f"{_ARCHITECTURE + '.'!r} are the file's own; choose another name"
            )
    names = _tensor_shapes(network.inputs, network._dense)
    return (
        dict(zip(names, network._views(), strict=True)),
        {**texts, _ARCHITECTURE: json.dumps(network.architecture())},
    )


def from_file(
    path: str | os.PathLike[str], tensors: dict[str, NDArray[Any]], metadata: dict[str, str]
) -> Network:
    """The network of a file's tensors and metadata."""
    text = metadata.pop(_ARCHITECTURE, None)
    if text is None:
        raise ValueError(
            f"{os.fspath(path)!r} holds tensors but no downslope network (its metadata lack the "
            f"key {_ARCHITECTURE!r}); give a file written by Network.save"
        )
    try:
        network = _from_architecture(json.loads(text), tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged: {error}") from error
    network.metadata = metadata
    return network


def _from_architecture(description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Network:
    """The network of a file.  Sizes are believed only where there are tensors of that size."""
    if description["format"] != 1:
        raise ValueError(
            f"format {description['format']!r} is newer than this version of downslope reads"
        )
    dense = [
        Dense(
            layer["units"],
            Activation(layer["activation"], layer["parameter"]),
            weights="zeros",
            use_bias=layer["use_bias"],
            shared_bias=layer["shared_bias"],
            **{name: layer.get(name, default) for name, default in TRAINING_OPTIONS.items()},
        )
        for layer in description["layers"]
    ]
    dtype = as_float_type(description["dtype"])
    shapes = _tensor_shapes(description["inputs"], dense)
    _check_tensors(tensors, dtype, shapes)
    network = Network(
        description["inputs"],
        dense,
        input_dropout=description.get("input_dropout", 0.0),
        input_noise=description.get("input_noise", 0.0),
        dtype=dtype,
        seed=description["seed"],
    )
    for name, view in zip(shapes, network._views(), strict=True):
        view[...] = tensors[name]
    return network


def _check_tensors(
    tensors: dict[str, NDArray[Any]], dtype: np.dtype[Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    expected = {name: (dtype, shape) for name, shape in shapes.items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        name = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise ValueError(
            f"tensor {name!r} should be {_tensor_text(expected.get(name))}, "
            f"is {_tensor_text(found.get(name))}"
        )


def _tensor_shapes(inputs: int, layers: Sequence[Dense]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, in the order of the parameters."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        shapes[f"layers.{index}.weights"] = (inputs, layer.units)
        if layer.use_bias:
            shapes[f"layers.{index}.bias"] = (layer.bias_count,)
        inputs = layer.units
    return shapes


def _tensor_text(tensor: tuple[np.dtype[Any], tuple[int, ...]] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} {tensor[1]}"
