"""`downslope predict`: a saved model's predictions for the rows of a CSV table."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

import downslope as ds
from downslope.cli.console import PREPROCESSING, check_output, errors, say, say_where
from downslope.cli.train import score
from downslope.tabular import ClassTarget, NumericTarget, TablePreprocessor, read_table


def run(arguments: Namespace) -> None:
    if arguments.output is not None:
        check_output(arguments.output, arguments.model, arguments.table)
    network = ds.load(arguments.model)
    preprocessor = saved_preprocessor(network, arguments.model)
    table = read_table(arguments.table, preprocessor.text_columns)
    for remark in preprocessor.remarks(table):
        say(remark, errors)
    if unused := preprocessor.unused(table):
        say(f"columns that the model does not use: {', '.join(unused)}", errors)
    outputs = network.predict(preprocessor.transform(table))
    name = f"predicted_{preprocessor.target.name}"
    predictions = pd.DataFrame({name: preprocessor.inverse_target(outputs)})
    if arguments.probabilities:
        predictions = predictions.join(_probabilities(preprocessor.target, outputs))
    number = f"%.{preprocessor.target.digits}g"
    predictions.to_csv(arguments.output or sys.stdout, index=False, float_format=number)
    if arguments.output is not None:
        say_where(f"Predictions of {len(predictions):,} rows", arguments.output)
    _report_score(preprocessor, table, outputs)


def saved_preprocessor(network: ds.Network, path: Path) -> TablePreprocessor:
    """The preprocessing that `downslope train` saved with the model."""
    if PREPROCESSING not in network.metadata:
        raise ValueError(f"{path} holds no preprocessing: it was not saved by downslope train")
    try:
        preprocessor = TablePreprocessor.from_dict(json.loads(network.metadata[PREPROCESSING]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its preprocessing is damaged ({error!r})") from error
    if len(preprocessor.features) != network.inputs:
        raise ValueError(
            f"{path}: its preprocessing makes {len(preprocessor.features)} features, "
            f"the network takes {network.inputs}"
        )
    return preprocessor


def _probabilities(target: ClassTarget | NumericTarget, outputs: NDArray[Any]) -> pd.DataFrame:
    """A column for each class."""
    if not target.classes:
        raise ValueError(f"--probabilities: {target.name!r} is a number, not a class")
    return pd.DataFrame(outputs, columns=[f"probability_{label}" for label in target.classes])


def _report_score(
    preprocessor: TablePreprocessor, table: pd.DataFrame, outputs: NDArray[Any]
) -> None:
    """Compare with the target where the table has it."""
    name = preprocessor.target.name
    if name not in table:
        return
    known = table[name].notna().to_numpy()
    if not known.any():
        return
    expected = preprocessor.target_values(table[known])
    result = score(preprocessor.task, preprocessor.inverse_target(outputs[known]), expected)
    say(f"Compared with {name!r} in the table ({known.sum():,} rows): {result}", errors)
