"""Checkpoints: a training under way as one file, and back.

A checkpoint is a model file (`Network.save`) with more in it, all in the safetensors format:

    tensors    those of the network; trainer.state (states, parameters);
               trainer.callbacks.<i>.<name>, the arrays of the callbacks that have a state
    metadata   those of the network; downslope.trainer, a JSON description of the rest: counters,
               the run under way, its history; downslope.sha256, the digest of everything else

Numbers survive to the bit: arrays as they are, and JSON writes a float so that it reads back the
same.  The random state is the network's seed and the counters, because every draw is a function of
these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope.interop.safetensors import read_tensors, write_tensors
from downslope.model_files import from_file, to_file
from downslope.network import Network

#: Of everything that a model file does not have.
_PREFIX = "trainer."
_STATE = "trainer.state"
_DESCRIPTION = "downslope.trainer"
_DIGEST = "downslope.sha256"
_FORMAT = 1

#: The name of a callback's class, and its state.
CallbackState = tuple[str, dict[str, Any]]


def write_checkpoint(
    path: str | os.PathLike[str],
    network: Network,
    state: NDArray[Any],
    description: Mapping[str, Any],
    callbacks: Sequence[CallbackState],
) -> None:
    """Write a checkpoint, atomically.

    `description` holds what JSON can hold; the states of the callbacks may hold arrays too.
    """
    tensors, texts = to_file(network, {})
    tensors[_STATE] = state
    numbers: list[CallbackState] = []
    for index, (callback, entries) in enumerate(callbacks):
        arrays = {name: a for name, a in entries.items() if isinstance(a, np.ndarray)}
        tensors |= {f"{_prefix(index)}{name}": array for name, array in arrays.items()}
        numbers.append((callback, {name: entries[name] for name in entries.keys() - arrays}))
    texts[_DESCRIPTION] = json.dumps({"format": _FORMAT, **description, "callbacks": numbers})
    texts[_DIGEST] = _digest(tensors, texts)
    write_tensors(path, tensors, texts)


def read_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[Network, NDArray[Any], dict[str, Any], list[CallbackState]]:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    ValueError
        If the file is damaged, was changed, or is no checkpoint.
    OSError
        If it can not be read.
    """
    try:
        tensors, texts = _read_whole(path)
    except ValueError as error:
        previous = previous_path(path)
        hint = f" The checkpoint before it is in {str(previous)!r}." if previous.exists() else ""
        raise ValueError(f"{error}{hint}") from None
    description = json.loads(texts[_DESCRIPTION])
    if description.pop("format") != _FORMAT:
        raise ValueError(f"{os.fspath(path)!r} was written by a newer version of downslope")
    callbacks = [
        (callback, numbers | _with_prefix(_prefix(index), tensors))
        for index, (callback, numbers) in enumerate(description.pop("callbacks"))
    ]
    state = tensors[_STATE]
    return from_file(path, *network_part(tensors, texts)), state, description, callbacks


def previous_path(path: str | os.PathLike[str]) -> Path:
    """Where `Checkpoint` keeps the checkpoint before the one in `path`."""
    path = Path(os.fsdecode(path))
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def _read_whole(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and metadata of a checkpoint that is as it was written."""
    tensors, texts = read_tensors(path)
    if _DESCRIPTION not in texts:
        raise ValueError(
            f"{os.fspath(path)!r} holds no training under way; give a file written by a Checkpoint "
            "or by Trainer.save (downslope.load reads networks)."
        )
    if texts.pop(_DIGEST, None) != _digest(tensors, texts):
        raise ValueError(
            f"{os.fspath(path)!r} is damaged or was changed: its contents do not have the "
            "SHA-256 digest that was written with them."
        )
    return tensors, texts


def network_part(
    tensors: Mapping[str, NDArray[Any]], texts: Mapping[str, str]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """What a model file would hold of a checkpoint's contents; all of a model file's own."""
    if _DESCRIPTION not in texts:
        return dict(tensors), dict(texts)
    return (
        {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)},
        {key: text for key, text in texts.items() if key not in (_DESCRIPTION, _DIGEST)},
    )


def _prefix(callback: int) -> str:
    return f"{_PREFIX}callbacks.{callback}."


def _with_prefix(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _digest(tensors: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> str:
    """Of all names, types, shapes, elements and texts."""
    import hashlib  # takes time to import

    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name, tensor in sorted(tensors.items()):
        little = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
        digest.update(json.dumps([name, little.dtype.str, little.shape]).encode())
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
