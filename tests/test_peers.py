"""Against PyTorch, an implementation that nobody here wrote: activations, losses, gradients, and
whole trajectories of every optimiser.  Skipped where PyTorch is not installed."""

import numpy as np
import pytest

import downslope as ds
import numpy_reference as reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

functional = torch.nn.functional

ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    # functional.hardsigmoid's gradient has a sixth of float32 in float64 too
    "hard_sigmoid": lambda z: functional.relu6(z + 3) / 6,
    "tanh": torch.tanh,
    "hard_tanh": functional.hardtanh,
    "softsign": functional.softsign,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "softmax": lambda z: torch.softmax(z, dim=1),
    "log_softmax": lambda z: torch.log_softmax(z, dim=1),
}

# loss -> output activation and PyTorch's loss of the net input
LOSSES = {
    "mse": ("identity", functional.mse_loss),
    "binary_cross_entropy": ("sigmoid", functional.binary_cross_entropy_with_logits),
    "cross_entropy": ("softmax", functional.cross_entropy),
}


def gaussian_nll(z, t):
    mean, log_variance = z.chunk(2, dim=1)
    return functional.gaussian_nll_loss(mean, t, log_variance.exp(), eps=1e-30)


def log_cosh(z, t):
    return torch.log(torch.cosh(z - t)).mean()


def pinball(z, t):
    missing, levels = t - z, torch.tensor([0.2, 0.5, 0.5, 0.9], dtype=z.dtype)
    return torch.maximum(levels * missing, (levels - 1) * missing).mean()


def focal(z, t, gamma=1.5, alpha=0.4):
    """Lin et al. (2017), equation 5, as it stands."""
    p = torch.sigmoid(z)
    p_t, alpha_t = torch.where(t == 1, p, 1 - p), alpha * t + (1 - alpha) * (1 - t)
    return (-alpha_t * (1 - p_t) ** gamma * torch.log(p_t)).mean()


def softmax_focal(z, labels, gamma=2.0):
    """The same for classes that exclude each other, without alpha."""
    log_p = torch.log_softmax(z, dim=1).gather(1, labels[:, None])
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


# a loss's name and parameters -> output activation and the same in PyTorch
ALL_LOSSES = [(ds.Loss(name), output, theirs) for name, (output, theirs) in LOSSES.items()] + [
    (ds.Loss("mae"), "identity", functional.l1_loss),
    (ds.Loss("huber", delta=0.6), "identity", lambda z, t: functional.huber_loss(z, t, delta=0.6)),
    (ds.Loss("log_cosh"), "identity", log_cosh),
    (ds.Loss("quantile", levels=[0.2, 0.5, 0.5, 0.9]), "identity", pinball),
    (ds.Loss("poisson"), "identity", functional.poisson_nll_loss),
    (ds.Loss("gaussian_nll"), "identity", gaussian_nll),
    (ds.Loss("hinge"), "identity", lambda z, t: torch.relu(1 - t * z).mean()),
    (ds.Loss("binary_focal", gamma=1.5, alpha=0.4), "sigmoid", focal),
    (
        ds.Loss("cross_entropy", label_smoothing=0.1),
        "softmax",
        lambda z, t: functional.cross_entropy(z, t, label_smoothing=0.1),
    ),
    (ds.Loss("cross_entropy"), "log_softmax", functional.cross_entropy),
    (ds.Loss("focal"), "softmax", softmax_focal),
    (ds.Loss("focal"), "log_softmax", softmax_focal),
]


def weights_apart(parameters):
    """Biases, which have one axis, do not decay."""
    weights = [p for p in parameters if p.ndim == 2]
    biases = [p for p in parameters if p.ndim == 1]
    return [{"params": weights}, {"params": biases, "weight_decay": 0.0}]


