"""What users train on: other libraries' tables, memory maps, batches, weights, orders."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

import downslope as ds
from downslope import _kernels, _plan
from downslope._sampling import Order

SEED = 3


def make_net(**options):
    return ds.Network([4, 8, 3], output="softmax", seed=SEED, **options)


def make_data(rng, rows=60):
    return rng.normal(size=(rows, 4)).astype("float32"), rng.integers(0, 3, rows)


def trained(x, y, *, trainer_loss="cross_entropy", **options):
    net = make_net()
    net.fit(x, y, loss=trainer_loss, optimizer="adam", epochs=2, **options)
    return net.parameters.copy()


def as_taken(x, y):
    """The arrays that training works on."""
    net = make_net()
    return net.dataset(x, y, net.checked_loss("cross_entropy"), None).arrays


# ---- Rows from all over ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shuffled_batch_has_the_rows_as_they_are(rng, dtype):
    """Widths of inputs and targets from one number on, of rows that do not follow each other."""
    order = np.empty(11, np.int64)
    _kernels.random_permutation(SEED, _plan.STREAM_ORDER, order)
    assert (order != np.arange(11)).any()
    for width in [*range(1, 42), 63, 64, 65, 130]:
        x, y = (rng.normal(size=(11, width + 3)).astype(dtype)[:, 1:-2] for _ in "xy")
        shuffled, permuted = (ds.Network([width, width], dtype=dtype, seed=SEED) for _ in "ab")
        shuffled.fit(x, y, batch_size=None)
        permuted.fit(x[order], y[order], batch_size=None, shuffle=False)
        np.testing.assert_array_equal(shuffled.parameters, permuted.parameters)


# ---- Other libraries' tables ----


def to_pandas(x, y):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(x, copy=False), pandas.Series(y, copy=False)


def to_torch(x, y):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(x), torch.from_numpy(y)


def to_polars(x, y):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(x), polars.Series(y)


def to_arrow(x, y):
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({str(j): x[:, j] for j in range(x.shape[1])}), arrow.array(y)


@pytest.mark.parametrize("convert", [to_pandas, to_torch, to_polars, to_arrow])
def test_tables_of_other_libraries(rng, convert):
    x, y = make_data(rng)
    np.testing.assert_array_equal(trained(*convert(x, y)), trained(x, y))


@pytest.mark.parametrize("convert", [to_pandas, to_torch])
def test_row_major_tables_are_not_copied(rng, convert):
    x, y = make_data(rng)
    taken, labels, _ = as_taken(*convert(x, y))
    assert np.shares_memory(taken, x)
    assert np.shares_memory(labels, y)


def test_columns_are_not_copied_where_they_are_labels(rng):
    polars = pytest.importorskip("polars")
    x, y = make_data(rng)
    series = polars.Series(y)
    assert np.shares_memory(as_taken(x, series)[1], series.to_numpy())


def test_pandas_columns_of_several_types(rng):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "flag": [True, False, True],
            "count": pandas.array([1, 2, 3], dtype="Int64"),
            "small": np.array([1, 2, 3], "int8"),
            "size": [0.5, 1.5, 2.5],
        }
    )
    labels = pandas.Series(pandas.array([0, 2, 1], dtype="Int64"))
    taken, codes, _ = as_taken(frame, labels)
    np.testing.assert_array_equal(taken, [[1, 1, 1, 0.5], [0, 2, 2, 1.5], [1, 3, 3, 2.5]])
    np.testing.assert_array_equal(codes, [0, 2, 1])


def test_missing_values_are_refused_by_their_row(rng):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({str(j): pandas.array([1, None], dtype="Int64") for j in range(4)})
    with pytest.raises(ValueError, match=r"X must be finite.*row 1"):
        as_taken(frame, [0, 1])
    with pytest.raises(TypeError, match="X must hold real numbers"):
        as_taken(pandas.DataFrame({str(j): ["a", "b"] for j in range(4)}), [0, 1])


def test_dates_and_text_are_no_numbers():
    """pandas would make nanoseconds of dates, and numbers of digits."""
    pd = pytest.importorskip("pandas")
    net = ds.Network([2, 1], seed=0)
    odd = {
        "Timestamp": pd.date_range("2020-01-01", periods=3),
        "Timedelta": pd.to_timedelta([1, 2, 3], unit="D"),
        "'1'": ["1", "2", "3"],
    }
    for found, column in odd.items():
        with pytest.raises(TypeError, match=f"X must hold real numbers; got .*, such as {found}"):
            net.predict(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": column}))


def test_class_labels_that_are_missing_or_text(rng):
    pd = pytest.importorskip("pandas")
    x, y = make_data(rng)
    for missing in (pd.Series(y).where(y > 0), pd.Series(y, dtype="Int64").where(y > 0)):
        row = int(np.flatnonzero(y == 0)[0])
        with pytest.raises(ValueError, match=f"row {row} of y has no class label"):
            make_net().fit(x, missing, loss="cross_entropy")
    with pytest.raises(TypeError, match=r"class labels with numpy.unique\(y, return_inverse"):
        make_net().fit(x, np.array(["a", "b", "c"])[y], loss="cross_entropy")


def test_class_labels_for_another_loss(rng):
    with pytest.raises(ValueError, match="class labels go with loss='cross_entropy'"):
        make_net().fit(*make_data(rng))


def test_a_tensor_with_a_gradient_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"X can not be read as a NumPy array.*detach"):
        as_taken(torch.ones((2, 4), requires_grad=True), [0, 1])


# ---- Files larger than memory ----


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"validation_split": 0.01}], ids=str)
def test_a_memory_map_is_not_copied(rng, tmp_path, options):
    rows = 200_000
    x = np.memmap(tmp_path / "x", "float32", "w+", shape=(rows, 64))
    y = np.memmap(tmp_path / "y", "int64", "w+", shape=rows)
    x[::1000] = 1
    net = ds.Network([64, 2], output="softmax", seed=1)
    trainer = ds.Trainer(net, "cross_entropy", ds.SGD(0.01))
    tracemalloc.start()
    try:
        trainer.fit(x, y, batch_size=1000, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # three orders of the rows, each 8 of their 256 bytes, and the workspace
    assert peak < x.nbytes / 6


# ---- Batches ----


class Batches:
    """The rows as they lie, again in each epoch."""

    def __init__(self, *arrays, size=7):
        self.arrays, self.size = arrays, size

    def __iter__(self):
        for first in range(0, len(self.arrays[0]), self.size):
            yield tuple(array[first : first + self.size] for array in self.arrays)


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_are_the_steps_of_an_unshuffled_run(rng, weighted):
    x, y = make_data(rng)
    weight = rng.uniform(size=len(x)).astype("float32")
    whole, parts = make_net(), make_net()
    options = {"loss": "cross_entropy", "optimizer": "adam", "epochs": 3}
    options["validation_data"] = (x, y)
    expected = whole.fit(
        x, y, sample_weight=weight if weighted else None, batch_size=7, shuffle=False, **options
    )
    history = parts.fit(Batches(x, y, weight) if weighted else Batches(x, y), **options)
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-14)
    assert history.val_loss == expected.val_loss


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_accumulate(rng, weighted):
    """Each step takes so many of them, as from rows at hand; the last one what is left."""
    x, y = make_data(rng)
    weight = rng.uniform(size=len(x)).astype("float32")
    whole, parts = make_net(), make_net()
    optimizer = ds.Adam(0.01, gradient_accumulation_steps=4)
    options = {"loss": "cross_entropy", "optimizer": optimizer, "epochs": 3}
    expected = whole.fit(
        x, y, sample_weight=weight if weighted else None, batch_size=7, shuffle=False, **options
    )
    history = parts.fit(Batches(x, y, weight) if weighted else Batches(x, y), **options)
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-14)


def test_accumulated_batches_with_and_without_weights(rng):
    x, y = make_data(rng)
    whole, parts = make_net(), make_net()
    options = {"loss": "cross_entropy", "optimizer": ds.SGD(0.1, gradient_accumulation_steps=2)}
    weight = np.concatenate([np.full(5, 2.0), np.ones(5)])
    parts.fit([(x[:5], y[:5], weight[:5]), (x[5:10], y[5:10])], **options)
    whole.fit([(x[:10], y[:10], weight)], **options)
    np.testing.assert_array_equal(parts.parameters, whole.parameters)


def test_accumulated_batches_are_of_one_kind(rng):
    x, y = make_data(rng)
    net = make_net()
    before = net.parameters.copy()
    batches = [(x[:5], y[:5]), (x[5:9], np.eye(3)[y[5:9]])]
    optimizer = ds.SGD(0.1, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match=r"targets of one kind, .*got shapes \(5,\) and \(4, 3\)"):
        net.fit(batches, loss="cross_entropy", optimizer=optimizer)
    np.testing.assert_array_equal(net.parameters, before)
    net.fit(batches, loss="cross_entropy")  # each of them a step


def test_a_generator_is_good_for_one_epoch(rng):
    x, y = make_data(rng)
    net = make_net()
    assert net.fit(iter(Batches(x, y)), loss="cross_entropy").epochs == 1
    with pytest.raises(ValueError, match="once, not 2 times"):
        net.fit(iter(Batches(x, y)), loss="cross_entropy", epochs=2)


def test_a_resumed_run_of_batches(rng, tmp_path):
    x, y = make_data(rng)
    path = tmp_path / "run.safetensors"

    class Killed(Exception):
        pass

    class Kill(ds.Callback):
        def on_batch_end(self, trainer, batch, logs):
            if trainer.steps == 13:
                trainer.network.exclusive.__exit__(None, None, None)
                trainer.save(path)
                trainer.network.exclusive.__enter__()
                raise Killed

    whole, first, second = (ds.Trainer(make_net(), "cross_entropy", "adam") for _ in range(3))
    expected = whole.fit(Batches(x, y), epochs=3)
    with pytest.raises(Killed):
        first.fit(Batches(x, y), epochs=3, callbacks=[Kill()])
    second.resume(path)
    assert second.fit(Batches(x, y), epochs=3).loss == expected.loss
    np.testing.assert_array_equal(second.network.parameters, whole.network.parameters)


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.ones((3, 4)), {}, TypeError, "iterable of batches"),
        (5, {}, TypeError, "iterable of batches"),
        ([], {}, ValueError, "there are no batches"),
        ([5], {}, TypeError, r"a batch must be \(X, y\)"),
        ([(np.ones((3, 4)),)], {}, TypeError, r"a batch must be \(X, y\).*got tuple of length 1"),
        ([(np.ones((3, 4)), [0, 1])], {}, ValueError, "as many rows"),
        ([], {"sample_weight": [1]}, ValueError, "sample_weight needs all rows"),
        ([], {"sampling": "stratified"}, ValueError, "sampling needs all rows"),
        ([], {"class_weight": "balanced"}, ValueError, "class_weight='balanced' needs all rows"),
        ([], {"validation_split": 0.5}, ValueError, "validation_split needs all rows"),
    ],
)
def test_what_is_no_source_of_batches(x, options, error, message):
    with pytest.raises(error, match=message):
        make_net().fit(x, loss="cross_entropy", **options)


def test_partial_fit_is_an_unshuffled_pass(rng):
    x, y = make_data(rng)
    whole, parts = (ds.Trainer(make_net(), "cross_entropy", "adam") for _ in range(2))
    history = whole.fit(x, y, epochs=2, shuffle=False, batch_size=8)
    assert [parts.partial_fit(x, y, batch_size=8) for _ in range(2)] == history.loss
    np.testing.assert_array_equal(parts.network.parameters, whole.network.parameters)
    assert (parts.epoch, parts.steps) == (0, whole.steps)
    parts.partial_fit(x, y, batch_size=None)
    assert parts.steps == whole.steps + 1


# ---- Class weights ----


def test_class_weights_are_sample_weights_by_class(rng):
    x, y = make_data(rng)
    weight = rng.uniform(size=len(x))
    factors = np.array([0.5, 1.0, 4.0])
    for given in ([0.5, 1, 4], {0: 0.5, 2: 4}, factors):
        np.testing.assert_array_equal(
            trained(x, y, class_weight=given), trained(x, y, sample_weight=factors[y])
        )
    both = trained(x, y, class_weight=factors, sample_weight=weight)
    product = factors[y].astype("float32") * weight.astype("float32")
    np.testing.assert_array_equal(both, trained(x, y, sample_weight=product))
    one_hot = np.eye(3)[y]
    np.testing.assert_allclose(
        trained(x, one_hot, class_weight=factors), trained(x, y, class_weight=factors), rtol=1e-5
    )


def test_balanced_weights_are_those_of_scikit_learn(rng):
    utils = pytest.importorskip("sklearn.utils.class_weight")
    x, y = make_data(rng)
    y = np.where(y == 1, 2, y)  # class 1 does not occur
    expected = utils.compute_sample_weight("balanced", y)
    np.testing.assert_array_equal(
        trained(x, y, class_weight="balanced"), trained(x, y, sample_weight=expected)
    )


def test_class_weights_of_one_sigmoid(rng):
    x, y = make_data(rng)
    y = (y > 0).astype(float)

    def run(**options):
        net = ds.Network([4, 1], output="sigmoid", seed=1)
        net.fit(x, y, loss="binary_cross_entropy", **options)
        return net.parameters.copy()

    expected = run(sample_weight=np.where(y == 1, 3.0, 0.5))
    np.testing.assert_array_equal(run(class_weight={0: 0.5, 1: 3}), expected)


def test_validation_has_no_class_weights(rng):
    x, y = make_data(rng)
    net = make_net()
    history = net.fit(x, y, loss="cross_entropy", class_weight=[1, 2, 3], validation_data=(x, y))
    assert history.val_loss == [net.evaluate(x, y, loss="cross_entropy")]


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ("even", TypeError, "class_weight must be 'balanced', a dict"),
        ([1, 2], ValueError, "one weight for each of the 3 classes; got 2"),
        ({3: 1}, ValueError, r"class 3, but classes are 0 .. 2"),
        ({"a": 1}, TypeError, "classes of class_weight must be integers"),
        ({0: -1}, ValueError, r"class_weight\[0\] must be a finite number at least 0"),
        ({0: 1e39}, ValueError, r"must not exceed 3.4e\+38, the greatest number of float32"),
    ],
)
def test_wrong_class_weights(rng, weight, error, message):
    with pytest.raises(error, match=message):
        make_net().fit(*make_data(rng), loss="cross_entropy", class_weight=weight)


def test_class_weights_times_sample_weights_that_overflow(rng):
    x, y = make_data(rng)
    weights = {"class_weight": [1e30] * 3, "sample_weight": np.full(len(x), 1e30)}
    with pytest.raises(ValueError, match="class_weight, times sample_weight, must not exceed"):
        make_net().fit(x, y, loss="cross_entropy", **weights)


def logistic(outputs, labels):
    """A loss function of one output and labels 0 and 1 of shape (rows,)."""
    t, z = labels[:, np.newaxis], outputs.astype(float)
    return (np.logaddexp(0, z) - t * z).mean(axis=1), (1 / (1 + np.exp(-z)) - t) / len(t)


@pytest.mark.parametrize("dtype", ["int8", "uint64"])
@pytest.mark.parametrize("weight", ["balanced", [0.5, 2.0], {0: 0.5, 1: 2.0}], ids=str)
def test_class_weights_of_a_loss_function(rng, weight, dtype):
    """There may be more classes than outputs."""
    x, _ = make_data(rng)
    y = (x[:, 0] > 0.5).astype(dtype)
    factors = [0.5, 2.0] if weight != "balanced" else len(y) / (2 * np.bincount(y.astype(int)))
    by_class, by_row = (ds.Network([4, 1], seed=0) for _ in range(2))
    by_class.fit(x, y, loss=logistic, class_weight=weight, epochs=2)
    by_row.fit(x, y, loss=logistic, sample_weight=np.array(factors)[y], epochs=2)
    np.testing.assert_array_equal(by_class.parameters, by_row.parameters)


@pytest.mark.parametrize(
    "options",
    [{"class_weight": [1, 2]}, {"class_weight": "balanced"}, {"sampling": "stratified"}],
    ids=str,
)
def test_labels_below_zero_are_no_classes(rng, options):
    """Not even for a loss function, which takes any: they would count from the end."""

    class Watch(ds.Callback):
        def on_fit_begin(self, trainer):
            raise AssertionError("the run has begun")

    x, _ = make_data(rng)
    y = np.where(x[:, 0] > 0, 1, -1)
    with pytest.raises(ValueError, match=r"needs class labels 0, 1, 2 and so on; found -1"):
        ds.Network([4, 1]).fit(x, y, loss=logistic, callbacks=[Watch()], **options)


def test_class_weights_need_classes(rng):
    x, _ = make_data(rng)
    with pytest.raises(ValueError, match="class_weight needs classes"):
        ds.Network([4, 1]).fit(x, x[:, 0], class_weight=[1, 2])


# ---- Orders ----


def met(x, y, **options):
    """The rows of each batch of a run, by the first of their inputs."""
    seen = []

    def spy(data, order, batch_size, threads, batch=0, *rest):
        first = batch * batch_size
        rows = np.arange(data.rows) if order is None else order.copy()
        seen.append(rows[first : first + batch_size])
        return train(data, order, batch_size, threads, batch, *rest)

    class Watch(ds.Callback):
        def on_batch_end(self, trainer, batch, logs):
            pass

    trainer = ds.Trainer(make_net(), "cross_entropy", ds.SGD(0.1))
    train = trainer._stepper.train
    trainer._stepper.train = spy
    trainer.fit(x, y, callbacks=[Watch()], **options)
    return seen


def test_stratified_batches_hold_their_share_of_each_class(rng):
    x = rng.normal(size=(100, 4))
    y = rng.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    batches = met(x, y, sampling="stratified", batch_size=10, epochs=2)
    for batch in batches:
        counts = np.bincount(y[batch], minlength=3)
        assert np.abs(counts - [6, 3, 1]).max() <= 1
    epochs = np.concatenate(batches).reshape(2, 100)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(100), (2, 1)))
    assert (epochs[0] != epochs[1]).any()
    again = met(x, y, sampling="stratified", batch_size=10, epochs=2)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(batches))


def test_weighted_draws(rng):
    x, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    weight = np.where(np.arange(50) < 10, 3.0, 1.0)
    weight[-5:] = 0
    rows = np.concatenate(
        met(x, y, sampling="weighted", sample_weight=weight, batch_size=50, epochs=200)
    )
    share = np.bincount(rows, minlength=50) / len(rows)
    expected = weight / weight.sum()
    spread = np.sqrt(expected * (1 - expected) / len(rows))
    assert (np.abs(share - expected) <= 5 * spread).all()
    assert share[-5:].sum() == 0


def test_losses_of_weighted_draws_count_alike(rng):
    x, y = make_data(rng)
    drawn, plain = make_net(), make_net()
    rows = np.concatenate(met(x, y, sampling="weighted", class_weight=[1, 2, 3], batch_size=20))
    drawn.fit(
        x, y, loss="cross_entropy", sampling="weighted", class_weight=[1, 2, 3], batch_size=20
    )
    plain.fit(x[rows], y[rows], loss="cross_entropy", shuffle=False, batch_size=20)
    np.testing.assert_array_equal(drawn.parameters, plain.parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "weighted"}, "give sample_weight or class_weight"),
        ({"sampling": "weighted", "sample_weight": np.zeros(60)}, "a weight that is not zero"),
        ({"sampling": "stratified", "shuffle": False}, "shuffle=False contradicts"),
    ],
)
def test_orders_that_can_not_be(rng, options, message):
    with pytest.raises(ValueError, match=message):
        make_net().fit(*make_data(rng), loss="cross_entropy", **options)


def test_stratified_by_targets_of_two_values(rng):
    """The order is that of the labels which they stand for."""

    def order(y, loss, network):
        data = network.dataset(x, y, network.checked_loss(loss), None)
        return Order("stratified", True, data, None).draw(SEED, 0)

    x, labels = make_data(rng)
    expected = order(labels, "cross_entropy", make_net())
    np.testing.assert_array_equal(order(np.eye(3)[labels], "cross_entropy", make_net()), expected)
    positive = (labels > 0).astype(int)
    expected = order(positive, "cross_entropy", make_net())
    sigmoid, line = (ds.Network([4, 1], output=name, seed=0) for name in ("sigmoid", "identity"))
    np.testing.assert_array_equal(order(positive, "binary_cross_entropy", sigmoid), expected)
    np.testing.assert_array_equal(order(2 * positive - 1, "hinge", line), expected)


def test_stratified_needs_classes(rng):
    x, _ = make_data(rng)
    for y in (x[:, 0], x[:, :2] > 0, x[:, :2]):
        net = ds.Network([4, np.ndim(y)], seed=0)
        with pytest.raises(ValueError, match="needs classes as targets"):
            net.fit(x, y, sampling="stratified")


def test_an_order_with_a_split_keeps_to_the_training_rows(rng):
    x, y = make_data(rng, 100)
    rows = np.concatenate(met(x, y, sampling="stratified", validation_split=0.3, batch_size=10))
    assert len(set(rows)) == len(rows) == 70
    assert math.isclose((y[rows] == 0).mean(), (y == 0).mean(), abs_tol=0.2)
