"""One step of training, number by number: each line is recomputed, each number the engine's."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import downslope as ds
from downslope import _kernels
from downslope.activations import ACTIVATIONS
from downslope.losses import LOSSES
from downslope.optimizers import OPTIMIZERS

X, TARGET = [0.95, 0.06], [0.05, 0.82]


@pytest.fixture
def explained(article):
    return ds.explain(
        article, X, TARGET, loss="half_squared_error", optimizer=ds.SGD(0.01), digits=17
    )


def lines(explanation):
    return [line for section in explanation.sections() for line in section.lines]


# What a formula may call.
FUNCTIONS = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "identity": lambda z: z,
    "exp": math.exp,
    "log": math.log,
    "relu_slope": lambda z: float(z > 0),
}


def recompute(formula):
    python = formula.replace("^", "**").replace("'(", "_slope(")
    return eval(python, {"__builtins__": {}}, FUNCTIONS)


def assert_each_line_holds(explanation, tolerance=1e-13):
    """The formula with its numbers gives the value, and a name means one number everywhere."""
    values = {}
    shown = 0
    for line in lines(explanation):
        if line.formula:
            shown += 1
            assert recompute(line.numeric(17)) == pytest.approx(
                line.value, rel=tolerance, abs=1e-17
            )
        for name, value in [*line.terms, (line.name, line.value)]:
            assert values.setdefault(name, value) == pytest.approx(value, rel=tolerance, abs=1e-17)
    return shown


def test_every_line_of_the_worked_example(explained):
    # 4 net inputs, 4 outputs, E1, E2, E; per layer 2 x 3 for deltas, 4 weights and a bias; 2 x 10
    assert assert_each_line_holds(explained) == len(lines(explained)) == 8 + 3 + 2 * 11 + 20


def test_numbers_of_the_worked_example(explained):
    by_name = {line.name: line.value for line in lines(explained)}
    expected = {
        "h1": 0.5384240911869264,
        "h2": 0.5208129664845009,
        "y1": 0.6337097788448925,
        "y2": 0.6489980701022744,
        "E1": 0.17035855295957666,
        "E2": 0.014620830014373323,
        "E": 0.18497938297395,
        "dE/dw1": 0.004746395662335128,
        "dE/dw4": -2.9926773571149765e-05,
        "dE/dw5": 0.0729519972006264,
        "dE/dw6": 0.07056583591806004,
        "dE/dw7": -0.020973861950366927,
        "dE/dw8": -0.02028783525812679,
        "new_w5": 0.17927048002799373,
    }
    assert {name: by_name[name] for name in expected} == pytest.approx(expected, rel=1e-13)


def test_text(explained, article):
    text = ds.explain(
        article, X, TARGET, loss="half_squared_error", optimizer=ds.SGD(0.01)
    ).to_text()
    assert text == str(ds.explain(article, X, TARGET, loss="half_squared_error"))
    for part in (
        "  net_h1 = w1 * x1 + w2 * x2 + b1\n         = 0.1 * 0.95 + 0.15 * 0.06 + 0.05 = 0.154\n",
        "  dE/dh1 = delta_y1 * w5 + delta_y2 * w7\n",
        "dE/dy1 * dy1/dnet_y1 * dnet_y1/dw5\n              = 0.5837098 * 0.2321217 * 0.5384241",
        "new_w5 = w5 - step_w5\n          = 0.18 - 0.00072952 = 0.1792705\n",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) < 80


# ---- Any network ----


def network(output="identity", **options):
    return ds.Network(
        [3, 4, 2], **{"activation": "tanh", "dtype": "float64", **options}, output=output
    )


# Where a loss does not take just any numbers.
TARGETS = {"counts": [1.0, 3.0], "signs": [-1.0, 1.0], "indicators": [0.0, 1.0]}


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"shared_bias": True}])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_biases(loss, options, rng):
    kind = LOSSES[loss]
    net = network((*kind.outputs, "identity")[0], seed=5, **options)
    for layer in net.layers:
        if layer.bias is not None:
            layer.bias[:] = rng.normal(size=layer.bias.size)
    target = np.array(TARGETS.get(kind.targets, [0.25, 0.75]))
    x = rng.normal(size=3)
    if kind.outputs_per_target != 1:
        with pytest.raises(ValueError, match="a target for each output"):
            ds.explain(net, x, target, loss=loss)
        return
    explanation = ds.explain(net, x, target, loss=loss, optimizer=ds.SGD(0.1))
    with_formula = assert_each_line_holds(explanation, 1e-12)
    if loss in ("half_squared_error", "mse", "binary_cross_entropy", "cross_entropy"):
        assert with_formula == len(lines(explanation))
    assert explanation.errors.sum() == pytest.approx(explanation.error, rel=1e-12)
    row = explanation.layers[0].inputs.reshape(1, -1)
    assert explanation.error == net.evaluate(row, target.reshape(1, -1), loss=loss)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, rng):
    net = ds.Network([3, 5, 4, 2], activation=activation, dtype="float64", seed=3)
    x, target = rng.normal(size=3), rng.normal(size=2)
    explanation = ds.explain(net, x, target, full=True)
    np.testing.assert_array_equal(explanation.layers[-1].output, net.predict([x])[0])
    for here, following in zip(explanation.layers, explanation.layers[1:], strict=False):
        np.testing.assert_array_equal(here.output, following.inputs)
        np.testing.assert_allclose(here.d_output, following.weights @ following.delta, rtol=1e-12)
        if activation in _kernels.ROWWISE_ACTIVATIONS:
            assert here.derivative is None
        else:
            np.testing.assert_allclose(here.delta, here.d_output * here.derivative, rtol=1e-12)
    check = ds.check_gradients(net, [x], [target])
    gradients = [np.r_[here.d_weights.ravel(), here.d_bias] for here in explanation.layers]
    np.testing.assert_array_equal(np.concatenate(gradients), check.analytic)
    for here in explanation.layers:
        np.testing.assert_allclose(np.outer(here.inputs, here.delta), here.d_weights, rtol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_is_the_optimizers(name, rng):
    net = network(seed=1)
    before = net.parameters.copy()
    x, target = rng.normal(size=3), rng.normal(size=2)
    explanation = ds.explain(net, x, target, optimizer=name)
    np.testing.assert_array_equal(net.parameters, before)
    ds.Trainer(net, optimizer=name).step([x], [target])
    after = [np.r_[here.new_weights.ravel(), here.new_bias] for here in explanation.layers]
    np.testing.assert_array_equal(np.concatenate(after), net.parameters)
    assert_each_line_holds(explanation, 1e-12)


def test_class_labels(rng):
    net = network("softmax", seed=2)
    x = rng.normal(size=3)
    by_label = ds.explain(net, x, 1, loss="cross_entropy")
    by_row = ds.explain(net, [x], [0.0, 1.0], loss="cross_entropy")
    assert by_label.to_text() == by_row.to_text()
    np.testing.assert_allclose(by_label.layers[-1].delta, by_label.layers[-1].output - [0, 1])
    assert by_label.errors.tolist() == [0.0, by_label.error]


def test_float32_numbers_are_those_of_training(rng):
    net = network(dtype="float32", seed=2)
    explanation = ds.explain(net, rng.normal(size=3), [1.0, 2.0])
    for here in explanation.layers:
        assert {a.dtype for a in (here.net_input, here.output, here.delta)} == {net.dtype}
    row = explanation.layers[0].inputs.reshape(1, -1)
    np.testing.assert_array_equal(explanation.layers[-1].output, net.predict(row)[0])


# ---- Symbols ----


def test_symbols_by_layer_and_index(article):
    options = {"loss": "half_squared_error", "optimizer": ds.SGD(0.01)}
    numbered = ds.explain(article, X, TARGET, **options).to_dict()
    indexed = ds.explain(article, X, TARGET, **options, symbols="indexed").to_dict()
    pairs = {"w1": "W1[1,1]", "w2": "W1[2,1]", "w5": "W2[1,1]", "w7": "W2[1,2]"}
    for short, long in pairs.items():
        assert numbered["weights"][short] == indexed["weights"][long]
    assert numbered["units"]["h2"] == indexed["units"]["a1[2]"]
    assert numbered["biases"]["b2"] == indexed["biases"]["b2"]
    assert numbered["inputs"] == {"x1": 0.95, "x2": 0.06}
    assert indexed["targets"] == {"t[1]": 0.05, "t[2]": 0.82}


def test_names_are_unique(rng):
    for symbols in ("numbered", "indexed"):
        net = ds.Network([3, 4, 3, 2], seed=0)
        names = [line.name for line in lines(ds.explain(net, [1, 2, 3], [0, 1], symbols=symbols))]
        assert len(set(names)) == len(names)


def test_dictionary(explained):
    numbers = explained.to_dict()
    assert numbers["weights"]["w5"] == {
        "value": 0.18,
        "gradient": pytest.approx(0.0729519972006264),
        "step": pytest.approx(0.000729519972006264),
        "new_value": pytest.approx(0.17927048002799373),
    }
    assert set(numbers["units"]) == {"h1", "h2", "y1", "y2"}
    assert numbers["units"]["y1"]["delta"] == pytest.approx(0.13549171, rel=1e-6)
    assert (len(numbers["weights"]), len(numbers["biases"])) == (8, 2)


# ---- Other ways to write it ----


class Rows(HTMLParser):
    """The cells of the tables, and that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.rows[-1][-1] += data


