"""Bad input: an error that says what was given and what to do, before anything has changed.

The tables hold a call, the type of its error, and what the message must say.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
from odd_arrays import read_only, unaligned

X = np.arange(12.0).reshape(4, 3) / 10
Y = np.arange(8.0).reshape(4, 2) / 10
LABELS = np.array([0, 1, 1, 0])


def make_trainer(output="identity", loss="mse", **options):
    network = ds.Network([3, 5, 2], output=output, seed=0, **options)
    return ds.Trainer(network, loss, ds.SGD(0.1, momentum=0.9))


def cases(table):
    """Parameters of a test from a table {what is wrong: (call, error, message)}."""
    return pytest.mark.parametrize(
        ("call", "error", "message"), list(table.values()), ids=list(table)
    )


# ---- Construction ----

CONSTRUCTION = {
    "no layers": (lambda: ds.Network(3, []), ValueError, "at least one layer"),
    "one width": (lambda: ds.Network([3]), ValueError, r"at least two widths.*got \[3\]"),
    "a width alone": (lambda: ds.Network(3), TypeError, r"give all widths, as in Network\(\[3, "),
    "no widths": (lambda: ds.Network(None), TypeError, "widths must be a list"),
    "width of zero": (lambda: ds.Network([3, 0, 1]), ValueError, r"widths\[1\] must be at least 1"),
    "fractional width": (lambda: ds.Network([3, 2.0]), TypeError, r"widths\[1\] must be a whole"),
    "boolean width": (lambda: ds.Network([True, 2]), TypeError, r"widths\[0\].*got True"),
    "widths as text": (lambda: ds.Network("32"), TypeError, r"widths\[0\] must be a whole number"),
    "list of widths and layers": (
        lambda: ds.Network([3, 2], [ds.Dense(2)]),
        TypeError,
        r"the number of inputs must be a whole number; got \[3, 2\]",
    ),
    "layers of another kind": (
        lambda: ds.Network(3, [ds.Dense(2), 5]),
        TypeError,
        r"layers\[1\] must be a downslope.Dense; got int",
    ),
    "a layer alone": (lambda: ds.Network(3, ds.Dense(2)), TypeError, "layers must be a list"),
    **{
        f"{name} beside layers": (
            lambda name=name, value=value: ds.Network(3, [ds.Dense(2)], **{name: value}),
            ValueError,
            f"{name} goes with a list of widths; with layers, give it to each Dense",
        )
        for name, value in {
            "activation": "tanh",
            "output": ds.Activation("relu"),
            "weights": [np.zeros((3, 2))],
            "use_bias": False,
            "shared_bias": True,
        }.items()
    },
    "too few activations": (
        lambda: ds.Network([3, 4, 4, 1], activation=["relu"]),
        ValueError,
        "activation must have one entry for each of the 2 hidden layers; got 1",
    ),
    "activation of no kind": (
        lambda: ds.Network([3, 4, 1], activation=5),
        TypeError,
        "activation must be a name, a downslope.Activation, or a list",
    ),
    "a function as activation": (lambda: ds.Dense(3, np.tanh), TypeError, "name or a downslope"),
    "too many weights": (
        lambda: ds.Network([1, 1], weights=[[[1]], [[2]]]),
        ValueError,
        "weights must have one entry for each of the 1 layers; got 2",
    ),
    "weights of the wrong shape": (
        lambda: ds.Network(3, [ds.Dense(2, weights=np.zeros((2, 3)))]),
        ValueError,
        r"weights of layer 0 must have shape \(3, 2\), \(inputs, outputs\); got \(2, 3\)",
    ),
    "weights that do not follow": (
        lambda: ds.Network([3, 4, 2], weights=[np.zeros((3, 4)), np.zeros((3, 2))]),
        ValueError,
        r"layer 1 must have shape \(4, 2\)",
    ),
    "weights of one axis": (lambda: ds.Dense(2, weights=[1, 2]), ValueError, r"got shape \(2,\)"),
    "weights that are text": (lambda: ds.Dense(1, weights=[["a"]]), TypeError, "must be numbers"),
    "weights with NaN": (lambda: ds.Dense(1, weights=[[np.nan]]), ValueError, "must be finite"),
    "weights beyond float32": (
        lambda: ds.Network([1, 1], weights=[[[1e300]]]),
        ValueError,
        "beyond the range of float32; give smaller ones, or dtype='float64'",
    ),
    "bias beyond float32": (
        lambda: ds.Network(1, [ds.Dense(1, bias=-1e39)]),
        ValueError,
        "beyond the range of float32",
    ),
    "bias of the wrong length": (
        lambda: ds.Dense(3, bias=[1, 2]),
        ValueError,
        r"shape \(3,\).*got shape \(2,\)",
    ),
    "several shared biases": (
        lambda: ds.Dense(3, bias=[1, 2, 3], shared_bias=True),
        ValueError,
        r"shape \(1,\).*got shape \(3,\)",
    ),
    "bias with infinity": (lambda: ds.Dense(1, bias=np.inf), ValueError, "bias must be finite"),
    "bias that is text": (lambda: ds.Dense(1, bias="one"), TypeError, "bias must be numbers"),
    "shared and no bias": (
        lambda: ds.Network([1, 1], use_bias=False, shared_bias=True),
        ValueError,
        "contradicts",
    ),
    **{
        f"dtype {dtype}": (
            lambda dtype=dtype: ds.Network([1, 1], dtype=dtype),
            ValueError,
            "must be 'float32' or 'float64'; got",
        )
        for dtype in ("float16", "int32", "float128", "flaot32", ">f4", None, complex, 32)
    },
    "negative seed": (lambda: ds.Network([1, 1], seed=-1), ValueError, "at least 0"),
    "seed of 65 bits": (lambda: ds.Network([1, 1], seed=2**64), ValueError, r"below 2\*\*64"),
    "seed that is text": (lambda: ds.Network([1, 1], seed="0"), TypeError, "seed must be a whole"),
    "no units": (lambda: ds.Dense(0), ValueError, "units must be at least 1"),
    "parameter of relu": (lambda: ds.Activation("relu", 1.0), ValueError, "takes no parameter"),
    "parameter of infinity": (lambda: ds.Activation("elu", np.inf), ValueError, "a finite number"),
    "parameter that is text": (lambda: ds.Activation("elu", "1"), TypeError, "must be a number"),
    "negative scale": (
        lambda: ds.Initializer("normal", -1),
        ValueError,
        "scale must be .*at least 0",
    ),
    "scale of NaN": (
        lambda: ds.Initializer("normal", np.nan),
        ValueError,
        "scale must be a finite",
    ),
    "constant without a value": (
        lambda: ds.Initializer("constant"),
        ValueError,
        "a constant needs its value: Initializer",
    ),
    "fan and a scale": (
        lambda: ds.Initializer("normal", 0.1, fan="he"),
        ValueError,
        "fan='he' gives the spread, and scale=0.1 another; give one of them",
    ),
    "fan of an orthogonal matrix": (
        lambda: ds.Initializer("orthogonal", fan="he"),
        ValueError,
        "fan='he' goes with a uniform or normal distribution; got 'orthogonal'",
    ),
    "alpha of celu": (lambda: ds.Activation("celu", 0), ValueError, "above 0; got 0"),
    "delta of zero": (lambda: ds.Loss("huber", delta=0), ValueError, "delta must be .* above 0"),
    "level of one": (lambda: ds.Loss("quantile", levels=[0.5, 1]), ValueError, r"levels\[1\] must"),
    "level that is text": (
        lambda: ds.Loss("quantile", levels="0.5"),
        TypeError,
        "levels must be a number; got '0.5'",
    ),
    "class of losses": (
        lambda: ds.Trainer(ds.Network([1, 1]), ds.Loss),
        TypeError,
        "give a loss, not the class",
    ),
    "levels for other outputs": (
        lambda: ds.Trainer(ds.Network([1, 3]), ds.Loss("quantile", levels=[0.1, 0.9])),
        ValueError,
        "levels of loss 'quantile' must be one number, or one for each of the 3 outputs; got 2",
    ),
    "no levels": (
        lambda: ds.Trainer(ds.Network([1, 3]), ds.Loss("quantile", levels=[])),
        ValueError,
        "levels is empty; give a number, or one for each output",
    ),
    "negative gamma": (lambda: ds.Loss("binary_focal", gamma=-1), ValueError, "gamma must be"),
    "alpha of focal": (
        lambda: ds.Loss("focal", alpha=0.5),
        ValueError,
        "unknown parameter of loss",
    ),
    "label_smoothing of one": (
        lambda: ds.Loss("cross_entropy", label_smoothing=1),
        ValueError,
        "label_smoothing must be .* at least 0 and below 1; got 1",
    ),
    "parameter of mse": (
        lambda: ds.Loss("mse", delta=1),
        ValueError,
        "loss 'mse' takes no parameters; got 'delta'",
    ),
    "odd outputs for means and variances": (
        lambda: ds.Trainer(ds.Network([1, 3]), "gaussian_nll"),
        ValueError,
        "loss 'gaussian_nll' needs 2 outputs for each target; this network has 3",
    ),
    "number as a loss": (
        lambda: ds.Trainer(ds.Network([1, 1]), 2),
        TypeError,
        "loss must be a name .*; got 2",
    ),
    "scale that is text": (lambda: ds.Initializer("normal", "1"), TypeError, "scale must be a num"),
    "learning rate of zero": (lambda: ds.SGD(0), ValueError, "learning_rate must be .* above 0"),
    "negative learning rate": (lambda: ds.Adam(-0.1), ValueError, "above 0; got -0.1"),
    "learning rate of NaN": (lambda: ds.SGD(np.nan), ValueError, "finite number"),
    "learning rate as text": (lambda: ds.SGD("0.1"), TypeError, "must be a number; got '0.1'"),
    "boolean learning rate": (lambda: ds.SGD(True), TypeError, "must be a number; got True"),
    "momentum of one": (lambda: ds.SGD(momentum=1), ValueError, "at least 0 and below 1; got 1"),
    "nesterov alone": (lambda: ds.SGD(nesterov=True), ValueError, "needs a momentum"),
    "beta_1 of one": (lambda: ds.Adam(beta_1=1.0), ValueError, "beta_1 must be"),
    "negative beta_2": (lambda: ds.Adam(beta_2=-0.1), ValueError, "beta_2 must be"),
    "epsilon of zero": (lambda: ds.Adam(epsilon=0), ValueError, "epsilon must be .* above 0"),
    "momentum without its name": (lambda: ds.SGD(0.1, 0.9), TypeError, "positional argument"),
    "betas without their names": (lambda: ds.Adam(0.1, 0.9), TypeError, "positional argument"),
    "activation without its name": (
        lambda: ds.Network([1, 1], None, "relu"),
        TypeError,
        "positional argument",
    ),
    "an unknown argument": (lambda: ds.Network([1, 1], units=3), TypeError, "'units'"),
    "an unknown argument of Dense": (
        lambda: ds.Dense(1, dropout_rate=3),
        TypeError,
        "dropout_rate",
    ),
    "an unknown argument of SGD": (lambda: ds.SGD(lr=0.1), TypeError, "'lr'"),
    "negative patience": (lambda: ds.EarlyStopping(patience=-1), ValueError, "patience must be at"),
    "fractional patience": (
        lambda: ds.EarlyStopping(patience=1.5),
        TypeError,
        "patience must be a",
    ),
    "negative min_delta": (lambda: ds.EarlyStopping(min_delta=-1), ValueError, "min_delta must be"),
    "trainer of no network": (lambda: ds.Trainer([3, 1]), TypeError, "downslope.Network; got list"),
    "trainer of no threads": (
        lambda: ds.Trainer(ds.Network([1, 1]), threads=0),
        ValueError,
        "threads must be at least 1",
    ),
}


@cases(CONSTRUCTION)
def test_construction(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- Names ----

NAMES = {
    "activation": (lambda: ds.Network([1, 1, 1], activation="rellu"), "relu"),
    "activation in other letters": (lambda: ds.Dense(1, "ReLU"), "relu"),
    "activation with a hyphen": (lambda: ds.Activation("Leaky-ReLU"), "leaky_relu"),
    "output": (lambda: ds.Network([1, 1], output="soft max"), "softmax"),
    "initializer": (lambda: ds.Network([1, 1], weights="he_norm"), "he_normal"),
    "distribution": (lambda: ds.Initializer("unifrom"), "uniform"),
    "fan": (lambda: ds.Initializer("normal", fan="glorott"), "glorot"),
    "loss": (lambda: ds.Trainer(ds.Network([1, 1]), loss="MSE"), "mse"),
    "loss in fit": (lambda: ds.Network([3, 2]).fit(X, Y, loss="crossentropy"), "cross_entropy"),
    "parameter of a loss": (lambda: ds.Loss("huber", dleta=1), "delta"),
    "loss object": (lambda: ds.Trainer(ds.Network([1, 1]), ds.Loss("mes")), "mse"),
    "optimizer": (lambda: ds.Trainer(ds.Network([1, 1]), optimizer="Adam"), "adam"),
    "sampling": (
        lambda: ds.Network([3, 2]).fit(X, Y, sampling="with replacement"),
        "with_replacement",
    ),
    "monitor": (
        lambda: ds.Network([3, 2]).fit(
            X, Y, validation_data=(X, Y), callbacks=[ds.EarlyStopping("valloss")]
        ),
        "val_loss",
    ),
}


@pytest.mark.parametrize(("call", "suggestion"), list(NAMES.values()), ids=list(NAMES))
def test_the_closest_name_is_suggested(call, suggestion):
    with pytest.raises(ValueError, match=f"did you mean '{suggestion}'[?] choose one of: "):
        call()


@pytest.mark.parametrize(
    ("call", "here"),
    [
        (lambda: ds.Activation("Swish"), "'silu'"),
        (lambda: ds.Network([1, 1], output="linear"), "'identity'"),
        (lambda: ds.Loss("mean_squared_error"), "'mse'"),
        (lambda: ds.Loss("sparse_categorical_crossentropy"), "'cross_entropy'"),
        (lambda: ds.Dense(1, weights="kaiming_normal"), "'he_normal'"),
        (lambda: ds.Dense(1, weights="ones"), r'Initializer\("constant", 1.0\)'),
        (
            lambda: ds.Trainer(ds.Network([1, 1]), optimizer="nesterov"),
            r"downslope.SGD\(momentum=0.9, nesterov=True\)",
        ),
    ],
)
def test_names_of_other_libraries(call, here):
    with pytest.raises(ValueError, match=f"here it is {here}; choose one of: "):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ds.Activation("swish-beta"),
        lambda: ds.Trainer(ds.Network([1, 1]), loss="xyz"),
        lambda: ds.Trainer(ds.Network([1, 1]), optimizer="quickprop"),
        lambda: ds.Dense(1, weights="sobol"),
    ],
)
def test_a_name_like_no_other_gets_the_list(call):
    with pytest.raises(ValueError, match=r"unknown .*'; choose one of: "):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ds.Trainer(ds.Network([1, 1]), loss=None), "loss must be a name .*got None"),
        (lambda: ds.Trainer(ds.Network([1, 1]), optimizer=0.1), "optimizer is a name or an object"),
        (lambda: ds.Trainer(ds.Network([1, 1]), optimizer=ds.Adam), r"not its class: Adam\(\)"),
        (lambda: ds.EarlyStopping(3), "monitor must be a name"),
        (lambda: ds.Network([3, 2]).fit(X, Y, sampling=None), "sampling must be a name"),
    ],
)
def test_names_of_another_type(call, message):
    with pytest.raises(TypeError, match=message):
        call()


# ---- Inputs ----


class Sparse:
    """What the matrices of scipy.sparse have."""

    nnz = 3

    def toarray(self):
        return X


INPUTS = {
    "too few columns": (X[:, :2], ValueError, r"must have shape \(rows, 3\); got \(4, 2\)"),
    "a single row": (X[0], ValueError, r"got \(3,\); for a single row give X.reshape\(1, -1\)"),
    "a vector": (X.ravel(), ValueError, r"\(rows, 3\); got \(12,\)"),
    "three axes": (X[:, :, None], ValueError, r"flatten the rows: X.reshape\(len\(X\), -1\)"),
    "a number": (3.0, ValueError, "an array with rows; got the number 3.0"),
    "None": (None, TypeError, "must hold real numbers; got NoneType"),
    "empty list": ([], ValueError, r"\(rows, 3\); got \(0,\)"),
    "ragged": ([[1, 2, 3], [4, 5]], ValueError, "X is not a rectangular array"),
    "NaN": (np.where(X == 0.5, np.nan, X), ValueError, "no NaN.*row 1 is not: drop or fill"),
    "infinity": (np.where(X == 1.1, np.inf, X), ValueError, "no infinity.*row 3 is not"),
    "minus infinity": (np.where(X == 0, -np.inf, X), ValueError, "row 0 is not"),
    "beyond float32": (X + 1e39, ValueError, "within the range of float32"),
    "whole numbers beyond float32": (
        np.array([[1, 2, 10**39]], dtype="g"),
        ValueError,
        "within the range of float32",
    ),
    "sparse": (Sparse(), TypeError, r"X is a sparse matrix; give a dense one: X.toarray\(\)"),
    "masked": (np.ma.masked_less(X, 0.3), ValueError, r"masked values.*X.filled\(0\)"),
    "objects": (X.astype(object), TypeError, r"dtype object \(convert it first.*\.astype\(float\)"),
    "text": (X.astype(str), TypeError, r"dtype <U32 \(convert it first"),
    "bytes": (X.astype("S4"), TypeError, r"dtype \|S4 \(convert it first"),
    "complex": (X.astype(complex), TypeError, "must hold real numbers; got dtype complex128"),
    "dates": (X.astype("M8[s]"), TypeError, r"real numbers; got dtype datetime64"),
    "structured": (np.zeros(4, "f4,f4,f4"), TypeError, "must hold real numbers"),
    "frame with text": (
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [1, 2]}),
        TypeError,
        "must hold real numbers",
    ),
    "frame with a hole": (pd.DataFrame(X).where(X != 0.5), ValueError, "row 1 is not"),
    "a dict": ({"X": X}, TypeError, "must hold real numbers"),
}

CALLS = {
    "predict": lambda trainer, x: trainer.network.predict(x),
    "forward": lambda trainer, x: trainer.network.forward(x),
    "evaluate": lambda trainer, x: trainer.network.evaluate(x, Y),
    "step": lambda trainer, x: trainer.step(x, Y),
    "compute_gradients": lambda trainer, x: trainer.compute_gradients(x, Y),
    "fit": lambda trainer, x: trainer.fit(x, Y),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", INPUTS)
def test_inputs(call, wrong):
    x, error, message = INPUTS[wrong]
    trainer = make_trainer()
    with unchanged(trainer), pytest.raises(error, match=message):
        CALLS[call](trainer, x)


def test_inputs_of_the_gradient_check():
    with pytest.raises(ValueError, match=r"X must have shape \(rows, 3\)"):
        ds.check_gradients(make_trainer().network, X[:, :2], Y)


@pytest.mark.parametrize("call", [call for call in CALLS if call != "predict"])
def test_no_rows(call):
    with pytest.raises(ValueError, match="X has no rows; give at least one"):
        CALLS[call](make_trainer(), np.empty((0, 3)))


def test_validation_data_are_called_by_their_names():
    trainer = make_trainer()
    for data, message in [
        ((X[:, :2], Y), r"X_val must have shape \(rows, 3\)"),
        ((X, Y[:, :1]), r"y_val must have shape \(rows, 2\)"),
        ((X, Y[:2]), "X_val and y_val must have as many rows"),
        ((X[:0], Y[:0]), "X_val has no rows"),
        ((X, Y + np.nan), "y_val must be finite"),
    ]:
        with unchanged(trainer), pytest.raises(ValueError, match=message):
            trainer.fit(X, Y, validation_data=data)


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple),
    inputs=st.integers(2, 4),
)
@settings(deadline=None)
def test_any_wrong_shape_is_refused(shape, inputs):
    network = ds.Network([inputs, 1], seed=0)
    if len(shape) == 2 and shape[1] == inputs:
        assert network.predict(np.zeros(shape)).shape == (shape[0], 1)
    else:
        with pytest.raises(ValueError, match=rf"must have shape \(rows, {inputs}\)"):
            network.predict(np.zeros(shape))


# ---- Targets and sample weights ----

TARGETS = {
    "too few rows": ("mse", Y[:3], ValueError, r"as many rows; got 4 and \(3, 2\)"),
    "too few columns": (
        "mse",
        Y[:, :1],
        ValueError,
        r"y must have shape \(rows, 2\); got \(4, 1\)",
    ),
    "a vector": ("mse", Y[:, 0], ValueError, r"\(rows, 2\); got \(4,\)"),
    "a number": ("mse", 1.0, ValueError, "y must be an array with rows"),
    "text": ("mse", Y.astype(str), TypeError, "y must hold real numbers"),
    "sparse": ("mse", Sparse(), TypeError, r"y is a sparse matrix"),
    "NaN": ("mse", Y * np.nan, ValueError, "y must be finite"),
    "beyond float32": ("half_squared_error", Y + 1e39, ValueError, "within the range of float32"),
    "above one": ("binary_cross_entropy", Y + 0.5, ValueError, r"y must lie in \[0, 1\]"),
    "below zero": ("binary_cross_entropy", Y - 0.5, ValueError, r"y must lie in \[0, 1\]"),
    "labels for the sigmoid": ("binary_cross_entropy", LABELS, ValueError, r"\(rows, 2\)"),
    "no probabilities": ("cross_entropy", Y, ValueError, "rows of y must be probabilities.*labels"),
    "negative probabilities": (
        "cross_entropy",
        np.tile([1.5, -0.5], (4, 1)),
        ValueError,
        "must be probabilities",
    ),
    "label too large": ("cross_entropy", LABELS + 1, ValueError, r"lie in 0 .. 1.*found 1 .. 2"),
    "label below zero": ("cross_entropy", LABELS - 1, ValueError, r"found -1 .. 0"),
    "label of 64 bits": (
        "cross_entropy",
        np.array([0, 1, 0, 2**64 - 1], np.uint64),
        ValueError,
        "found 0 .. 18446744073709551615",
    ),
    "fractional labels": (
        "cross_entropy",
        LABELS * 1.0,
        TypeError,
        r"labels in y must be integers; got dtype float64: give y.astype\(int\)",
    ),
    "names for labels": ("cross_entropy", ["a", "b", "b", "a"], TypeError, "y must hold real num"),
    "too few labels": ("cross_entropy", LABELS[:3], ValueError, r"as many rows; got 4 and \(3,\)"),
    "fractions for focal loss": ("binary_focal", Y / 2 + 0.1, ValueError, "y must be 0 or 1 for"),
    "label too large for focal": ("focal", LABELS + 1, ValueError, r"found 1 .. 2"),
    "targets that are no shares": ("focal", Y * 2.5, ValueError, "rows of y must be probabilities"),
    "zeros for hinge loss": ("hinge", Y * 0, ValueError, r"y must be -1 or 1.*2 \* y - 1"),
    "negative counts": ("poisson", Y - 5, ValueError, "y must not be negative for loss 'poisson'"),
    "targets for each output": (
        "gaussian_nll",
        Y,
        ValueError,
        r"y must have shape \(rows, 1\); got \(4, 2\)",
    ),
    "no targets": ("mse", None, TypeError, "y must hold real numbers"),
}
OUTPUTS = {
    "binary_cross_entropy": "sigmoid",
    "binary_focal": "sigmoid",
    "cross_entropy": "softmax",
    "focal": "softmax",
}


@pytest.mark.parametrize("method", ["fit", "step", "compute_gradients"])
@pytest.mark.parametrize("wrong", TARGETS)
def test_targets(method, wrong):
    loss, y, error, message = TARGETS[wrong]
    trainer = make_trainer(OUTPUTS.get(loss, "identity"), loss)
    with unchanged(trainer), pytest.raises(error, match=message):
        getattr(trainer, method)(X, y)
    with pytest.raises(error, match=message):
        trainer.network.evaluate(X, y, loss=loss)


@pytest.mark.parametrize(
    ("loss", "output", "needed"),
    [
        ("cross_entropy", "identity", "'softmax' or 'log_softmax'"),
        ("cross_entropy", "sigmoid", "'softmax' or 'log_softmax'"),
        ("binary_cross_entropy", "softmax", "'sigmoid'"),
        ("binary_cross_entropy", "tanh", "'sigmoid'"),
    ],
)
def test_a_loss_with_the_wrong_output(loss, output, needed):
    network = ds.Network([3, 5, 2], output=output)
    message = f"loss '{loss}' needs a network with output={needed}; this one has '{output}'"
    for call in (
        lambda: ds.Trainer(network, loss),
        lambda: network.fit(X, Y, loss=loss),
        lambda: network.evaluate(X, Y, loss=loss),
        lambda: ds.check_gradients(network, X, Y, loss=loss),
    ):
        with pytest.raises(ValueError, match=message):
            call()


WEIGHTS = {
    "too few": (np.ones(3), ValueError, r"shape \(4,\), one value for each row; got \(3,\)"),
    "a column": (np.ones((4, 1)), ValueError, r"shape \(4,\).*got \(4, 1\)"),
    "a number": (2.0, ValueError, "must be an array with rows"),
    "negative": ([1, 1, -0.5, 1], ValueError, "must not be negative; found -0.5"),
    "NaN": ([1, 1, np.nan, 1], ValueError, "sample_weight must be finite.*row 2"),
    "beyond float32": ([1, 1, 1e39, 1], ValueError, "sample_weight must be finite"),
    "text": (["a"] * 4, TypeError, "sample_weight must hold real numbers"),
}


@pytest.mark.parametrize("method", ["fit", "step", "compute_gradients"])
@pytest.mark.parametrize("wrong", WEIGHTS)
def test_sample_weights(method, wrong):
    weight, error, message = WEIGHTS[wrong]
    trainer = make_trainer()
    with unchanged(trainer), pytest.raises(error, match=message):
        getattr(trainer, method)(X, Y, sample_weight=weight)
    with pytest.raises(error, match=message):
        trainer.network.evaluate(X, Y, sample_weight=weight)


# ---- Arguments of fit ----

FIT = {
    "no epochs": ({"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
    "fractional epochs": ({"epochs": 1.5}, TypeError, "epochs must be a whole number; got 1.5"),
    "boolean epochs": ({"epochs": True}, TypeError, "epochs must be a whole number"),
    "batches of none": ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    "negative batches": ({"batch_size": -1}, ValueError, "batch_size must be at least 1"),
    "batches as text": ({"batch_size": "all"}, TypeError, "batch_size must be a whole number"),
    "no threads": ({"threads": 0}, ValueError, "threads must be at least 1"),
    "threads as text": ({"threads": "2"}, TypeError, "threads must be a whole number"),
    "order of drawn rows": (
        {"shuffle": False, "sampling": "with_replacement"},
        ValueError,
        "shuffle=False contradicts sampling='with_replacement'",
    ),
    "split of all": ({"validation_split": 1.0}, ValueError, "at least 0 and below 1; got 1.0"),
    "negative split": ({"validation_split": -0.1}, ValueError, "at least 0"),
    "split of nothing": ({"validation_split": 0.01}, ValueError, "of 4 rows leaves 0"),
    "split of nearly all": ({"validation_split": 0.99}, ValueError, "and 0 for training"),
    "split as text": ({"validation_split": "0.1"}, TypeError, "must be a number"),
    "both validations": (
        {"validation_split": 0.5, "validation_data": (X, Y)},
        ValueError,
        "contradict each other; give one of them",
    ),
    "validation inputs alone": ({"validation_data": X}, TypeError, r"\(X, y\) or .*got ndarray"),
    "validation of one": ({"validation_data": (X,)}, TypeError, "got tuple of length 1"),
    "validation of four": ({"validation_data": (X, Y, X, Y)}, TypeError, "got tuple of length 4"),
    "validation weights": (
        {"validation_data": (X, Y, np.ones(3))},
        ValueError,
        r"sample_weight must have shape \(4,\)",
    ),
    "a callback alone": ({"callbacks": ds.EarlyStopping("loss")}, TypeError, "must be a list"),
    "callbacks of None": ({"callbacks": None}, TypeError, "callbacks must be a list"),
    "a function": ({"callbacks": [print]}, TypeError, "downslope.Callback objects.*built-in"),
    "a class": ({"callbacks": [ds.EarlyStopping]}, TypeError, "not their classes; got <class"),
    "verbose as in Keras": ({"verbose": 2}, ValueError, "verbose must be 0 or 1; .*got 2"),
    "divergence ignored": (
        {"on_divergence": "ignore"},
        ValueError,
        "unknown on_divergence 'ignore'; choose one of: raise, warn",
    ),
    "an unknown argument": ({"batchsize": 3}, TypeError, "batchsize"),
}


@pytest.mark.parametrize("wrong", FIT)
def test_arguments_of_fit(wrong):
    options, error, message = FIT[wrong]
    trainer = make_trainer()
    with unchanged(trainer), pytest.raises(error, match=message):
        trainer.fit(X, Y, **options)
    with pytest.raises(error, match=message):
        trainer.network.fit(X, Y, **options)


@pytest.mark.parametrize("rate", [-1, np.nan, np.inf])
def test_a_learning_rate_that_is_set(rate):
    trainer = make_trainer()
    with pytest.raises(ValueError, match="learning_rate must be a finite number at least 0"):
        trainer.learning_rate = rate
    assert trainer.learning_rate == 0.1


# ---- Arrays to write to ----


OUT_ARRAY = np.empty((4, 2), np.float32)
OUT = {
    "shape": (
        np.empty((4, 3), "f4"),
        ValueError,
        r"shape \(4, 2\) and dtype float32; got \(4, 3\)",
    ),
    "a vector": (np.empty(8, "f4"), ValueError, r"got \(8,\)"),
    "dtype": (np.empty((4, 2)), ValueError, "got .* float64"),
    "big-endian": (np.empty((4, 2), ">f4"), ValueError, "and >f4"),
    "a list": ([[0.0] * 2] * 4, TypeError, "NumPy array; got list"),
    "a frame": (pd.DataFrame(Y), TypeError, "NumPy array; got DataFrame"),
    "read-only": (read_only(OUT_ARRAY), ValueError, "out is read-only"),
    "columns": (np.empty((2, 4), "f4").T, ValueError, "C-contiguous"),
    "every second row": (np.empty((8, 2), "f4")[::2], ValueError, "C-contiguous"),
    "unaligned": (unaligned(OUT_ARRAY), ValueError, "C-contiguous"),
}


@pytest.mark.parametrize("wrong", OUT)
def test_out_of_predict(wrong):
    out, error, message = OUT[wrong]
    with pytest.raises(error, match=message):
        make_trainer().network.predict(X, out=out)


def test_out_that_overlaps():
    network = ds.Network([2, 2], seed=0)
    x = np.ones((4, 2), np.float32)
    before = network.parameters.copy()
    for out in (x, network.parameters[:4].reshape(2, 2)):
        with pytest.raises(ValueError, match="overlaps X or the network's parameters"):
            network.predict(x[: len(out)], out=out)
    shared = np.ones((6, 2), np.float32)
    with pytest.raises(ValueError, match="overlaps X"):
        network.predict(shared[:4], out=shared[2:])
    assert (shared == 1).all()
    network.predict(shared[:3], out=shared[3:])  # side by side is no overlap
    np.testing.assert_array_equal(network.parameters, before)


def test_predict_with_no_threads():
    with pytest.raises(ValueError, match="threads must be at least 1"):
        make_trainer().network.predict(X, threads=0)


# ---- backward ----


def test_backward_without_forward():
    network = make_trainer().network
    with pytest.raises(RuntimeError, match="needs a forward"):
        network.backward(Y)
    network.predict(X)
    with pytest.raises(RuntimeError, match="needs a forward"):
        network.backward(Y)


@pytest.mark.parametrize(
    ("d_out", "error", "message"),
    [
        (Y[:3], ValueError, r"the 4 rows of the last forward\(\); got 3"),
        (X, ValueError, r"d_out must have shape \(rows, 2\)"),
        (Y * np.nan, ValueError, "d_out must be finite"),
        (Y.astype(str), TypeError, "d_out must hold real numbers"),
    ],
)
def test_a_wrong_gradient_of_the_outputs(d_out, error, message):
    network = make_trainer().network
    network.forward(X)
    network.gradients[:] = 7
    with pytest.raises(error, match=message):
        network.backward(d_out)
    assert (network.gradients == 7).all()
    network.backward(Y)  # the forward pass still counts


def test_parameters_of_the_wrong_number():
    network = make_trainer().network
    before = network.parameters.copy()
    with pytest.raises(ValueError, match="broadcast"):
        network.parameters = np.zeros(3)
    np.testing.assert_array_equal(network.parameters, before)


# ---- Nothing changes ----


class unchanged:
    """A block after which a trainer, that has made a step, is as it was."""

    def __init__(self, trainer):
        self.trainer = trainer
        trainer.state[:] = 0.25
        trainer.network.gradients[:] = 7

    def taken(self):
        trainer = self.trainer
        arrays = trainer.network.parameters, trainer.network.gradients, trainer.state
        numbers = trainer.steps, trainer.epoch, trainer.learning_rate, trainer.history
        return [array.copy() for array in arrays], numbers

    def __enter__(self):
        self.before = self.taken()

    def __exit__(self, *error):
        arrays, numbers = self.taken()
        assert numbers == self.before[1]
        for array, before in zip(arrays, self.before[0], strict=True):
            np.testing.assert_array_equal(array, before)
