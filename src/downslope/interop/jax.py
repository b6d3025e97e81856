"""JAX: networks as differentiable functions of their parameters and inputs.

A function of `as_function` computes with downslope, by a callback from JAX's program, and takes
part in `jax.grad`, `jax.jit` and `jax.vmap`.  It keeps nothing between calls: the parameters come
in as an array, and going back computes the forward pass again, a third more than what a step takes.

The callback is a primitive of its own.  `jax.pure_callback` would hand over arrays that JAX is
still copying with its threads; these may all be waiting in such callbacks, and then it hangs: on
one core always, once arrays are beyond 100 kB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import _engine, _threads
from downslope.network import Network

try:
    import jax
    import jax.numpy as jnp
    from jax.extend.core import Primitive
    from jax.flatten_util import ravel_pytree
    from jax.interpreters import batching, mlir
except ImportError as error:  # pragma: no cover
    raise ImportError(
        'downslope.interop.jax needs JAX: python -m pip install "downslope[jax]"'
    ) from error


def as_function(network: Network) -> Callable[[Any, Any], Any]:
    """A function of JAX's that computes what a network computes.

    Parameters
    ----------
    network : Network
        Its layers and type are used, not its parameters: these are an argument of the function.

    Returns
    -------
    function
        ``apply(parameters, x)`` from the parameters (n,), in the order of ``network.parameters``,
        and inputs (..., inputs) to outputs (..., outputs), all of the network's type (float64 needs
        ``jax_enable_x64``).  It has first derivatives by both in reverse mode; numbers that are not
        finite pass through.

    Examples
    --------
    .. code-block:: python

        net = ds.Network([64, 32, 10], output="log_softmax", seed=0)
        apply = downslope.interop.jax.as_function(net)

        @jax.jit
        def loss(parameters, x, y):
            return -apply(parameters, x)[jnp.arange(len(y)), y].mean()

        parameters = jnp.asarray(net.parameters)
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        net.parameters[:] = parameters - 0.1 * gradients
    """
    inner = _Callbacks(network)

    def apply(parameters: Any, x: Any) -> Any:
        parameters, x = jnp.asarray(parameters), jnp.asarray(x)
        if parameters.shape != network.parameters.shape or x.shape[-1:] != (network.inputs,):
            raise ValueError(
                f"parameters must have shape {network.parameters.shape} and x (..., "
                f"{network.inputs}); got {parameters.shape} and {x.shape}"
            )
        if parameters.dtype != network.dtype or x.dtype != network.dtype:
            raise TypeError(
                f"parameters and x must be of the network's type, {network.dtype}; got "
                f"{parameters.dtype} and {x.dtype}"
            )
        return _apply(inner, parameters, x)

    return apply


def to_pytree(network: Network, parameters: Any = None) -> list[tuple[Any, Any]]:
    """The parameters layer by layer, as JAX's users keep them.

    Parameters
    ----------
    network : Network
    parameters : jax.Array (n,), optional
        Flat parameters to take apart; a copy of ``network.parameters`` if not given.

    Returns
    -------
    list of (weights, bias)
        For each layer an array (inputs, outputs), and one (outputs,), (1,) where the units share a
        bias, or None where there is none.
    """
    flat = jnp.asarray(network.parameters if parameters is None else parameters)
    tree, begin = [], 0
    for layer in network.layers:
        middle = begin + layer.weights.size
        end = middle + (0 if layer.bias is None else layer.bias.size)
        weights = flat[begin:middle].reshape(layer.inputs, layer.outputs)
        tree.append((weights, None if layer.bias is None else flat[middle:end]))
        begin = end
    return tree


def from_pytree(tree: Sequence[tuple[Any, Any]]) -> Any:
    """The flat parameters that `as_function` takes, from those layer by layer.

    Parameters
    ----------
    tree : list of (weights, bias)
        As from `to_pytree`.

    Returns
    -------
    jax.Array (n,)
    """
    return ravel_pytree(list(tree))[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(inner: _Callbacks, parameters: Any, x: Any) -> Any:
    outputs = (*x.shape[:-1], inner.plan.outputs)
    return _call.bind(parameters, x, callback=inner.forward, shapes=(outputs,))[0]


def _forward(inner: _Callbacks, parameters: Any, x: Any) -> tuple[Any, tuple[Any, Any]]:
    return _apply(inner, parameters, x), (parameters, x)


def _backward(inner: _Callbacks, kept: tuple[Any, Any], d_out: Any) -> Any:
    shapes = tuple(array.shape for array in kept)
    return tuple(_call.bind(*kept, d_out, callback=inner.backward, shapes=shapes))


_apply.defvjp(_forward, _backward)


# ---- The primitive: callback(*arrays) -> arrays of these shapes, all of one type ----

_call = Primitive("downslope")
_call.multiple_results = True


def _results(*arrays: Any, callback: Any, shapes: Any) -> list[Any]:
    return [jax.core.ShapedArray(shape, arrays[0].dtype) for shape in shapes]


_call.def_abstract_eval(_results)


@partial(jax.jit, static_argnames=("callback", "shapes"))
def _compiled(*arrays: Any, callback: Any, shapes: Any) -> Any:
    return _call.bind(*arrays, callback=callback, shapes=shapes)


_call.def_impl(_compiled)


def _lowered(context: Any, *arrays: Any, callback: Any, shapes: Any) -> Any:
    results, *_ = mlir.emit_python_callback(
        context,
        callback,
        None,
        list(arrays),
        context.avals_in,
        context.avals_out,
        has_side_effect=False,
    )
    return results


mlir.register_lowering(_call, _lowered)


def _mapped(arrays: Any, axes: Any, *, callback: Any, shapes: Any) -> tuple[list[Any], list[int]]:
    """Over a further axis, which comes to the front; of length 1 in arrays that do not have it."""
    length = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    moved = [
        jnp.expand_dims(array, 0) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    shapes = tuple((length, *shape) for shape in shapes)
    return _call.bind(*moved, callback=callback, shapes=shapes), [0] * len(shapes)


batching.primitive_batchers[_call] = _mapped


class _Callbacks:
    """What JAX's program calls, on any of its threads.  The arrays may have further axes in front,
    all as many, over which `jax.vmap` maps; of length 1 where it does not map this array."""

    def __init__(self, network: Network) -> None:
        self.plan = network._engine_plan
        self._idle: list[_engine.Workspace] = []

    def forward(self, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """From parameters (n,) and x (..., inputs) to the outputs (..., outputs)."""
        mapped, (parameters, x) = _broadcast(arrays)
        out = np.empty((*x.shape[:-1], self.plan.outputs), x.dtype)
        for at in np.ndindex(mapped):
            self._pass(parameters[at], x[at], out[at])
        return [out]

    def backward(self, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """From these and d_out (..., outputs) to the gradients by parameters and x."""
        mapped, (parameters, x, d_out) = _broadcast(arrays)
        gradients, d_x = np.zeros(parameters.shape, x.dtype), np.empty(x.shape, x.dtype)
        out = np.empty(d_out.shape[len(mapped) :], x.dtype)
        for at in np.ndindex(mapped):
            self._pass(parameters[at], x[at], out, d_out[at], gradients[at], d_x[at])
        return [gradients, d_x]

    def _pass(
        self, parameters: NDArray[Any], x: NDArray[Any], out: NDArray[Any], *back: NDArray[Any]
    ) -> None:
        """One forward pass, and with (d_out, gradients, d_x) the way back."""
        plan, threads = self.plan, _threads.resolve(None)
        x, out = x.reshape(-1, plan.inputs), out.reshape(-1, plan.outputs)
        if len(x) == 0:
            return
        workspace = self._take_workspace(len(x))
        _engine.forward(plan, parameters, x, out, workspace, threads)
        if back:
            d_out, gradients, d_x = back
            d_out, d_x = d_out.reshape(out.shape), d_x.reshape(x.shape)
            _engine.backward(plan, parameters, d_out, gradients, d_x, workspace, threads, False)
        self._idle.append(workspace)

    def _take_workspace(self, rows: int) -> _engine.Workspace:
        """An idle one, or another."""
        workspace = self._idle.pop() if self._idle else None
        if workspace is None or workspace.rows < rows:
            workspace = _engine.Workspace(self.plan, rows, True)
        return workspace


def _broadcast(arrays: Sequence[NDArray[Any]]) -> tuple[tuple[int, ...], list[NDArray[Any]]]:
    """The lengths of the mapped axes, and the arrays with these in front; the first has one other
    axis."""
    axes = arrays[0].ndim - 1
    mapped = np.broadcast_shapes(*(array.shape[:axes] for array in arrays))
    return mapped, [np.broadcast_to(array, mapped + array.shape[axes:]) for array in arrays]
