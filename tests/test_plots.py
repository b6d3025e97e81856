"""The pictures: each shows the numbers it is about.  What they look like was looked at."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.figure import Figure

import downslope as ds
from downslope import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def axes():
    return Figure().subplots()


def named_lines(ax):
    return {line.get_label(): line for line in ax.lines}


def texts(ax):
    return [text.get_text() for text in ax.texts]


# ---- Losses over the epochs ----


def history(loss, val_loss=()):
    return SimpleNamespace(loss=list(loss), val_loss=list(val_loss))


def test_both_losses_and_the_least_validation_loss():
    ax = plots.plot_history(history([1.0, 0.5, 0.2, 0.1], [0.9, 0.6, 0.4, 0.45]), axes())
    lines = named_lines(ax)
    np.testing.assert_array_equal(lines["training"].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(lines["training"].get_ydata(), [1.0, 0.5, 0.2, 0.1])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), [0.9, 0.6, 0.4, 0.45])
    best = lines["least validation loss: 0.4 at epoch 3"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, 0.4)
    assert ax.get_xlabel() == "epoch"
    assert len(ax.get_legend().get_texts()) == 3


def test_without_validation():
    ax = plots.plot_history(history([1.0, 0.5]), axes())
    assert [line.get_label() for line in ax.lines] == ["training"]


@pytest.mark.parametrize(
    ("loss", "scale"), [([1.0, 0.5], "linear"), ([1.0, 0.01], "log"), ([1.0, 0.0], "linear")]
)
def test_scale(loss, scale):
    assert plots.plot_history(history(loss), axes()).get_yscale() == scale


def test_new_figure_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    ax = plots.plot_history(history([1.0]))
    ax.figure.savefig(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_no_epoch_is_refused():
    with pytest.raises(ValueError, match="no epoch yet"):
        plots.plot_history(history([]), axes())


# ---- Descent ----


def parabola(x):
    return x * x


def bowl(p):
    return p[0] ** 2 + 4 * p[1] ** 2


def test_steps_on_a_curve():
    result = ds.minimize(parabola, 2.0, optimizer=ds.SGD(0.2), steps=4)
    given = axes()
    ax = plots.plot_descent(parabola, result, given, xlim=(-3, 3))
    assert ax is given
    curve, points, start, end = ax.lines
    np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata() ** 2)
    np.testing.assert_array_equal(points.get_xdata(), result.path)
    np.testing.assert_array_equal(points.get_ydata(), result.values)
    assert (start.get_xdata()[0], end.get_xdata()[0]) == (2.0, result.x)
    assert ax.get_xlim() == (-3, 3)
    with pytest.raises(ValueError, match="1 variable; the result is of one of 2"):
        plots.plot_descent(bowl, ds.minimize(bowl, [1.0, 1.0], steps=1), axes())


def test_learning_rates_side_by_side():
    small, right, large = plots.plot_learning_rates(parabola, -2.0, [0.01, 0.5, 1.1], steps=10)
    assert small.get_title() == "learning rate 0.01\nf(x) = 2.67 after 10 steps"
    assert right.get_title() == "learning rate 0.5\narrived after 1 steps"
    assert "diverges" in large.get_title()
    assert small.get_xlim() == right.get_xlim() == large.get_xlim()
    with pytest.raises(ValueError, match="empty"):
        plots.plot_learning_rates(parabola, 1.0, [])


@pytest.mark.parametrize("draw", [plots.plot_contour, plots.plot_surface])
def test_paths_on_one_valley(draw):
    results = {
        "descent": ds.minimize(bowl, [-2.0, 1.0], optimizer=ds.SGD(0.1), steps=10),
        "momentum": ds.minimize(bowl, [-2.0, 1.0], optimizer=ds.SGD(0.1, momentum=0.5), steps=10),
        "Adam": ds.minimize(bowl, [-2.0, 1.0], optimizer=ds.Adam(0.2), steps=10),
        "walker": ds.random_search(bowl, [-2.0, 1.0], steps=10),
    }
    ax = draw(bowl, results)
    ax.figure.draw_without_rendering()
    lines = named_lines(ax)
    for name, result in results.items():
        data = lines[name].get_data_3d() if ax.name == "3d" else lines[name].get_data()
        np.testing.assert_array_equal(np.transpose(data)[:, :2], result.path)
    assert len({lines[name].get_color() for name in results}) == 4
    assert len({lines[name].get_linestyle() for name in results}) == 4
    with pytest.raises(ValueError, match="2 variables"):
        draw(parabola, ds.minimize(parabola, 1.0, steps=1))
    with pytest.raises(ValueError, match="no result"):
        draw(bowl, {})
    assert draw(lambda p: 1.0, results["walker"]).get_legend() is None


def test_a_surface_needs_depth():
    with pytest.raises(ValueError, match='projection="3d"'):
        plots.plot_surface(bowl, ds.minimize(bowl, [1.0, 1.0], steps=1), axes())


# ---- Networks ----


X, T = [[0.95, 0.06]], [[0.05, 0.82]]


def test_the_error_over_one_weight(article):
    ax = plots.plot_weight(
        article, X, T, (1, 0, 0), axes(), loss="half_squared_error", learning_rate=2.0
    )
    trainer = ds.Trainer(article, "half_squared_error")
    error = trainer.compute_gradients(X, T)
    slope = article.gradients[5]
    curve, tangent, here, after = ax.lines
    np.testing.assert_allclose(
        np.interp(0.18, curve.get_xdata(), curve.get_ydata()), error, rtol=1e-4
    )
    np.testing.assert_allclose(np.diff(tangent.get_ydata()) / np.diff(tangent.get_xdata()), slope)
    assert here.get_xydata().tolist() == [[0.18, error]]
    assert after.get_xdata()[0] == 0.18 - 2.0 * slope
    assert after.get_ydata()[0] < error
    for weight in ((2, 0, 0), (1, 2, 0), (1, 0, 2)):
        with pytest.raises(ValueError, match="there is no"):
            plots.plot_weight(article, X, T, weight, axes())


def test_the_diagram_holds_the_values(article):
    explanation = ds.explain(article, X[0], T[0], loss="half_squared_error")
    ax = plots.plot_network(explanation)
    shown = texts(ax)
    numbers = explanation.to_dict()
    for name, unit in numbers["units"].items():
        assert f"{name}\n{unit['output']:.4g}" in shown
    for weight in numbers["weights"].values():
        assert f"{weight['value']:.4g}\n({weight['gradient']:+.3g})" in shown
    assert f"target 0.05\nerror {numbers['errors']['E1']:.4g}" in shown
    widths = [line.get_linewidth() for line in ax.lines]
    gradients = [w["gradient"] for w in numbers["weights"].values()]
    assert len(widths) == 8
    assert max(widths) == pytest.approx(6.0)
    assert sorted(np.argsort(np.abs(gradients))[-2:].tolist()) == [4, 5]
    colours = {line.get_color() for line in ax.lines}
    assert len(colours) == 2


def test_what_a_diagram_has_no_room_for():
    wide = ds.explain(ds.Network([30, 1], seed=0), np.ones(30), 1.0)
    with pytest.raises(ValueError, match="20 units"):
        plots.plot_network(wide, axes())
    with pytest.raises(TypeError, match=r"downslope\.explain"):
        plots.plot_network(ds.Network([2, 1]), axes())


def test_activations_and_their_derivatives():
    [ax] = plots.plot_activations("tanh", span=2.0)
    function, derivative = ax.lines
    z = function.get_xdata()
    assert (z[0], z[-1]) == (-2.0, 2.0)
    np.testing.assert_allclose(function.get_ydata(), np.tanh(z), rtol=1e-14)
    np.testing.assert_allclose(derivative.get_ydata(), 1 - np.tanh(z) ** 2, rtol=1e-13)
    every = [ax.get_title().partition("(")[0] for ax in plots.plot_activations()]
    assert {"sigmoid", "relu", "elu"} < set(every)
    assert "softmax" not in every
    with pytest.raises(ValueError, match="softmax"):
        plots.plot_activations(["relu", "softmax"])


def classes(rng, rows=80):
    x = rng.normal(size=(rows, 2))
    return x, (x[:, 0] > 0).astype(int)


def test_the_boundary_is_where_the_class_changes(rng):
    x, y = classes(rng)
    net = ds.Network([2, 2], output="softmax", weights=[[[-5.0, 5.0], [0.0, 0.0]]])
    for network in (net, ds.Network([2, 1], output="sigmoid", weights=[[[10.0], [0.0]]])):
        ax = plots.plot_boundary(network, x, y, axes())
        [image] = ax.images
        red, _, blue = image.get_array().mean(axis=0).T
        low, high, *_ = image.get_extent()
        left = np.linspace(low, high, len(red)) < 0
        assert (red < blue)[left].all()
        assert (red > blue)[~left].all()
        assert sum(len(points.get_offsets()) for points in ax.collections[-2:]) == 80
    with pytest.raises(ValueError, match="two inputs"):
        plots.plot_boundary(ds.Network([3, 2]), x, y, axes())
    with pytest.raises(ValueError, match="class labels"):
        plots.plot_boundary(net, x, y[:-1], axes())


def test_boundaries_over_training(rng, tmp_path):
    x, y = classes(rng)
    net = ds.Network([2, 4, 2], output="softmax", seed=0)
    before = net.parameters.copy()
    panels = plots.plot_boundaries(net, x, y, epochs=(0, 1, 5))
    assert [ax.get_title() for ax in panels] == ["0 epochs", "1 epoch", "5 epochs"]
    np.testing.assert_array_equal(net.parameters, before)
    trained = ds.Network([2, 4, 2], output="softmax", seed=0)
    trained.fit(x, y, loss="cross_entropy", epochs=5)
    last = plots.plot_boundary(trained, x, y, axes()).images[0].get_array()
    np.testing.assert_array_equal(panels[2].images[0].get_array(), last)
    film = plots.animate_boundary(net, x, y, epochs=(0, 5))
    film.save(tmp_path / "film.gif", writer="pillow", dpi=30)
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF8")
    for epochs in ((), (3, 1), (1, 1)):
        with pytest.raises(ValueError, match="ascending"):
            plots.plot_boundaries(net, x, y, epochs=epochs)


def test_the_loss_landscape(rng):
    x = rng.normal(size=(40, 3))
    net = ds.Network([3, 1], dtype="float64", weights=[[[1.0], [2.0], [-2.0]]])
    y = net.predict(x)
    ax = plots.plot_loss_landscape(net, x, y, axes(), resolution=5, span=0.5)
    assert ax.lines[0].get_xydata().tolist() == [[0, 0]]
    levels = ax.collections[0].levels
    assert levels[0] == 0.0  # the network fits exactly: nothing around it is lower
    assert levels[-1] > 0.1
    np.testing.assert_array_equal(net.parameters, [1.0, 2.0, -2.0, 0.0])


def test_directions_are_as_long_as_the_weights(rng):
    from downslope.plots.networks import _directions

    net = ds.Network([3, 4, 2], seed=0, dtype="float64")
    probe = ds.Network([3, 4, 2], dtype="float64")
    for direction in _directions(net, rng):
        probe.parameters[...] = direction
        for layer, drawn in zip(net.layers, probe.layers, strict=True):
            lengths = np.linalg.norm(layer.weights, axis=0)
            np.testing.assert_allclose(np.linalg.norm(drawn.weights, axis=0), lengths)
            assert (drawn.bias == 0).all()
