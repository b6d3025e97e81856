"""JAX: networks as functions of its programs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope as ds
from fresh_python import output_of

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp

from downslope.interop.jax import as_function, from_pytree, to_pytree

LAYERS = [ds.Dense(5, "tanh"), ds.Dense(4, "gelu", use_bias=False), ds.Dense(2, "softmax")]


@pytest.fixture
def wide_types():
    """float64 in JAX, for this test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def network(dtype="float64"):
    return ds.Network(3, LAYERS, dtype=dtype, seed=0)


def twin(net, parameters, x):
    """The same function in JAX's own operations."""
    functions = [jnp.tanh, lambda z: jax.nn.gelu(z, approximate=False), jax.nn.softmax]
    for (weights, bias), function in zip(to_pytree(net, parameters), functions, strict=True):
        x = function(x @ weights + (0 if bias is None else bias))
    return x


def loss_of(function):
    """A scalar of several applications, one of them to outputs of another."""

    def loss(parameters, x):
        out = function(parameters, x)
        again = function(0.5 * parameters, jnp.concatenate([out, x[..., :1]], -1))
        return (out**2).sum() - jnp.log(again[..., 0]).mean()

    return loss


def assert_close(ours, theirs):
    for own, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert own.dtype == other.dtype
        assert_allclose(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
@pytest.mark.usefixtures("wide_types")
def test_values_and_gradients_are_those_of_jax(rng, shape):
    net = network()
    x, parameters = jnp.asarray(rng.normal(size=shape)), jnp.asarray(net.parameters)
    ours, theirs = (loss_of(f) for f in (as_function(net), lambda p, x: twin(net, p, x)))
    both = [
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(parameters, x) for loss in (ours, theirs)
    ]
    assert_close(*both)


@pytest.mark.usefixtures("wide_types")
def test_without_compiling(rng):
    net, x = network(), rng.normal(size=(6, 3))
    apply = as_function(net)
    assert_array_equal(apply(net.parameters, x), net.predict(x))
    assert apply(net.parameters, x[:0]).shape == (0, 2)
    d_out = rng.normal(size=(6, 2))
    _, back = jax.vjp(apply, net.parameters, x)
    one = ds.Pass(net)
    one.forward(x)
    gradients, d_x = back(jnp.asarray(d_out))
    assert_array_equal(d_x, one.backward(d_out, net.gradients))
    assert_array_equal(gradients, net.gradients)


@pytest.mark.parametrize("mapped", [(None, 0), (0, None)])
@pytest.mark.usefixtures("wide_types")
def test_mapped_over_rows_and_parameters(rng, mapped):
    net = network()
    n = net.parameters.size
    parameters = rng.normal(size=(4, n) if mapped[0] == 0 else n)
    x = rng.normal(size=(4, 5, 3) if mapped[1] == 0 else (5, 3))
    both = [
        jax.jit(jax.vmap(jax.value_and_grad(loss_of(f), argnums=(0, 1)), mapped))(parameters, x)
        for f in (as_function(net), lambda p, x: twin(net, p, x))
    ]
    assert_close(*both)


@pytest.mark.usefixtures("wide_types")
def test_jacobian_is_that_of_a_pass(rng):
    net, x = network(), rng.normal(size=(3, 3))
    apply = as_function(net)
    got = jax.vmap(jax.jacrev(lambda row: apply(net.parameters, row)))(jnp.asarray(x))
    one = ds.Pass(net)
    one.forward(x)
    assert_allclose(got, one.jacobian(), rtol=1e-12, atol=1e-15)


def test_descent_in_a_compiled_loop_of_jax(rng):
    """float32, and downslope's own steps beside."""
    net = network("float32")
    x = rng.normal(size=(20, 3)).astype(np.float32)
    y = rng.uniform(size=(20, 2)).astype(np.float32)
    apply = as_function(net)

    def step(_, parameters):
        return parameters - 0.1 * jax.grad(lambda p: ((apply(p, x) - y) ** 2).mean())(parameters)

    found = jax.jit(lambda p: jax.lax.fori_loop(0, 10, step, p))(jnp.asarray(net.parameters))
    net.fit(x, y, optimizer=ds.SGD(0.1), epochs=10, batch_size=None, shuffle=False)
    assert_allclose(found, net.parameters, rtol=1e-5, atol=1e-6)


def test_parameters_as_a_tree_and_back():
    net = ds.Network(2, [ds.Dense(3, shared_bias=True), ds.Dense(1, use_bias=False)], seed=0)
    net.parameters[:] = np.arange(net.parameters.size)
    tree = to_pytree(net)
    for (weights, bias), layer in zip(tree, net.layers, strict=True):
        assert_array_equal(weights, layer.weights)
        assert (bias is None) == (layer.bias is None)
    assert_array_equal(tree[0][1], [6.0])
    assert_array_equal(from_pytree(tree), net.parameters)
    net.parameters[:] = 0
    assert tree[0][0][0, 1] == 1  # a copy


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import jax, jax.numpy as jnp, numpy as np, downslope as ds
from downslope.interop.jax import as_function
net = ds.Network([200, 200, 1], seed=0)
apply, x = as_function(net), np.ones((500, 200), np.float32)
gradients = jax.jit(jax.grad(lambda p: apply(p, x).mean() + apply(-p, x).mean()))
print(gradients(jnp.asarray(net.parameters)).shape == net.parameters.shape)
"""


def test_large_arrays_on_one_core():
    """Where `jax.pure_callback` hangs."""
    assert output_of("-W", "default", "-c", ON_ONE_CORE) == "True"


def test_second_derivatives_are_refused():
    net = network("float32")
    apply = as_function(net)
    second = jax.grad(lambda x: jax.grad(lambda x: apply(net.parameters, x).sum())(x).sum())
    with pytest.raises(NotImplementedError, match="Differentiation rule for 'downslope'"):
        second(jnp.ones(3))


def test_unfit_arrays_are_refused():
    net = network("float32")
    apply = as_function(net)
    with pytest.raises(ValueError, match=r"x \(\.\.\., 3\); got \(\d+,\) and \(4,\)"):
        apply(net.parameters, jnp.ones(4))
    with pytest.raises(ValueError, match="parameters must have shape"):
        apply(net.parameters[:-1], jnp.ones(3))
    with pytest.raises(TypeError, match="the network's type, float32; got float32 and int32"):
        apply(net.parameters, jnp.ones(3, int))
