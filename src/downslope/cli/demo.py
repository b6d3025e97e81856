"""`downslope demo`: a classifier of handwritten digits, and its time beside NumPy's."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from matplotlib.figure import Figure

import downslope as ds
from downslope.cli.comparison import Recipe, accuracy_on, compare_with_numpy
from downslope.cli.console import (
    TrainingDisplay,
    describe_epochs,
    describe_network,
    saved_if_interrupted,
    say,
    say_where,
    show_values,
)
from downslope.digits import Digits, split_digits
from downslope.plots import plot_history

RECIPE = Recipe(widths=(64, 128, 10), activation="relu", optimizer=ds.Adam(0.001), batch_size=32)
# Epochs without a lower validation loss before training stops.
PATIENCE = 30


def run(arguments: Namespace) -> None:
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    model = arguments.output_dir / "digits.safetensors"
    digits = split_digits()
    network = RECIPE.network(arguments.seed)
    say(f"Handwritten digits: {', '.join(_sizes(digits))} images of 8 x 8 pixels.")
    say(f"Network: {describe_network(network)}")
    with saved_if_interrupted(lambda: _save_model(network, model)):
        history = _train(network, digits, arguments)
    _show_summary(network, digits, history, arguments.threads)
    _save_model(network, model)
    _save_picture(history, arguments.output_dir / "digits-loss.png")
    if not arguments.no_baseline:
        compare_with_numpy(
            RECIPE,
            digits.training,
            digits.test,
            epochs=history.epochs,
            seed=arguments.seed,
            threads=arguments.threads,
        )


def _sizes(digits: Digits) -> list[str]:
    return [f"{len(part.labels):,} {name}" for name, part in digits._asdict().items()]


def _train(network: ds.Network, digits: Digits, arguments: Namespace) -> ds.History:
    """Train until the validation loss has risen for a while; back to where it was least."""
    with TrainingDisplay(len(digits.training.labels), arguments.epochs) as display:
        return RECIPE.fit(
            network,
            digits.training,
            epochs=arguments.epochs,
            threads=arguments.threads,
            validation_data=digits.validation,
            callbacks=[display, ds.EarlyStopping(patience=PATIENCE, restore_best_weights=True)],
        )


def _show_summary(network: ds.Network, digits: Digits, history: ds.History, threads: int) -> None:
    samples = history.epochs * len(digits.training.labels)
    accuracies = {
        f"{name} accuracy": f"{accuracy_on(part, network):.4f}"
        for name, part in digits._asdict().items()
    }
    show_values(
        "Trained",
        {
            "epochs": describe_epochs(history),
            "time": f"{history.seconds:.3f} s, training and validation",
            "samples per second": f"{samples / history.seconds:,.0f}",
            **accuracies,
            "instruction set": ds.config()["isa"],
            "threads": threads,
        },
    )


def _save_model(network: ds.Network, path: Path) -> None:
    network.save(path, metadata={"data": "UCI handwritten digits, pixels scaled to [0, 1]"})
    say_where("Model", path)


def _save_picture(history: ds.History, path: Path) -> None:
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    ax = plot_history(history, figure.subplots())
    ax.set_title("Handwritten digits: cross-entropy")
    figure.savefig(path, dpi=150)
    say_where("Loss curve", path)
