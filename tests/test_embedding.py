"""Inside larger programs: memory of the caller's, passes, derivatives, one row at a time."""

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import downslope as ds
from odd_arrays import read_only

SHAPE = {"widths": [3, 5, 2], "activation": "tanh", "output": "softmax"}
SIZE = 3 * 5 + 5 + 5 * 2 + 2


def network(seed=1, dtype="float64", **memory):
    return ds.Network(**SHAPE, dtype=dtype, seed=seed, **memory)


def data(rng, rows=12):
    return rng.normal(size=(rows, 3)), rng.integers(2, size=rows)


# ---- Memory ----


def numpy_slice(tmp_path):
    whole = np.zeros(SIZE + 7, np.float32)
    return whole[3 : 3 + SIZE], whole[3 : 3 + SIZE]


def memory_map(tmp_path):
    path = tmp_path / "parameters"
    path.write_bytes(bytes(4 * SIZE))
    memory = np.memmap(path, np.float32, "r+", shape=(SIZE,))
    return memory, np.memmap(path, np.float32, "r", shape=(SIZE,))


def buffer(tmp_path):
    pages = memoryview(mmap.mmap(-1, 4 * SIZE)).cast("f")
    return pages, np.asarray(pages)


def tensor(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    memory = torch.zeros(SIZE)
    return memory, memory.numpy()


@pytest.mark.parametrize("make", [numpy_slice, memory_map, buffer, tensor])
def test_training_in_memory_of_the_callers(rng, tmp_path, make):
    memory, seen = make(tmp_path)
    gradients, state = np.zeros(SIZE + 1, np.float32)[1:], np.zeros((2, 2 * SIZE), np.float32)
    first = network(dtype="float32")
    np.asarray(memory)[:] = first.parameters
    second = network(dtype="float32", parameters=memory, gradients=gradients)
    x, y = data(rng)
    results = []
    for net, more in ((first, {}), (second, {"state": state[:, :SIZE]})):
        trainer = ds.Trainer(net, "cross_entropy", ds.Adam(0.01), **more)
        trainer.fit(x, y, epochs=3, batch_size=5)
        trainer.compute_gradients(x, y)
        results.append((net.predict(x), trainer.state, net.gradients))
    for plain, placed in zip(*results, strict=True):
        assert_array_equal(plain, placed)
    assert_array_equal(seen, first.parameters)
    assert_array_equal(gradients, first.gradients)
    assert state[:, :SIZE].any(axis=1).all()
    assert not state[:, SIZE:].any()
    np.asarray(memory)[:] = 0  # seen at once
    assert_array_equal(second.predict(x), np.float32(0.5))


def test_parameters_are_taken_as_they_stand():
    memory = np.arange(SIZE, dtype=np.float64)
    assert_array_equal(network(parameters=memory).parameters, np.arange(SIZE))
    with pytest.raises(ValueError, match="finite"):
        network(parameters=np.full(SIZE, np.nan))


def test_copies_have_memory_of_their_own():
    import copy

    memory = np.ones(SIZE)
    other = copy.deepcopy(network(parameters=memory))
    other.parameters[:] = 2
    assert (memory == 1).all()


@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        (np.ones(SIZE + 1), ValueError, r"shape \(32,\)"),
        (np.ones(SIZE, np.float32), ValueError, "type float64"),
        (np.ones(SIZE).astype(">f8"), ValueError, "byte order"),
        (np.ones(2 * SIZE)[::2], ValueError, "contiguous"),
        (np.zeros(8 * SIZE + 1, np.int8)[1:].view(np.float64), ValueError, "aligned"),
        (read_only(np.ones(SIZE)), ValueError, "read-only"),
        ([1.0] * SIZE, TypeError, "buffer protocol or DLPack"),
    ],
)
def test_unfit_memory_is_refused(memory, error, message):
    for name in ("parameters", "gradients"):
        with pytest.raises(error, match=message):
            network(**{name: memory})


def test_memory_that_overlaps_is_refused():
    memory = np.ones(SIZE + 1)
    with pytest.raises(ValueError, match="overlap"):
        network(parameters=memory[1:], gradients=memory[:-1])
    net = network()
    two = np.ones((2, SIZE))
    with pytest.raises(ValueError, match="state and parameters overlap"):
        ds.Trainer(network(parameters=two[1]), optimizer="adam", state=two)
    with pytest.raises(ValueError, match="state and gradients overlap"):
        ds.Trainer(network(gradients=two[1]), optimizer="adam", state=two)
    x, one = np.ones((1, net.inputs)), ds.Pass(net)
    one.forward(x)
    with pytest.raises(ValueError, match="gradients and parameters overlap"):
        one.backward(np.ones((1, net.outputs)), net.parameters)
    with pytest.raises(ValueError, match="out and parameters overlap"):
        ds.Trainer(net).row_gradients(x, np.ones((1, net.outputs)), out=net.parameters[None])


