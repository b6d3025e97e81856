"""PyTorch: networks as modules, and conversion both ways.

A module of `as_module` computes with downslope and takes part in PyTorch's automatic
differentiation; its one parameter is a tensor over the network's own memory, so that PyTorch's
optimisers and downslope's `Trainer` change the same numbers.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope._validate import as_finite, as_float_type
from downslope.activations import Activation
from downslope.layers import Dense
from downslope.network import Network
from downslope.passes import Pass

try:
    import torch
    from torch import nn
    from torch.autograd.function import once_differentiable
except ImportError as error:  # pragma: no cover
    raise ImportError("downslope.interop.torch needs PyTorch: install torch") from error

# The module of each activation, and the name of the attribute that is its parameter.
_MODULES: dict[str, tuple[type, str | None]] = {
    "identity": (nn.Identity, None),
    "sigmoid": (nn.Sigmoid, None),
    "hard_sigmoid": (nn.Hardsigmoid, None),
    "tanh": (nn.Tanh, None),
    "hard_tanh": (nn.Hardtanh, None),
    "softsign": (nn.Softsign, None),
    "relu": (nn.ReLU, None),
    "relu6": (nn.ReLU6, None),
    "leaky_relu": (nn.LeakyReLU, "negative_slope"),
    "elu": (nn.ELU, "alpha"),
    "selu": (nn.SELU, None),
    "celu": (nn.CELU, "alpha"),
    "gelu": (nn.GELU, None),
    "gelu_tanh": (nn.GELU, None),
    "silu": (nn.SiLU, None),
    "mish": (nn.Mish, None),
    "softplus": (nn.Softplus, None),
    "softmax": (nn.Softmax, None),
    "log_softmax": (nn.LogSoftmax, None),
}
# What the constructors of the others are given, and what a module given must have been.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "gelu": {"approximate": "none"},
    "gelu_tanh": {"approximate": "tanh"},
    "hard_tanh": {"min_val": -1.0, "max_val": 1.0},
    # PyTorch's is linear from a threshold on, as good as exact at 20 in float32
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "softmax": {"dim": -1},
    "log_softmax": {"dim": -1},
}


def as_module(network: Network) -> NetworkModule:
    """A PyTorch module that computes with a network, on its parameters.

    Parameters
    ----------
    network : Network

    Returns
    -------
    NetworkModule
        A `torch.nn.Module` from (..., inputs) to (..., outputs) on the CPU, with gradients by
        inputs and parameters (first derivatives only).

    Examples
    --------
    .. code-block:: python

        net = ds.Network([64, 32, 10], output="log_softmax", seed=0)
        module = downslope.interop.torch.as_module(net)
        optimizer = torch.optim.AdamW(module.parameters())
        torch.nn.functional.nll_loss(module(x), y).backward()
        optimizer.step()        # changes net.parameters
    """
    return NetworkModule(network)


class NetworkModule(nn.Module):  # type: ignore[misc]  # whose type mypy does not see
    """What `as_module` gives.

    Attributes
    ----------
    network : Network
    flat : torch.nn.Parameter (n,)
        ``network.parameters``, the same memory.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.flat = nn.Parameter(torch.from_numpy(network.parameters))

    def forward(self, x: Any) -> Any:
        """The outputs (..., outputs) for a tensor (..., inputs) of the network's type."""
        network = self.network
        if self.flat.data_ptr() != network.parameters.ctypes.data:
            raise RuntimeError(
                "the module's parameter was moved away from the network's memory (by .to(), "
                ".double() or load_state_dict(assign=True)); make another with as_module(network)"
            )
        if x.device.type != "cpu" or x.dtype != self.flat.dtype:
            raise TypeError(
                f"x must be a {self.flat.dtype} tensor on the CPU; got {x.dtype} on {x.device}"
            )
        rows = x.reshape(-1, network.inputs)
        if torch.is_grad_enabled():
            out = _Apply.apply(rows, self.flat, network)
        else:
            out = torch.from_numpy(network.predict(_numpy(rows)))
        return out.reshape(*x.shape[:-1], network.outputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> NetworkModule:
        other = memo[id(self)] = NetworkModule(copy.deepcopy(self.network, memo))
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    def __reduce__(self) -> tuple[Any, tuple[Network], dict[str, Any]]:
        return NetworkModule, (self.network,), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        """What a module has beside its network: mode, hooks, whether it is trained."""
        others = {k: v for k, v in vars(self).items() if k not in ("network", "_parameters")}
        return {**others, "requires_grad": self.flat.requires_grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.flat.requires_grad_(state.pop("requires_grad"))
        super().__setstate__(state)


class _Apply(torch.autograd.Function):  # type: ignore[misc]
    """The network as an operation of PyTorch's graph; each application keeps a pass of its own."""

    @staticmethod
    def forward(context: Any, x: Any, flat: Any, network: Network) -> Any:
        context.save_for_backward(flat)  # which lets PyTorch see whether it changes meanwhile
        context.inputs, context.own = network.inputs, Pass(network) if len(x) else None
        if context.own is None:
            return x.new_empty(0, network.outputs)
        return torch.from_numpy(context.own.forward(_numpy(x)))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, d_out: Any) -> tuple[Any, Any, None]:
        (flat,) = context.saved_tensors
        gradients = torch.zeros_like(flat) if context.needs_input_grad[1] else None
        if context.own is None:
            return d_out.new_empty(0, context.inputs), gradients, None
        d_x = context.own.backward(
            _numpy(d_out), None if gradients is None else gradients.detach().numpy()
        )
        return torch.from_numpy(d_x), gradients, None


def from_torch(module: Any) -> Network:
    """A network with the layers and (copied) parameters of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of `Linear` modules, each with at most one activation behind it.

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        If it has other modules, or an activation with settings that downslope does not have.
    """
    if not isinstance(module, nn.Sequential):
        raise TypeError(f"module must be a torch.nn.Sequential; got {type(module).__name__}")
    layers: list[tuple[Any, Activation]] = []
    open_layer = False  # one that has no activation yet
    for part in module:
        if type(part) is nn.Linear:
            layers.append((part, Activation("identity")))
            open_layer = True
        elif open_layer:
            layers[-1] = (layers[-1][0], _activation(part))
            open_layer = False
        else:
            raise ValueError(f"{part} must follow a Linear: a layer is a Linear and one activation")
    if not layers:
        raise ValueError("module has no Linear; a network needs at least one layer")
    dense = [
        Dense(
            linear.out_features,
            activation,
            weights=_numpy(linear.weight).T,
            use_bias=linear.bias is not None,
        )
        for linear, activation in layers
    ]
    dtype = as_float_type(_numpy(layers[0][0].weight).dtype)
    network = Network(layers[0][0].in_features, dense, dtype=dtype)
    for layer, (linear, _) in zip(network.layers, layers, strict=True):
        if layer.bias is not None:
            layer.bias[:] = as_finite("bias", _numpy(linear.bias)[None])[0]
    return network


def to_torch(network: Network) -> Any:
    """A PyTorch module with the layers and (copied) parameters of a network.

    Parameters
    ----------
    network : Network
        A bias that a layer's units share becomes one for each.

    Returns
    -------
    torch.nn.Sequential
    """
    modules = []
    for layer in network.layers:
        linear = nn.Linear(layer.inputs, layer.outputs, layer.bias is not None)
        linear = linear.to(torch.from_numpy(layer.weights).dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weights).T)
            if layer.bias is not None:
                linear.bias.copy_(torch.from_numpy(layer.bias))
        modules.append(linear)
        name = layer.activation.name
        if name != "identity":
            kind, parameter = _MODULES[name]
            arguments = dict(_ARGUMENTS.get(name, {}))
            if parameter is not None:
                arguments[parameter] = layer.activation.parameter
            modules.append(kind(**arguments))
    return nn.Sequential(*modules)


def _activation(module: Any) -> Activation:
    """The activation that a module stands for."""
    for name, (kind, parameter) in _MODULES.items():
        if type(module) is kind and _has_arguments(module, _ARGUMENTS.get(name, {})):
            return Activation(name, None if parameter is None else getattr(module, parameter))
    names = ", ".join(dict.fromkeys(kind.__name__ for kind, _ in _MODULES.values()))
    raise ValueError(
        f"{module} has no counterpart in downslope; it takes Linear and these, with PyTorch's "
        f"default settings where there is no parameter: {names}"
    )


def _has_arguments(module: Any, arguments: dict[str, Any]) -> bool:
    """Whether a module was made with these; of the two axes of a batch, 1 is the last one."""
    found = {name: getattr(module, name) for name in arguments}
    if found.get("dim") == 1:
        found["dim"] = -1
    if found.get("threshold", -math.inf) >= 20:
        found["threshold"] = 20.0
    return found == arguments


def _numpy(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu().resolve_neg().numpy())
