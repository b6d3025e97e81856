"""`downslope train`: a network for one column of a CSV table."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import downslope as ds
from downslope._split import stratified_split
from downslope.cli.console import (
    PREPROCESSING,
    TrainingDisplay,
    check_output,
    describe_epochs,
    describe_network,
    saved_if_interrupted,
    say,
    say_where,
    show_values,
)
from downslope.tabular import (
    TablePreprocessor,
    Task,
    check_target,
    infer_task,
    read_table,
    useless_columns,
)


def run(arguments: Namespace) -> None:
    check_output(arguments.output, arguments.table)
    table = read_table(arguments.table)
    check_target(table, arguments.target)
    task = _choose_task(arguments, table)
    # A count of the rows is no longer one after the split: look for it in the whole table.
    left_out = useless_columns(table, arguments.target)
    training, validation = _split(table.drop(columns=list(left_out)), task, arguments)
    preprocessor = TablePreprocessor(arguments.target, task).fit(training)
    for name, reason in (left_out | preprocessor.left_out).items():
        say(f"column {name!r} is left out: {reason}")
    for remark in preprocessor.remarks(table):
        say(remark)
    network = _network(preprocessor, arguments)
    history = _fit(network, preprocessor, training, validation, arguments)
    _save(network, preprocessor, arguments.output)
    show_values(
        f"Trained on {arguments.table}",
        {
            "rows": f"{len(training):,} training, {len(validation):,} validation",
            "inputs": f"{len(preprocessor.columns)} columns, {network.inputs} features",
            "network": describe_network(network),
            "epochs": describe_epochs(history),
            "time": f"{history.seconds:.3f} s "
            f"({history.epochs * len(training) / history.seconds:,.0f} samples/s)",
            **_scores(network, preprocessor, training, validation),
        },
    )


def score(task: Task, predicted: NDArray[Any], truth: NDArray[Any]) -> str:
    """Accuracy; or root mean squared error, in the target's unit, and R2."""
    if task == "classification":
        return f"accuracy {np.mean(predicted == truth):.4f}"
    unit = np.abs(truth).max() or 1.0  # in which no square overflows or vanishes
    residual = np.mean((predicted / unit - truth / unit) ** 2)
    spread = np.var(truth / unit)
    r2 = f", R2 {1.0 - residual / spread:.4f}" if spread > 0.0 else ""
    return f"RMSE {unit * np.sqrt(residual):.4g}{r2}"


def _choose_task(arguments: Namespace, table: pd.DataFrame) -> Task:
    task, reason = infer_task(table[arguments.target])
    if arguments.task not in ("auto", task):
        task, reason = arguments.task, "as asked"
    say(f"Task: {task} of {arguments.target!r} ({reason})")
    return task


def _split(
    table: pd.DataFrame, task: Task, arguments: Namespace
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and validation rows; for classification each class gives its share."""
    classes = pd.factorize(table[arguments.target])[0]
    strata = classes if task == "classification" else np.zeros(len(table))
    kept, held_out = stratified_split(strata, arguments.validation_fraction, seed=arguments.seed)
    if not len(held_out):
        raise ValueError(
            f"no row is left for validation: {len(table)} rows are too few, or "
            f"--validation-fraction {arguments.validation_fraction} is too small"
        )
    return table.iloc[kept], table.iloc[held_out]


def _network(preprocessor: TablePreprocessor, arguments: Namespace) -> ds.Network:
    return ds.Network(
        [len(preprocessor.features), *arguments.hidden, preprocessor.target.outputs],
        activation=arguments.activation,
        output="softmax" if preprocessor.task == "classification" else "identity",
        dtype=arguments.dtype,
        seed=arguments.seed,
    )


def _fit(
    network: ds.Network,
    preprocessor: TablePreprocessor,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    arguments: Namespace,
) -> ds.History:
    """Train until the validation loss rises; Ctrl-C leaves a model of the weights so far."""
    stopping = ds.EarlyStopping(patience=arguments.patience, restore_best_weights=True)
    with (
        saved_if_interrupted(lambda: _save(network, preprocessor, arguments.output)),
        TrainingDisplay(len(training), arguments.epochs) as display,
    ):
        return network.fit(
            *_encoded(preprocessor, training),
            loss="cross_entropy" if preprocessor.task == "classification" else "mse",
            optimizer=_optimizer(arguments),
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            validation_data=_encoded(preprocessor, validation),
            callbacks=[display, stopping],
            threads=arguments.threads,
        )


def _encoded(
    preprocessor: TablePreprocessor, table: pd.DataFrame
) -> tuple[NDArray[Any], NDArray[Any]]:
    return preprocessor.transform(table), preprocessor.transform_target(table)


def _optimizer(arguments: Namespace) -> ds.Optimizer:
    rate = arguments.learning_rate
    if arguments.optimizer == "adam":
        return ds.Adam(rate)
    momentum = 0.0 if arguments.optimizer == "sgd" else 0.9
    return ds.SGD(rate, momentum=momentum, nesterov=arguments.optimizer == "nesterov")


def _save(network: ds.Network, preprocessor: TablePreprocessor, path: Path) -> None:
    network.save(path, metadata={PREPROCESSING: json.dumps(preprocessor.to_dict())})
    say_where("Model", path)


def _scores(
    network: ds.Network,
    preprocessor: TablePreprocessor,
    training: pd.DataFrame,
    validation: pd.DataFrame,
) -> dict[str, str]:
    """The network's score on the validation rows, beside that of a constant guess."""
    expected = preprocessor.target_values(validation)
    outputs = network.predict(preprocessor.transform(validation))
    known = pd.Series(preprocessor.target_values(training))
    if preprocessor.task == "classification":
        name, guess = "always the commonest class", known.mode()[0]
    else:
        name, guess = "always the mean", known.mean()
    constant = np.full(len(expected), guess, dtype=expected.dtype)
    return {
        "validation": score(preprocessor.task, preprocessor.inverse_target(outputs), expected),
        name: score(preprocessor.task, constant, expected),
    }