def test_a_tensor_with_a_graph_is_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match="detach"):
        network(parameters=torch.zeros(SIZE, dtype=torch.float64, requires_grad=True))


def test_state_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"state must have shape \(2, 32\)"):
        ds.Trainer(network(), optimizer="adam", state=np.zeros((1, SIZE)))


# ---- Passes ----


def test_passes_alive_at_once_are_independent(rng):
    net = network()
    x1, x2, d = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    expected = []
    for x in (x1, x2):
        net.forward(x)
        expected.append((net.backward(d[: len(x)]), net.gradients.copy()))
    first, second = ds.Pass(net), ds.Pass(net)
    assert_array_equal(first.forward(x1), net.predict(x1))
    second.forward(x2)
    own = np.zeros(SIZE)
    assert_array_equal(second.backward(d, own), expected[1][0])
    assert_array_equal(own, expected[1][1])
    assert_array_equal(first.backward(d[:4]), expected[0][0])  # inputs only
    assert_array_equal(own, expected[1][1])
    first.backward(d[:4], own, accumulate=True)
    assert_allclose(own, expected[0][1] + expected[1][1], rtol=1e-12, atol=1e-15)


def test_a_pass_needs_a_forward_and_its_rows():
    one = ds.Pass(network())
    for method in (one.jacobian, lambda: one.backward([[1.0, 1.0]])):
        with pytest.raises(RuntimeError, match="forward"):
            method()
    one.forward([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="the 1 rows"):
        one.backward(np.ones((2, 2)))
    with pytest.raises(ValueError, match="gradients must have shape"):
        one.backward(np.ones((1, 2)), np.zeros((2, SIZE)))


def torch_twin(net):
    """The network as a function of flat parameters and one row, in PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def apply(parameters, x):
        w1, b1, w2, b2 = torch.split(parameters, [15, 5, 10, 2])
        hidden = torch.tanh(x @ w1.reshape(3, 5) + b1)
        return torch.softmax(hidden @ w2.reshape(5, 2) + b2, -1)

    return torch, apply, torch.tensor(net.parameters)


def test_jacobian_against_pytorch(rng):
    net = network()
    torch, apply, parameters = torch_twin(net)
    x = rng.normal(size=(7, 3))
    one = ds.Pass(net)
    one.forward(x)
    expected = torch.func.vmap(torch.func.jacrev(lambda row: apply(parameters, row)))(
        torch.tensor(x)
    )
    assert_allclose(one.jacobian(), expected.numpy(), rtol=1e-12, atol=1e-15)


def test_row_gradients_against_pytorch(rng):
    net = network()
    torch, apply, parameters = torch_twin(net)
    x, y = data(rng)
    weight = rng.uniform(0.5, 2, size=len(x))

    def loss(p, row, label, factor):
        return -factor * torch.log(apply(p, row)[label : label + 1]).sum()

    expected = torch.stack(
        [
            torch.func.grad(loss)(parameters, torch.tensor(row), label, factor)
            for row, label, factor in zip(x, y, weight, strict=True)
        ]
    )
    trainer = ds.Trainer(net, "cross_entropy")
    got = trainer.row_gradients(x, y, sample_weight=weight)
    assert_allclose(got, expected.numpy(), rtol=1e-11, atol=1e-14)
    trainer.compute_gradients(x, y, sample_weight=weight)
    assert_allclose(got.mean(axis=0), net.gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shared_bias", [False, True])
def test_row_gradients_of_many_rows_are_those_of_single_rows(rng, shared_bias):
    net = ds.Network([4, 3, 1], activation="gelu", shared_bias=shared_bias, seed=0)
    trainer = ds.Trainer(net, "mse")
    x, y = rng.normal(size=(5000, 4)), rng.normal(size=(5000, 1))
    out = np.empty((len(x), net.parameters.size), np.float32)
    assert trainer.row_gradients(x, y, out=out) is out
    for row in (0, 4095, 4096, 4999):
        trainer.compute_gradients(x[row : row + 1], y[row : row + 1])
        assert_array_equal(out[row], net.gradients)


def test_row_gradients_of_a_loss_that_is_not_finite():
    net = ds.Network([1, 1], weights=[[[1e30]]])
    with pytest.raises(FloatingPointError):
        ds.Trainer(net).row_gradients([[1e30]], [[0.0]])


def test_layers_that_are_not_trained_have_no_gradients(rng):
    net = ds.Network(3, [ds.Dense(4, "tanh", trainable=False), ds.Dense(1)], seed=0)
    frozen = 3 * 4 + 4
    got = np.full((5, net.parameters.size), np.nan, np.float32)
    ds.Trainer(net).row_gradients(rng.normal(size=(5, 3)), np.ones((5, 1)), out=got)
    assert not got[:, :frozen].any()
    assert got[:, frozen:].all()


# ---- One row at a time ----


def test_learn_one_and_predict_one_are_step_and_predict(rng):
    x, y = data(rng)
    first, second = network(), network()
    one, batch = (ds.Trainer(net, "cross_entropy", ds.Adam(0.01)) for net in (first, second))
    for row, label in zip(x, y, strict=True):
        assert one.learn_one(row, label) == batch.step(row[None], [label])
        assert_array_equal(first.predict_one(row), second.predict(row[None])[0])
    assert_array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "value", [0.3, np.float32(0.3), np.float16(0.3), 2, np.int64(-2), True, 2**60 + 2**36 + 1, 1e20]
)
def test_a_target_that_is_a_number_is_one_in_an_array(rng, dtype, value):
    x, y = rng.normal(size=(1, 3)).astype(dtype), np.array([[value]]).astype(dtype)
    one, batch = (
        ds.Trainer(ds.Network([3, 4, 1], dtype=dtype, seed=0), "mae", ds.SGD(1e-3))
        for _ in range(2)
    )
    assert one.learn_one(x[0], value) == batch.step(x, y)
    assert_array_equal(one.network.parameters, batch.network.parameters)


@pytest.mark.parametrize(
    ("loss", "outputs", "value", "error", "message"),
    [
        ("mse", 1, float("nan"), ValueError, "must be finite"),
        ("mse", 1, 1e39, ValueError, "must be finite"),
        ("mse", 1, 10**400, TypeError, "must hold real numbers"),
        ("mse", 2, 1.0, ValueError, r"must have shape \(rows, 2\)"),
        ("cross_entropy", 2, 2, ValueError, "must lie in 0 .. 1"),
        ("cross_entropy", 2, -1, ValueError, "must lie in 0 .. 1"),
        ("cross_entropy", 2, 1.0, TypeError, "must be integers"),
        ("cross_entropy", 2, np.float32(1), TypeError, "must be integers"),
    ],
)
def test_a_target_that_is_no_fit_is_refused(loss, outputs, value, error, message):
    output = "softmax" if loss == "cross_entropy" else "identity"
    net = ds.Network([3, outputs], output=output, seed=0)
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        ds.Trainer(net, loss).learn_one(np.ones(3, "float32"), value)
    assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("labels", [[0, 2, 1, 2], [0, 2, 3, 1], [0, -1, 1, 2]])
def test_labels_are_checked_and_taken_alike_in_every_type(rng, labels):
    x = rng.normal(size=(4, 3)).astype("float32")
    results = []
    for kind in ("int64", "int32", ">i8"):
        net = ds.Network([3, 3], output="softmax", seed=0)
        y = np.array(labels, kind)
        if min(labels) < 0 or max(labels) > 2:
            with pytest.raises(ValueError, match=r"must lie in 0 .. 2"):
                ds.Trainer(net, "cross_entropy").step(x, y)
        else:
            results.append(ds.Trainer(net, "cross_entropy").step(x, y))
        results.append(net.parameters.tolist())
    half = len(results) // 3
    assert results[:half] == results[half : 2 * half] == results[2 * half :]


def test_a_row_of_any_layout_is_predicted_alike(rng):
    net = ds.Network([3, 4, 2], seed=0)
    row = rng.normal(size=3).astype("float32")
    apart = np.repeat(row, 2)[::2]
    unaligned = np.frombuffer(b" " + row.tobytes(), "float32", offset=1)
    for same in (row, apart, unaligned, row.astype(">f4"), row.tolist(), np.float64(row)):
        assert_array_equal(net.predict_one(same), net.predict(row[None])[0])


def test_learn_one_takes_a_number_or_a_row_as_target():
    net = ds.Network([2, 1], weights="zeros")
    trainer = ds.Trainer(net, "half_squared_error", ds.SGD(0.1))
    assert trainer.learn_one([1.0, 2.0], 3.0) == 4.5
    assert ds.Trainer(ds.Network([2, 2], weights="zeros"), "mse").learn_one([1, 2], [1, 1]) == 1
    with pytest.raises(ValueError, match="one row"):
        trainer.learn_one([[1.0, 2.0]], 3.0)
    with pytest.raises(ValueError, match="one row"):
        net.predict_one([1.0])


# ---- The documentation ----


def test_the_snippets_of_the_page_run():
    page = Path(__file__).parents[1].joinpath("docs/embedding.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert snippets
    exec("\n".join(snippets), {})
