"""Back-propagation: against differences of the library's own loss, and against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

import downslope as ds
import numpy_reference as reference
from downslope.losses import LOSSES

# The most that an element may differ from the oracle's, relative to the largest one of its array
# or to 0.1: where all are small, they are what is left of larger numbers.
TOLERANCES = {"float64": 1e-12, "float32": 2e-5}

HIDDEN = sorted(reference.DERIVATIVES)
OUTPUTS = sorted(reference.ACTIVATIONS)
# Every loss with every activation of the last layer that it goes with; every loss once.
LOSS_AND_OUTPUT = [
    (loss, output) for loss in reference.LOSSES for output in (LOSSES[loss].outputs or OUTPUTS)
]
LOSS_AND_ONE_OUTPUT = [(loss, (*LOSSES[loss].outputs, "identity")[0]) for loss in reference.LOSSES]
LOSSES_WITH_PARAMETERS = [
    ds.Loss("huber", delta=0.5),
    ds.Loss("quantile", levels=0.8),
    ds.Loss("quantile", levels=[0.1, 0.9]),
    ds.Loss("binary_focal", gamma=0.0, alpha=0.6),
    ds.Loss("binary_focal", gamma=0.7),
    ds.Loss("cross_entropy", label_smoothing=0.2),
    ds.Loss("focal", gamma=0.0),
    ds.Loss("focal", gamma=0.5),
]


def make_network(rng, widths, hidden, output, dtype="float64", **options):
    """A network with random weights and, unlike a new one's, random biases."""
    network = ds.Network(widths, activation=hidden, output=output, dtype=dtype, seed=0, **options)
    network.parameters[:] = rng.normal(scale=0.7, size=network.parameters.size)
    return network


def make_rows(rng, network, rows):
    return reference.rows_clear_of_kinks(rng, reference.Network.copy_of(network), rows)


def make_data(rng, network, loss, rows):
    x = make_rows(rng, network, rows)
    y = reference.Network.copy_of(network).predict(x)
    return x, reference.random_targets(rng, loss, y)


def assert_near(actual, expected, tolerance):
    scale = max(np.abs(expected).max(), 0.1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def assert_gradient_is_right(network, x, y, loss, sample_weight=None):
    """By differences, and in both float types by the oracle."""
    assert ds.check_gradients(network, x, y, loss=loss, sample_weight=sample_weight).passed
    for dtype, tolerance in TOLERANCES.items():
        own = as_type(network, dtype)
        trainer = ds.Trainer(own, loss=loss)
        mean_loss = trainer.compute_gradients(x, y, sample_weight=sample_weight)
        oracle = reference.Network.copy_of(as_type(own, "float64"))
        expected = oracle.gradient(x, y, loss, sample_weight)
        assert_near(own.gradients, expected, tolerance)
        assert mean_loss == pytest.approx(oracle.loss(x, y, loss, sample_weight), rel=tolerance)
        assert own.evaluate(x, y, loss=loss, sample_weight=sample_weight) == mean_loss


def as_type(network, dtype):
    """The same network with parameters of another type."""
    layers = [
        ds.Dense(
            layer.outputs,
            layer.activation,
            weights=layer.weights,
            bias=0.0 if layer.bias is None else layer.bias,
            use_bias=layer.bias is not None,
            shared_bias=layer.bias is not None and layer.bias.size < layer.outputs,
        )
        for layer in network.layers
    ]
    return ds.Network(network.inputs, layers, dtype=dtype)


@pytest.mark.parametrize(("loss", "output"), LOSS_AND_OUTPUT)
def test_every_loss_with_every_output(rng, loss, output):
    network = make_network(rng, [3, 5, 2], "tanh", output)
    assert_gradient_is_right(network, *make_data(rng, network, loss, 4), loss)


@pytest.mark.parametrize(("loss", "output"), LOSS_AND_ONE_OUTPUT)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_loss_with_every_activation(rng, hidden, loss, output):
    network = make_network(rng, [3, 5, 2], hidden, output)
    assert_gradient_is_right(network, *make_data(rng, network, loss, 4), loss)


@pytest.mark.parametrize("loss", LOSSES_WITH_PARAMETERS, ids=repr)
def test_parameters_of_losses(rng, loss):
    network = make_network(rng, [3, 5, 2], "softplus", (*loss.kind.outputs, "identity")[0])
    assert_gradient_is_right(network, *make_data(rng, network, loss.name, 6), loss)


def test_quantiles_of_one_target(rng):
    """A single column of targets stands for every level's."""
    network, loss = make_network(rng, [3, 5, 2], "tanh", "identity"), LOSSES_WITH_PARAMETERS[2]
    x = make_rows(rng, network, 5)
    y = network.predict(x).max(axis=1) + 1
    assert_gradient_is_right(network, x, y, loss)
    both = np.repeat(y[:, np.newaxis], 2, axis=1)
    assert network.evaluate(x, y, loss=loss) == network.evaluate(x, both, loss=loss)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation_below_another(rng, hidden):
    """The derivative as it is met on the way through two hidden layers, by many rows."""
    network = make_network(rng, [4, 7, 6, 3], hidden, "identity")
    assert_gradient_is_right(network, *make_data(rng, network, "mse", 19), "mse")


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "celu"])
@pytest.mark.parametrize("parameter", [0.2, 1.7])
def test_parameters_of_activations(rng, name, parameter):
    activation = ds.Activation(name, parameter)
    network = make_network(rng, [3, 6, 2], activation, activation)
    assert_gradient_is_right(network, *make_data(rng, network, "mse", 5), "mse")


