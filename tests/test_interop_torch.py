"""PyTorch: networks as modules of its graph, and conversion both ways."""

import copy
import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope as ds

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn

from downslope.activations import ACTIVATIONS
from downslope.interop.torch import as_module, from_torch, to_torch


def network(**arguments):
    return ds.Network(
        **({"widths": [3, 5, 2], "activation": "tanh", "dtype": "float64", "seed": 0} | arguments)
    )


def test_gradcheck(rng):
    module = as_module(network(output="softmax"))
    x = torch.tensor(rng.normal(size=(4, 3)), requires_grad=True)
    # the network reads its own memory, which the parameter is
    assert torch.autograd.gradcheck(lambda x, _: module(x), (x, module.flat))


def test_the_module_is_the_network_and_shares_its_memory(rng):
    net = network()
    module = as_module(net)
    x = rng.normal(size=(2, 4, 3))
    out = module(torch.tensor(x))
    assert out.shape == (2, 4, 2)
    assert_array_equal(out.detach().numpy().reshape(8, 2), net.predict(x.reshape(8, 3)))
    with torch.no_grad():
        assert_array_equal(module(torch.tensor(x)).numpy(), out.detach().numpy())
    net.parameters[:] = 0
    assert not module.flat.detach().numpy().any()
    assert [p.shape for p in module.parameters()] == [(net.parameters.size,)]


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.Adam])
def test_training_by_pytorch_is_that_of_its_own_module(rng, cls):
    net = network()
    twin = to_torch(net)
    module = as_module(net)
    ours, theirs = cls(module.parameters(), lr=0.05), cls(twin.parameters(), lr=0.05)
    x, y = torch.tensor(rng.normal(size=(16, 3))), torch.tensor(rng.normal(size=(16, 2)))
    for _ in range(10):
        for apply, optimizer in ((module, ours), (twin, theirs)):
            optimizer.zero_grad()
            # two passes alive at once, and a third that is used twice
            out = apply(x)
            (((apply(x[:8]) - y[:8]) ** 2).sum() + ((out - y) ** 2).mean() + out.sum()).backward()
            optimizer.step()
    assert_allclose(net.parameters, from_torch(twin).parameters, rtol=1e-9, atol=1e-12)


def test_a_parameter_that_changed_before_backward_is_found():
    module = as_module(network())
    out = module(torch.ones(1, 3, dtype=torch.float64)).sum()
    with torch.no_grad():
        module.flat += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_second_derivatives_are_refused():
    module = as_module(network())
    x = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        first.sum().backward()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_share_memory_with_their_own_network(duplicate):
    module = as_module(network())
    other = duplicate(module)
    other.network.parameters[:] = 1
    assert (other.flat == 1).all()
    assert not (module.flat == 1).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_as_frozen_and_in_the_same_mode(duplicate):
    module = as_module(network()).requires_grad_(False).eval()
    module.register_forward_hook(double)
    other = duplicate(module)
    assert (other.flat.requires_grad, other.training) == (False, False)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert (other(x) == module(x)).all()


def double(module, arguments, output):
    return 2 * output


@pytest.mark.parametrize("grad", [True, False])
def test_no_rows(grad):
    module = as_module(network())
    x = torch.ones(0, 3, dtype=torch.float64, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        y = module(x)
    assert y.shape == (0, 2)
    if grad:
        y.sum().backward()
        assert x.grad.shape == x.shape
        assert not module.flat.grad.any()


def test_tensors_that_stand_for_their_negative(rng):
    z = torch.from_numpy(rng.normal(size=(4, 3)) + 1j * rng.normal(size=(4, 3)))
    module = as_module(network())
    assert (module(z.conj().imag) == module(-z.imag)).all()


def test_a_bias_that_is_not_finite_is_refused():
    linear = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(linear.bias, math.inf)
    with pytest.raises(ValueError, match="bias must be finite"):
        from_torch(torch.nn.Sequential(linear))


def test_unfit_tensors_and_moved_parameters_are_refused():
    module = as_module(network())
    with pytest.raises(TypeError, match=r"torch.float64 tensor on the CPU; got torch.float32"):
        module(torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="as_module"):
        module.float()(torch.ones(1, 3))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("use_bias", [True, False])
def test_there_and_back(rng, activation, use_bias):
    net = network(activation=activation, output=activation, use_bias=use_bias)
    x = rng.normal(size=(20, 3)) * 3
    module = to_torch(net)
    with torch.no_grad():
        assert_allclose(module(torch.tensor(x)).numpy(), net.predict(x), rtol=1e-8, atol=1e-9)
    again = from_torch(module)
    assert_array_equal(again.parameters, net.parameters)
    assert_array_equal(again.predict(x), net.predict(x))


def test_shared_bias_and_float32(rng):
    net = network(shared_bias=True, dtype="float32")
    x = rng.normal(size=(5, 3)).astype(np.float32)
    with torch.no_grad():
        assert_allclose(to_torch(net)(torch.tensor(x)).numpy(), net.predict(x), rtol=1e-5)
    assert from_torch(to_torch(net)).dtype == np.float32


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Linear(2, 1), TypeError, "Sequential"),
        (nn.Sequential(), ValueError, "no Linear"),
        (nn.Sequential(nn.ReLU()), ValueError, "must follow a Linear"),
        (nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Tanh()), ValueError, "must follow"),
        (nn.Sequential(nn.Linear(2, 1), nn.Dropout()), ValueError, "no counterpart"),
        (nn.Sequential(nn.Linear(2, 1), nn.Softplus(beta=2)), ValueError, "no counterpart"),
        (nn.Sequential(nn.Linear(2, 1).half()), ValueError, "dtype"),
    ],
)
def test_modules_without_a_counterpart_are_refused(module, error, message):
    with pytest.raises(error, match=message):
        from_torch(module)
