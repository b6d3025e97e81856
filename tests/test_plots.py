"""The picture of a training run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from downslope.plots import plot_history


def axes():
    return Figure().subplots()


def history(loss, val_loss=()):
    return SimpleNamespace(loss=list(loss), val_loss=list(val_loss))


def test_both_losses_and_the_least_validation_loss():
    ax = plot_history(history([1.0, 0.5, 0.2, 0.1], [0.9, 0.6, 0.4, 0.45]), axes())
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(lines["training"].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(lines["training"].get_ydata(), [1.0, 0.5, 0.2, 0.1])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), [0.9, 0.6, 0.4, 0.45])
    best = lines["least validation loss: 0.4 at epoch 3"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, 0.4)
    assert ax.get_xlabel() == "epoch"
    assert len(ax.get_legend().get_texts()) == 3


def test_without_validation():
    ax = plot_history(history([1.0, 0.5]), axes())
    assert [line.get_label() for line in ax.lines] == ["training"]


@pytest.mark.parametrize(
    ("loss", "scale"), [([1.0, 0.5], "linear"), ([1.0, 0.01], "log"), ([1.0, 0.0], "linear")]
)
def test_scale(loss, scale):
    assert plot_history(history(loss), axes()).get_yscale() == scale


def test_new_figure_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    from matplotlib import pyplot

    ax = plot_history(history([1.0]))
    ax.figure.savefig(tmp_path / "loss.png")
    pyplot.close(ax.figure)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_no_epoch_is_refused():
    with pytest.raises(ValueError, match="no epoch yet"):
        plot_history(history([]), axes())