@pytest.mark.parametrize("widths", [[1, 1], [1, 1, 1], [2, 17, 1], [33, 16, 9], [5, 4, 3, 2, 3]])
@pytest.mark.parametrize("rows", [1, 2, 13])
def test_shapes(rng, widths, rows):
    network = make_network(rng, widths, "tanh", "identity")
    assert_gradient_is_right(network, *make_data(rng, network, "mse", rows), "mse")


@pytest.mark.parametrize("options", [{"shared_bias": True}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize(("loss", "output"), LOSS_AND_ONE_OUTPUT)
def test_kinds_of_bias_with_sample_weights(rng, options, loss, output):
    network = make_network(rng, [3, 5, 4], "gelu", output, **options)
    x, y = make_data(rng, network, loss, 6)
    weight = np.array([0.0, 0.5, 1.0, 1.0, 2.0, 3.0])
    assert_gradient_is_right(network, x, y, loss, weight)


@pytest.mark.parametrize("label_type", ["int64", "int32", "uint8"])
@pytest.mark.parametrize(
    "loss",
    [
        ds.Loss("cross_entropy"),
        ds.Loss("cross_entropy", label_smoothing=0.1),
        ds.Loss("focal"),
        ds.Loss("focal", gamma=0.5),
    ],
    ids=str,
)
def test_labels(rng, label_type, loss):
    network = make_network(rng, [3, 5, 4], "silu", "softmax")
    x, labels = make_rows(rng, network, 9), rng.integers(0, 4, 9).astype(label_type)
    assert_gradient_is_right(network, x, labels, loss)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_backward_from_any_gradient_of_the_outputs(rng, output, dtype):
    """`backward` alone: gradients of parameters, summed over the rows, and of the inputs."""
    network = make_network(rng, [4, 6, 3], "softplus", output, dtype)
    x, d_outputs = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    outputs = network.forward(x)
    d_x = network.backward(d_outputs)
    oracle = reference.Network.copy_of(as_type(network, "float64"))
    zs, ys = oracle.forward(x)
    expected, expected_d_x = oracle.backward_from_outputs(zs, ys, d_outputs)
    tolerance = TOLERANCES[dtype]
    assert_near(outputs, ys[-1], tolerance)
    assert_near(network.gradients, expected, tolerance)
    assert_near(d_x, expected_d_x, tolerance)


def test_backward_can_add_up_batches(rng):
    network = make_network(rng, [3, 4, 2], "tanh", "identity")
    x, d_outputs = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    network.forward(x)
    network.backward(d_outputs)
    whole = network.gradients.copy()
    network.gradients[:] = 0
    for rows in (slice(0, 2), slice(2, 6)):
        network.forward(x[rows])
        network.backward(d_outputs[rows], accumulate=True)
    assert_near(network.gradients, whole, 1e-14)


def test_a_wrong_gradient_does_not_pass(rng):
    """The check itself: at the kink of relu, back-propagation and differences disagree."""
    network = ds.Network([1, 1], output="relu", weights="zeros")
    report = ds.check_gradients(network, [[1.0]], [[1.0]])
    assert not report.passed
    assert report.max_error > 0.1


def test_the_check_changes_nothing(rng):
    network = make_network(rng, [3, 4, 2], "relu", "softmax", "float32")
    x, y = make_data(rng, network, "cross_entropy", 5)
    before = network.parameters.copy()
    network.gradients[:] = 7
    ds.check_gradients(network, x, y, loss="cross_entropy")
    np.testing.assert_array_equal(network.parameters, before)
    assert (network.gradients == 7).all()
