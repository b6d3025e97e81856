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
from downslope.cli.console import PREPROCESSING, check_output, errors, say
from downslope.cli.train import score, truth
from downslope.tabular import TablePreprocessor, read_table


def run(arguments: Namespace) -> None:
    if arguments.output is not None:
        check_output(arguments.output, arguments.model, arguments.table)
    network = ds.load(arguments.model)
    preprocessor = saved_preprocessor(network, arguments.model)
    if arguments.probabilities and preprocessor.task != "classification":
        raise ValueError(f"--probabilities: {arguments.model} is a model for regression")
    table = read_table(arguments.table, preprocessor.text_columns)
    for remark in preprocessor.remarks(table):
        say(remark, errors)
    if unused := preprocessor.unused(table):
        say(f"columns that the model does not use: {', '.join(unused)}", errors)
    outputs = network.predict(preprocessor.transform(table))
    predictions = _predictions(preprocessor, outputs, arguments.probabilities)
    predictions.to_csv(arguments.output or sys.stdout, index=False, float_format="%.7g")
    if arguments.output is not None:
        say(f"Predictions: {arguments.output} ({len(predictions):,} rows)")
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


def _predictions(
    preprocessor: TablePreprocessor, outputs: NDArray[Any], probabilities: bool
) -> pd.DataFrame:
    target = preprocessor.target
    columns = {f"predicted_{target.name}": preprocessor.inverse_target(outputs)}
    if probabilities:
        for label, column in zip(target.classes, outputs.T, strict=True):
            columns[f"probability_{label}"] = column
    return pd.DataFrame(columns)


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
    expected = truth(preprocessor, table[known])
    result = score(preprocessor.task, preprocessor.inverse_target(outputs[known]), expected)
    say(f"Compared with {name!r} in the table ({known.sum():,} rows): {result}", errors)