def test_html(explained):
    parser = Rows()
    parser.feed(explained.to_html())
    assert not parser.open
    shown = {row[0]: row[1:] for row in parser.rows}
    assert len(shown) == len(lines(explained))
    assert shown["net_h1"][0] == "= w1 * x1 + w2 * x2 + b1"
    assert float(shown["new_w5"][2].removeprefix("= ")) == pytest.approx(0.17927048002799373)
    assert explained._repr_html_() == explained.to_html()


@pytest.mark.parametrize("symbols", ["numbered", "indexed"])
@pytest.mark.parametrize("full", [True, False])
def test_latex_can_be_typeset(article, symbols, full):
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    latex = ds.explain(article, X, TARGET, symbols=symbols, full=full).to_latex()
    equations = re.findall(r"\\begin\{align\*\}\n(.*?)\n\\end", latex, re.DOTALL)
    rows = [row for equation in equations for row in equation.split(" \\\\\n")]
    assert len(rows) > 10
    for row in rows:
        parser.parse(f"${row.replace('&', '')}$")
    if symbols == "numbered" and full:
        assert r"\frac{\partial E}{\partial w_{5}} & = " in latex
        assert r"e-0" not in latex


def test_large_networks_are_summed_up(rng):
    net = ds.Network([64, 32, 10], output="softmax", seed=0)
    explanation = ds.explain(net, rng.normal(size=64), 3, loss="cross_entropy")
    text = str(explanation)
    assert len(text.splitlines()) < 40
    assert "hidden layer (64 -> 32, relu)" in text
    assert len(explanation.to_dict()["weights"]) == 64 * 32 + 32 * 10
    assert len(str(ds.explain(net, np.ones(64), 3, loss="cross_entropy", full=True))) > 50_000


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"network": "net"}, TypeError, "Network"),
        ({"x": [1.0]}, ValueError, r"\(rows, 2\)"),
        ({"x": [X, X]}, ValueError, "one row"),
        ({"x": [np.nan, 1.0]}, ValueError, "finite"),
        ({"target": [1.0]}, ValueError, "target"),
        ({"target": "high"}, TypeError, "target"),
        ({"loss": "cross_entropy"}, ValueError, "softmax"),
        ({"optimizer": "newton"}, ValueError, "optimizer"),
        ({"symbols": "greek"}, ValueError, "numbered"),
        ({"digits": 0}, ValueError, "digits"),
    ],
)
def test_explain_refuses(arguments, error, words, article):
    with pytest.raises(error, match=words):
        ds.explain(**{"network": article, "x": X, "target": TARGET, **arguments})