# our optimiser and PyTorch's with the same hyper-parameters
OPTIMIZERS = {
    "sgd": (ds.SGD(0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": (
        ds.SGD(0.02, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    ),
    "nesterov": (
        ds.SGD(0.02, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    ),
    "adam": (ds.Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    "amsgrad": (
        ds.Adam(0.01, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    ),
    "adamw": (
        ds.AdamW(0.01, weight_decay=0.1),
        lambda p: torch.optim.AdamW(weights_apart(p), lr=0.01, weight_decay=0.1),
    ),
    "nadam": (
        ds.NAdam(0.01, momentum_decay=0.1),
        lambda p: torch.optim.NAdam(p, lr=0.01, momentum_decay=0.1),
    ),
    "radam": (ds.RAdam(0.01), lambda p: torch.optim.RAdam(p, lr=0.01)),
    "adagrad": (ds.Adagrad(0.05), lambda p: torch.optim.Adagrad(p, lr=0.05)),
    "rmsprop": (ds.RMSProp(0.001), lambda p: torch.optim.RMSprop(p, lr=0.001)),
    "rmsprop, centred, with momentum": (
        ds.RMSProp(0.001, momentum=0.5, centered=True, epsilon=1e-2),
        lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.5, centered=True, eps=1e-2),
    ),
    "adadelta": (ds.Adadelta(), lambda p: torch.optim.Adadelta(p)),
    "rprop": (ds.Rprop(), lambda p: torch.optim.Rprop(p)),
}


class Twin:
    """A network of ours in PyTorch's arithmetic, with copies of its parameters."""

    def __init__(self, net):
        self.layers = [
            (
                torch.tensor(layer.weights, requires_grad=True),
                torch.tensor(layer.bias, requires_grad=True),
                layer.activation.name,
            )
            for layer in net.layers
        ]

    @property
    def parameters(self):
        return [tensor for weights, bias, _ in self.layers for tensor in (weights, bias)]

    def flat(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.parameters])

    def flat_gradients(self):
        return np.concatenate([p.grad.numpy().ravel() for p in self.parameters])

    def net_input(self, x):
        """Of the last layer."""
        *hidden, (weights, bias, _) = self.layers
        for hidden_weights, hidden_bias, name in hidden:
            x = ACTIVATIONS[name](x @ hidden_weights + hidden_bias)
        return x @ weights + bias


def targets(loss, rng, rows, outputs):
    if loss in ("cross_entropy", "focal"):
        return rng.integers(0, outputs, rows)
    return reference.random_targets(rng, loss, rng.normal(size=(rows, outputs)))


@pytest.mark.parametrize(
    ("loss", "output", "their_loss"),
    ALL_LOSSES,
    ids=[f"{loss}-{output}" for loss, output, _ in ALL_LOSSES],
)
def test_losses(loss, output, their_loss, rng):
    net = ds.Network([5, 9, 4], activation="tanh", output=output, dtype="float64", seed=1)
    x, y = rng.normal(size=(23, 5)), targets(loss.name, rng, 23, 4)
    twin = Twin(net)
    expected = their_loss(twin.net_input(torch.tensor(x)), torch.tensor(y))
    expected.backward()
    value = ds.Trainer(net, loss).compute_gradients(x, y)
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(net.gradients, twin.flat_gradients(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("gamma", [0.7, 2.0])
def test_focal_loss_of_probabilities(gamma, rng):
    net = ds.Network([5, 9, 4], activation="tanh", output="softmax", dtype="float64", seed=1)
    x, y = rng.normal(size=(23, 5)), rng.dirichlet(np.ones(4), 23)
    twin = Twin(net)
    p = torch.softmax(twin.net_input(torch.tensor(x)), dim=1)
    expected = -(torch.tensor(y) * (1 - p) ** gamma * torch.log(p)).sum(dim=1).mean()
    expected.backward()
    value = ds.Trainer(net, ds.Loss("focal", gamma=gamma)).compute_gradients(x, y)
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(net.gradients, twin.flat_gradients(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_loss_and_gradients(activation, loss, rng):
    output, their_loss = LOSSES[loss]
    net = ds.Network([5, 9, 7, 3], activation=activation, output=output, dtype="float64", seed=1)
    for layer in net.layers:
        layer.bias[:] = rng.normal(size=layer.bias.size)
    x, y = rng.normal(size=(23, 5)), targets(loss, rng, 23, 3)
    twin = Twin(net)
    z = twin.net_input(torch.tensor(x))
    expected = their_loss(z, torch.tensor(y))
    expected.backward()

    value = ds.Trainer(net, loss).compute_gradients(x, y)

    np.testing.assert_allclose(net.predict(x), ACTIVATIONS[output](z).detach(), rtol=1e-12)
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(net.gradients, twin.flat_gradients(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_trajectories(loss, optimizer, rng):
    output, their_loss = LOSSES[loss]
    ours, make_theirs = OPTIMIZERS[optimizer]
    net = ds.Network([6, 17, 4], activation="tanh", output=output, dtype="float64", seed=2)
    twin = Twin(net)
    theirs = make_theirs(twin.parameters)
    trainer = ds.Trainer(net, loss, ours)
    for _ in range(200):
        x, y = rng.normal(size=(16, 6)), targets(loss, rng, 16, 4)
        theirs.zero_grad()
        expected = their_loss(twin.net_input(torch.tensor(x)), torch.tensor(y))
        expected.backward()
        theirs.step()
        assert trainer.step(x, y) == pytest.approx(expected.item(), rel=1e-9)
    np.testing.assert_allclose(net.parameters, twin.flat(), rtol=1e-8, atol=1e-10)
