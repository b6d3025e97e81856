"""What a training run leaves behind: a loss for each epoch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """The course of a training run.

    Attributes
    ----------
    loss : list of float
        Training loss of each epoch: the mean over its rows, each as it was met, before the update
        of its batch; with the penalties of the layers, if there are any.
    val_loss : list of float
        Validation loss at the end of each epoch, without penalties; empty without validation data.
    metrics : dict of str to list of float
        Each metric at the end of each epoch; on the validation data, with ``val_`` before its name.
    seconds : float
        Time spent on training and validation, callbacks not counted.

    Examples
    --------
    >>> import downslope as ds, numpy as np
    >>> net = ds.Network([1, 1], seed=0)
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = net.fit(x, 2 * x + 1, optimizer=ds.SGD(0.1), epochs=5)
    >>> history.epochs
    5
    >>> history.loss[-1] < history.loss[0]
    True
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    metrics: dict[str, list[float]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.loss)

    @property
    def best_epoch(self) -> int | None:
        """The epoch, from 0, with the least validation loss (training loss without validation);
        None if no loss is a number."""
        losses = self.val_loss or self.loss
        numbers = [epoch for epoch, loss in enumerate(losses) if not math.isnan(loss)]
        return min(numbers, key=losses.__getitem__, default=None)

    def append(self, logs: dict[str, float], seconds: float) -> None:
        """Add an epoch."""
        self.loss.append(logs["loss"])
        if "val_loss" in logs:
            self.val_loss.append(logs["val_loss"])
        for name in [name for name in logs if name not in ("loss", "val_loss")]:
            self.metrics.setdefault(name, []).append(logs[name])
        self.seconds += seconds

    def to_dict(self) -> dict[str, list[float]]:
        """Losses and metrics by name, a value for each epoch."""
        validation = {"val_loss": self.val_loss} if self.val_loss else {}
        return {
            name: list(values)
            for name, values in {"loss": self.loss, **validation, **self.metrics}.items()
        }

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row for each epoch; needs pandas (extra ``cli``).

        Returns
        -------
        pandas.DataFrame
            The columns of `to_dict`; the index is "epoch", from 0.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                'to_dataframe needs pandas: python -m pip install "downslope[cli]"'
            ) from error
        return pandas.DataFrame(self.to_dict()).rename_axis("epoch")

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a comma-separated file: a line for each epoch, its number from 0 first.

        The numbers read back as they were.

        Parameters
        ----------
        path : path
            A file that is there is replaced.
        """
        import csv  # takes time to import

        columns = self.to_dict()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *columns])
            writer.writerows(
                [epoch, *row] for epoch, row in enumerate(zip(*columns.values(), strict=True))
            )

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the epochs; needs matplotlib (extra ``plots``).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib Axes
        """
        from downslope.plots import plot_history

        return plot_history(self, ax)

    def __repr__(self) -> str:
        parts = [f"epochs={self.epochs}"]
        if self.loss:
            parts.append(f"loss={self.loss[-1]:.6g}")
        if self.val_loss:
            parts.append(f"val_loss={self.val_loss[-1]:.6g}, best_epoch={self.best_epoch}")
        return f"History({', '.join(parts)})"