def test_labels_out_of_range():
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        ds.explain(network("softmax"), [1, 2, 3], 2, loss="cross_entropy")


def test_a_step_is_only_called_rate_times_gradient_where_it_is(article):
    def step_line(optimizer):
        explained = ds.explain(article, X, TARGET, optimizer=optimizer)
        return {line.name: line for line in lines(explained)}["step_w5"]

    assert step_line(ds.SGD(0.01)).symbolic == "rate * dE/dw5"
    assert step_line(ds.SGD(0.01, momentum=0.9)).symbolic == "rate * dE/dw5"  # the first step is
    for other in (ds.SGD(0.01, momentum=0.9, nesterov=True), ds.Adam(0.01)):
        assert step_line(other).formula == ""


@pytest.mark.parametrize("loss", ["cross_entropy", ds.Loss("cross_entropy", label_smoothing=0.1)])
@pytest.mark.parametrize("output", ["softmax", "log_softmax"])
def test_formulas_are_only_written_where_they_hold(output, loss, rng):
    explanation = ds.explain(network(output, seed=2), rng.normal(size=3), 1, loss=loss)
    assert assert_each_line_holds(explanation, 1e-12)
    assert explanation.errors.sum() == pytest.approx(explanation.error)


def test_losses_that_are_not_explained(article):
    with pytest.raises(TypeError, match="of the package"):
        ds.explain(article, X, TARGET, loss=lambda outputs, targets: (outputs.sum(), outputs))
    quantiles = ds.Loss("quantile", levels=[0.1, 0.9])
    explanation = ds.explain(article, X, TARGET, loss=quantiles)
    assert explanation.errors is None
    assert assert_each_line_holds(explanation)


@pytest.mark.parametrize("options", [{"l1": 0.1}, {"l2": 0.1}, {"trainable": False}])
def test_layers_whose_gradient_is_not_the_losss_alone_are_refused(options):
    net = ds.Network(2, [ds.Dense(3, "tanh"), ds.Dense(1, **options)], seed=0)
    with pytest.raises(ValueError, match="layer 2 has a penalty or is frozen"):
        ds.explain(net, [1.0, 2.0], 0.5)
